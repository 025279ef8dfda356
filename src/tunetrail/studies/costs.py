"""What the trials of a study cost, beside their scores: a table and a figure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optuna
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.study import StudyDirection

from hydra_plugins.optuna_study import attributes
from tunetrail.studies.curves import LINE, MARK, spread_axis
from tunetrail.studies.naming import name_points
from tunetrail.studies.ranking import rank
from tunetrail.studies.states import number_of
from tunetrail.templates.names import describe_params
from tunetrail.tracking.run_log import RunSummary

WEIGHTS, SECONDS = "trainable parameters", "seconds"
_ABOVE, _ERROR = "best/above_baseline", "best/standard_error"
# Standard errors to each side that hold 95 % of a normal distribution.
_HALF = 1.96
# Trials that are named in the figure; more names would lie over each other.
_MOST_NAMED = 20
# Metric of a run -> how it is named in the table.
_COSTS = {"model/trainable_parameters": WEIGHTS, "speed/seconds": SECONDS}


def list_costs(
    study: optuna.Study,
    objectives: Sequence[str],
    runs: Mapping[int, Sequence[RunSummary]],
    *,
    main_metric: str,
) -> pd.DataFrame:
    """List the complete trials, the best first, if they differ in how many weights they train.

    Arguments as those of :func:`list_beside`.
    """
    table = list_beside(study, objectives, runs, _COSTS, main_metric=main_metric)
    if len({*table.get(WEIGHTS, ())}) < 2:
        return table.iloc[:0]
    table[WEIGHTS] = table[WEIGHTS].round().astype("int64")
    return table


def list_beside(
    study: optuna.Study,
    objectives: Sequence[str],
    runs: Mapping[int, Sequence[RunSummary]],
    metrics: Mapping[str, str],
    *,
    main_metric: str,
) -> pd.DataFrame:
    """List the complete trials that have some metrics, the best first, with them beside the scores.

    They are means over the runs of a trial. Beside a score stands its sample standard deviation
    over the runs; of a single run, half of the 95 % interval of the main metric over rows.

    Args:
        objectives: names of the study's values, in order.
        runs: number of a trial -> its finished runs.
        metrics: metric of a run -> how it is named in the table.

    """
    names, main = list(objectives), f"validation/{main_metric}"
    measured = [
        (trial, pd.DataFrame([run.metrics for run in runs.get(trial.number, ())]))
        for trial in rank(study)
    ]
    measured = [(t, costs) for t, costs in measured if {*metrics, _ERROR} <= {*costs.columns}]
    columns = _name_columns(attributes.params_of(trial) for trial, _ in measured)
    lines = []
    for trial, costs in measured:
        repeats = pd.DataFrame(
            trial.user_attrs.get(attributes.REPEATS) or [trial.values],  # noqa: PD011 - no pandas
            columns=names,
        )
        spread = dict(repeats.std().add_prefix("± "))
        if len(repeats) == 1:
            spread = {f"± {main}": _HALF * float(costs[_ERROR].mean())} if main in names else {}
        lines.append(
            {
                "trial": number_of(trial),
                **{name: attributes.params_of(trial).get(key) for key, name in columns.items()},
                "runs": len(repeats),
                **repeats.mean(),
                **spread,
                **costs[[*metrics]].mean().rename(dict(metrics)),
            }
        )
    return pd.DataFrame(lines)


def _name_columns(params: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Name the column of each key by its last part, if no other key has the same."""
    # A reference has keys that no other trial has.
    lasts = {key: key.rpartition(".")[2] for of_trial in params for key in of_trial}
    counts = Counter(lasts.values())
    return {key: last if counts[last] == 1 else key for key, last in lasts.items()}


def find_baselines(
    study: optuna.Study,
    objectives: Sequence[str],
    runs: Mapping[int, Sequence[RunSummary]],
    *,
    main_metric: str,
) -> dict[str, float]:
    """Find the baseline of the objective that has one, if it is the same for all runs.

    A run logs how far its best weights are above its baseline, for the main metric of the task.
    """
    name = f"validation/{main_metric}"
    if name not in objectives:
        return {}
    maximize = study.directions[objectives.index(name)] is StudyDirection.MAXIMIZE
    values = {
        round(metrics[f"best/{name}"] - (1 if maximize else -1) * metrics[_ABOVE], 9)
        for summaries in runs.values()
        for metrics in (run.metrics for run in summaries)
        if {_ABOVE, f"best/{name}"} <= metrics.keys()
    }
    return {name: values.pop()} if len(values) == 1 else {}


def plot_costs(table: pd.DataFrame, objective: str, *, baselines: Mapping[str, float]) -> Figure:
    """Draw score against trained weights, and against seconds, with what each trial is.

    Args:
        table: as :func:`list_costs` gives it.
        objective: a column of it.
        baselines: of objectives, drawn as a line; may be empty.

    """
    columns = [WEIGHTS, SECONDS]
    return plot_beside(table, columns, objective, baselines=baselines, against="what it costs")


def plot_beside(
    table: pd.DataFrame,
    columns: Sequence[str],
    objective: str,
    *,
    baselines: Mapping[str, float],
    against: str,
) -> Figure:
    """Draw score against some columns of :func:`list_beside`, an axis each.

    Args:
        against: what the columns are, for the title.

    """
    figure = Figure(figsize=(5.5 * len(columns), 4.6), layout="constrained")
    (row,) = figure.subplots(1, len(columns), sharey=True, squeeze=False)
    for axes, cost in zip(row, columns, strict=True):
        _plot_cost(axes, table, cost, objective)
        if objective in baselines:
            axes.axhline(baselines[objective], color=MARK, linestyle=":", label="baseline")
            axes.legend(frameon=False, fontsize="small", loc="lower right")
    row[0].set_ylabel(objective)
    seeds = int(table["runs"].max())
    bars = f"standard deviation over {seeds} seeds" if seeds > 1 else "95 % interval over rows"
    figure.suptitle(f"{objective} against {against}\n(bars: {bars})", fontsize="medium")
    names = label_trials(table)
    for axes, cost in zip(row, columns, strict=True):
        # The best come first.
        name_points(axes, table[cost], table[objective], names, most=_MOST_NAMED)
    return figure


def label_trials(table: pd.DataFrame) -> list[str]:
    """Return what tells each trial of a table from the others: ``lr 2.3e-4, bs 16``."""
    ends = list(table.columns).index("runs")
    params = [name for name in table.columns[1:ends] if len({*map(str, table[name])}) > 1]
    rows = [dict(row[params].dropna()) for _, row in table.iterrows()]
    return [
        ", ".join(describe_params({name: _whole(value) for name, value in row.items()}))
        or f"trial {int(number)}"
        for row, number in zip(rows, table["trial"], strict=True)
    ]


def _whole(value: Any) -> Any:
    """Take back that a row of numbers, and a column with a gap, is one of floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _plot_cost(axes: Axes, table: pd.DataFrame, cost: str, objective: str) -> None:
    spread = table.get(f"± {objective}")
    axes.errorbar(
        table[cost], table[objective], yerr=spread, fmt="o", color=LINE, ecolor=MARK,
        elinewidth=1.0, capsize=3, markersize=7,
    )  # fmt: skip
    axes.set_xlabel(cost)
    axes.margins(x=0.14, y=0.12)
    spread_axis(axes, table[cost])
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
