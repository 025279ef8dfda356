"""The results of the finals, on the console and in the file of results."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial

from hydra_plugins.optuna_study._console.report import (
    RESULTS,
    align,
    format_mean,
    format_value,
    name_ending,
    short_name,
)
from hydra_plugins.optuna_study._errors import printable
from hydra_plugins.optuna_study._study.endings import read_failure
from hydra_plugins.optuna_study._study.finalists import FinalPoint
from hydra_plugins.optuna_study._study.ledger import list_signs
from hydra_plugins.optuna_study.attributes import (
    CARRIED,
    REPEATS,
    SEEDS,
    SPREAD,
    name_reference,
    params_of,
)


def format_finalists(finalists: Sequence[FinalPoint]) -> str:
    """Name them in a row: ``trial 4, trial 7 and the default config (trial 0)``."""
    *names, last = map(_name, finalists)
    return f"{', '.join(names)} and {last}" if names else last


def format_finals(
    points: Sequence[FinalPoint],
    study: optuna.Study,
    finals: optuna.Study,
    objectives: Collection[str],
) -> str:
    """Write a table of the finalists, best first, and how far the search was too optimistic.

    Args:
        points: the best of the search first.
        study: that was searched.
        finals: the study of its best points on fresh seeds.
        objectives: their names.

    """
    sign = list_signs(study)[0]
    complete = [point for point in points if point.complete]
    complete.sort(key=lambda point: sign * point.complete.values[0] if point.complete else 0.0)
    lines = []
    if complete:
        lines += ["", f"finals of study {study.study_name} ({_format_seeds(complete, finals)}):"]
        lines += _format_table(complete, objectives)
        if (best := points[0]).complete and best.was_searched:
            lines += ["", _format_optimism(best, sign, next(iter(objectives)))]
    for point in points:
        if point.complete is None:
            lines.append(f"trial {point.number} has no result there: {_reason(point)}")
    return printable("\n".join(lines))


def write_finals(points: Sequence[FinalPoint], finals: optuna.Study, folder: Path) -> None:
    """Add the finals to the results of the search."""
    path = folder / RESULTS
    results = OmegaConf.load(path)
    assert isinstance(results, DictConfig)
    results["finals"] = {
        "study": finals.study_name,
        "trials": [
            {
                "trial": point.number,
                "is_default": point.is_default,
                "reference": point.reference,
                "params": dict(params_of(point.trial)),
                "search_values": point.trial.values,
                "values": point.complete.values,
                "spread": _spread(point.complete),
                "seeds": _seeds_of(point, finals),
                "runs_of_the_search": _num_carried(point),
            }
            for point in points
            if point.complete
        ],
    }
    OmegaConf.save(results, path)


def _name(point: FinalPoint) -> str:
    trial = f"trial {point.number}"
    if point.reference is not None:
        return f"{name_reference(point.reference)} ({trial})"
    return f"the default config ({trial})" if point.is_default else trial


def _format_table(points: Sequence[FinalPoint], objectives: Iterable[str]) -> list[str]:
    names = list(dict.fromkeys(name for point in points for name in point.trial.params))
    header = ["trial"]
    for name in objectives:
        header += [name, "in the search"]
    rows = [[*header, *map(short_name, names)]]
    for point in points:
        assert point.complete is not None
        trial = point.trial
        label = "default" if point.is_default else name_reference(point.reference or "")
        row = [str(trial.number) + (f" ({label})" if label else "")]
        spread = _spread(point.complete) or [None] * len(trial.values)
        for mean, std, searched in zip(point.complete.values, spread, trial.values, strict=True):
            row += [format_mean(mean, std), f"{searched:.5g}"]
        rows.append([*row, *(format_value(params_of(trial).get(name, "")) for name in names)])
    return align(rows)


def _format_optimism(best: FinalPoint, sign: float, objective: str) -> str:
    assert best.complete is not None
    searched, fresh = best.trial.values[0], best.complete.values[0]
    loss = sign * (fresh - searched)
    found = "the same" if loss == 0 else f"{abs(loss):.2g} {'worse' if loss > 0 else 'better'}"
    return (
        f"trial {best.number}, the best that the search has found, has {objective} {fresh:.5g} on "
        f"fresh seeds, {searched:.5g} in the search: {found}"
    )


def _reason(point: FinalPoint) -> str:
    if point.final is None:
        return "it was not started"
    if not point.final.state.is_finished():
        return "it has not ended yet"
    failure = read_failure(point.final)
    return failure.line if failure else name_ending(point.final)


def _format_seeds(points: Sequence[FinalPoint], finals: optuna.Study) -> str:
    fresh = finals.user_attrs[SEEDS]
    said = f"mean over {len(fresh)} seed{'' if len(fresh) == 1 else 's'}: "
    said += ", ".join(map(str, fresh))
    carried: dict[str, list[FinalPoint]] = {}
    for point in points:
        if number := _num_carried(point):
            seeds = list(map(str, _seeds_of(point, finals)))
            seeds[:number] = [f"{seed} (from the search)" for seed in seeds[:number]]
            carried.setdefault(", ".join(seeds), []).append(point)
    return said + "".join(f"; of {format_finalists(of)} {seeds}" for seeds, of in carried.items())


def _seeds_of(point: FinalPoint, finals: optuna.Study) -> list[int]:
    """List the seeds of the jobs whose mean a point has, those of the search first."""
    fresh, num_carried = finals.user_attrs[SEEDS], _num_carried(point)
    # The fresh ones begin where those of the search end.
    first = fresh[0] - len(point.trial.user_attrs.get(REPEATS, [None]))
    return [*range(first, first + num_carried), *fresh[num_carried:]]


def _num_carried(point: FinalPoint) -> int:
    return len(point.complete.user_attrs.get(CARRIED, ())) if point.complete else 0


def _spread(trial: FrozenTrial) -> list[Any] | None:
    return trial.user_attrs.get(SPREAD)
