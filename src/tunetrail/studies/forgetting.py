"""What the trials of a study forgot, beside their scores: a table, a figure, a sentence."""

from collections.abc import Mapping, Sequence

import optuna
import pandas as pd
from matplotlib.figure import Figure

from tunetrail.data.columns import count_of
from tunetrail.evaluation.forgetting.report import LEAST
from tunetrail.studies.costs import label_trials, list_beside, plot_beside
from tunetrail.templates import short
from tunetrail.tracking.run_log import RunSummary

FORGOTTEN = "forgotten"
_CERTAIN = "certainly forgotten"
# Metric of a run -> how it is named in the table.
_METRICS = {"forgetting/forgotten": FORGOTTEN, "forgetting/forgotten_low": _CERTAIN}


def list_forgotten(
    study: optuna.Study,
    objectives: Sequence[str],
    runs: Mapping[int, Sequence[RunSummary]],
    *,
    main_metric: str,
) -> pd.DataFrame:
    """List the complete trials, the best first, with what they forgot, if that differs.

    ``forgotten`` is the rise of the cost of the reference: nats a token, or accuracy of a probe.
    ``certainly forgotten`` is the lower end of its 95 % interval. Trials that were measured in
    another way than the best are left out: their numbers do not compare.

    Args:
        objectives: names of the study's values, in order.
        runs: number of a trial -> its finished runs.

    """
    table = list_beside(study, objectives, _of_one_measure(runs), _METRICS, main_metric=main_metric)
    return table if len({*table.get(FORGOTTEN, ())}) > 1 else table.iloc[:0]


def plot_forgotten(
    table: pd.DataFrame, objective: str, *, baselines: Mapping[str, float]
) -> Figure:
    """Draw the score that was gained against what was forgotten, with what each trial is."""
    figure = plot_beside(
        table, [FORGOTTEN], objective, baselines=baselines, against="what was forgotten"
    )
    figure.axes[0].set_xlabel(f"{FORGOTTEN} (nats a token, or accuracy of a probe)")
    return figure


def describe_forgotten(table: pd.DataFrame, objective: str) -> str:
    """Say how many trials forgot, and what it costs to forget less; nothing of an empty table."""
    if not len(table):
        return ""
    # A row of numbers is one of floats.
    names, best = label_trials(table), table.iloc[0]
    forgot = (table[_CERTAIN] > 0) & (table[FORGOTTEN] >= LEAST)
    said = (
        f"{int(forgot.sum())} of {count_of(len(table), 'trial')} forgot more than noise. The best, "
        f"trial {int(best['trial'])} ({names[0]}), has {objective} "
        f"{short(float(best[objective]))} and forgot {best[FORGOTTEN]:+.3f}"
    )
    if not forgot.iloc[0]:
        return f"{said}, which is no more than noise."
    kept = table.index[~forgot]
    if not len(kept):
        place = int(table[FORGOTTEN].to_numpy().argmin())
        less = table.iloc[place]
        if place == 0:
            return f"{said}, the least of all."
        return (
            f"{said}; the least, trial {int(less['trial'])} ({names[place]}), forgot "
            f"{less[FORGOTTEN]:+.3f} and has {short(float(less[objective]))}."
        )
    place = table.index.get_loc(kept[0])
    less = table.loc[kept[0]]
    return (
        f"{said}; the best that forgot nothing beyond noise, trial {int(less['trial'])} "
        f"({names[place]}), has {short(float(less[objective]))}."
    )


def _of_one_measure(runs: Mapping[int, Sequence[RunSummary]]) -> dict[int, Sequence[RunSummary]]:
    """Keep the runs with the measure that most have."""
    counts: dict[str, int] = {}
    for run in (run for found in runs.values() for run in found):
        for name in _measures(run):
            counts[name] = counts.get(name, 0) + 1
    if not counts:
        return {}
    most = max(counts, key=lambda name: counts[name])
    return {
        number: found
        for number, found in runs.items()
        if found and all(most in _measures(run) for run in found)
    }


def _measures(run: RunSummary) -> list[str]:
    """Name what was measured before training, such as ``forgetting/perplexity_before``."""
    return [
        name for name in run.metrics if name.startswith("forgetting/") and name.endswith("_before")
    ]
