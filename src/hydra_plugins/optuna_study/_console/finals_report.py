"""The results of the finals, on the console and in the file of results."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study._console.report import (
    RESULTS,
    align,
    format_mean,
    format_value,
    name_ending,
    short_name,
)
from hydra_plugins.optuna_study._study.endings import read_failure
from hydra_plugins.optuna_study._study.finalists import Finalist
from hydra_plugins.optuna_study._study.ledger import list_signs
from hydra_plugins.optuna_study.attributes import SEEDS, SPREAD


@dataclass(frozen=True)
class Score:
    """A finalist and its result."""

    finalist: Finalist
    # Its trial in the finals, in whatever state; None before there is one.
    final: FrozenTrial | None

    @property
    def complete(self) -> FrozenTrial | None:
        """Its trial in the finals, if that is complete."""
        done = self.final is not None and self.final.state is TrialState.COMPLETE
        return self.final if done else None


def format_finalists(finalists: Sequence[Finalist]) -> str:
    """Name them in a row: ``trial 4, trial 7 and the default config (trial 0)``."""
    *names, last = [
        f"the default config (trial {finalist.number})"
        if finalist.is_default
        else f"trial {finalist.number}"
        for finalist in finalists
    ]
    return f"{', '.join(names)} and {last}" if names else last


def format_finals(
    scores: Sequence[Score],
    study: optuna.Study,
    finals: optuna.Study,
    objectives: Collection[str],
) -> str:
    """Write a table of the finalists, best first, and how far the search was too optimistic.

    Args:
        scores: the best of the search first.
        study: that was searched.
        finals: the study of its best points on fresh seeds.
        objectives: their names.

    """
    sign = list_signs(study)[0]
    complete = [score for score in scores if score.complete]
    complete.sort(key=lambda score: sign * score.complete.values[0] if score.complete else 0.0)
    lines = []
    if complete:
        seeds = ", ".join(map(str, finals.user_attrs[SEEDS]))
        lines += ["", f"finals of study {study.study_name} (mean over the seeds {seeds}):"]
        lines += _format_table(complete, objectives)
        if (best := scores[0]).complete:
            lines += ["", _format_optimism(best, sign, next(iter(objectives)))]
    for score in scores:
        if score.complete is None:
            lines.append(f"trial {score.finalist.number} has no result there: {_reason(score)}")
    return "\n".join(lines)


def write_finals(scores: Sequence[Score], finals: optuna.Study, folder: Path) -> None:
    """Add the finals to the results of the search."""
    path = folder / RESULTS
    results = OmegaConf.load(path)
    assert isinstance(results, DictConfig)
    results["finals"] = {
        "study": finals.study_name,
        "seeds": finals.user_attrs[SEEDS],
        "trials": [
            {
                "trial": score.finalist.number,
                "is_default": score.finalist.is_default,
                "params": score.finalist.trial.params,
                "search_values": score.finalist.trial.values,
                "values": score.complete.values,
                "spread": _spread(score.complete),
            }
            for score in scores
            if score.complete
        ],
    }
    OmegaConf.save(results, path)


def _format_table(scores: Sequence[Score], objectives: Iterable[str]) -> list[str]:
    names = list(dict.fromkeys(name for score in scores for name in score.finalist.trial.params))
    header = ["trial"]
    for name in objectives:
        header += [name, "in the search"]
    rows = [[*header, *map(short_name, names)]]
    for score in scores:
        assert score.complete is not None
        trial = score.finalist.trial
        row = [str(trial.number) + (" (default)" if score.finalist.is_default else "")]
        spread = _spread(score.complete) or [None] * len(trial.values)
        for mean, std, searched in zip(score.complete.values, spread, trial.values, strict=True):
            row += [format_mean(mean, std), f"{searched:.5g}"]
        rows.append([*row, *(format_value(trial.params.get(name, "")) for name in names)])
    return align(rows)


def _format_optimism(best: Score, sign: float, objective: str) -> str:
    assert best.complete is not None
    searched, fresh = best.finalist.trial.values[0], best.complete.values[0]
    loss = sign * (fresh - searched)
    found = "the same" if loss == 0 else f"{abs(loss):.2g} {'worse' if loss > 0 else 'better'}"
    return (
        f"trial {best.finalist.number}, the best of the search, has {objective} {fresh:.5g} on "
        f"fresh seeds, {searched:.5g} in the search: {found}"
    )


def _reason(score: Score) -> str:
    if score.final is None:
        return "it was not started"
    if not score.final.state.is_finished():
        return "it has not ended yet"
    failure = read_failure(score.final)
    return failure.line if failure else name_ending(score.final)


def _spread(trial: FrozenTrial) -> list[Any] | None:
    return trial.user_attrs.get(SPREAD)
