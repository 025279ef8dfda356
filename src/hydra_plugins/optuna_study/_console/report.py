"""The console of a study: a line for each trial, and a summary at the end."""

from collections import Counter
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study._console.commands import format_run_command
from hydra_plugins.optuna_study._errors import printable
from hydra_plugins.optuna_study._jobs.failure import FailureKind
from hydra_plugins.optuna_study._spec.sweep_spec import SweepSpec
from hydra_plugins.optuna_study._study.endings import read_failure
from hydra_plugins.optuna_study._study.ledger import Ledger, rank, total_violation
from hydra_plugins.optuna_study.attributes import (
    ABANDONED,
    ENQUEUED,
    FINALIST_OF,
    POINT,
    REFERENCE,
    REUSED_FROM,
    SPREAD,
    name_reference,
    params_of,
)

TABLE_ROWS = 5
# Between the parts of a line.
SEPARATOR = " | "
# In the folder of the study: its best points.
RESULTS = "optimization_results.yaml"


def format_trial(ledger: Ledger, trial: FrozenTrial, spec: SweepSpec, *, progress: str) -> str:
    """Write one line: number, ending, values, point, seconds, best so far, how far the study is."""
    ending = name_ending(trial)
    parts = [name_trial(trial), ending]
    failure = read_failure(trial)
    if failure:
        if failure.text != ending:
            parts.append(failure.line)
    elif trial.values:
        parts.append(_format_values(spec.objectives, trial.values, trial))
    violated = [name for name, value in trial.constraints.items() if value > 0]
    if violated and not failure:
        parts.append(f"violates {', '.join(violated)}")
    parts.append(format_params(params_of(trial)))
    if ABANDONED not in trial.user_attrs:
        parts.append(format_seconds(_seconds(trial)))
    if ledger.best:
        parts.append(_format_best(ledger.best, num_objectives=len(spec.objectives)))
    return printable(SEPARATOR.join([*parts, progress]))


def format_summary(study: optuna.Study, ledger: Ledger, spec: SweepSpec) -> str:
    """Write how the trials ended, which are best, and the command that runs the best again."""
    trials, best = ledger.update(), ledger.best
    counts = Counter(name_ending(trial) for trial in trials)
    lines = [f"study {study.study_name}: " + ", ".join(f"{n} {s}" for s, n in counts.items())]
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if complete and not best:
        nearest = sorted(complete, key=total_violation)[:TABLE_ROWS]
        lines += ["", "no complete trial meets every constraint; the nearest:"]
        lines += _format_table(nearest, spec)
    if best:
        several = len(spec.objectives) > 1
        shown = best if several else rank(study, trials)[:TABLE_ROWS]
        lines += ["", "no trial beats these in every objective:" if several else "best trials:"]
        lines += _format_table(shown, spec)
        lines += ["", "run the best again:" if not several else "run one of them again:"]
        lines += [f"  {format_run_command(spec, trial)}" for trial in best[:TABLE_ROWS]]
    if running := counts["running"]:
        lines += ["", f"{running} more run in other processes, which report them"]
    return printable("\n".join(lines))


def name_ending(trial: FrozenTrial) -> str:
    """Name how a trial ended; Optuna has no word for some of these endings."""
    if REUSED_FROM in trial.user_attrs:
        return f"reused from {trial.user_attrs[REUSED_FROM]}"
    failure = read_failure(trial)
    if failure and failure.kind is FailureKind.OUT_OF_MEMORY:
        return "infeasible"
    if failure and failure.kind is FailureKind.INTERRUPTED:
        return "interrupted"
    return str(trial.state.name.lower())


def write_results(best: Sequence[FrozenTrial], folder: Path, objectives: Sized) -> None:
    """Write the best points in the format of Hydra's own Optuna plugin."""
    results: dict[str, Any] = {"name": "optuna"}
    if len(objectives) > 1:
        results["solutions"] = [{"params": dict(params_of(t)), "values": t.values} for t in best]
    elif best:
        results |= {"best_params": dict(params_of(best[0])), "best_value": best[0].value}
    OmegaConf.save(OmegaConf.create(results), folder / RESULTS)


def format_seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _format_best(best: Sequence[FrozenTrial], *, num_objectives: int) -> str:
    if num_objectives > 1:
        return f"{len(best)} on the Pareto front"
    number = best[0].user_attrs.get(FINALIST_OF, best[0].number)
    return f"best {best[0].values[0]:.5g} (trial {number})"


def name_trial(trial: FrozenTrial) -> str:
    """Name a trial; a trial of finals by the trial of the search that it trains again."""
    kind = trial.user_attrs.get(REFERENCE, trial.user_attrs.get(ENQUEUED, ""))
    label = f" ({name_reference(kind)})" if kind not in ("", POINT) else ""
    if FINALIST_OF in trial.user_attrs:
        return f"final of trial {trial.user_attrs[FINALIST_OF]}{label}"
    return f"trial {trial.number}{label}"


def _format_values(
    objectives: Mapping[str, str], values: Sequence[float], trial: FrozenTrial
) -> str:
    spread = trial.user_attrs.get(SPREAD) or [None] * len(values)
    # A pruned trial has one value, its last report.
    return " ".join(
        f"{name} {format_mean(value, std)}"
        for name, value, std in zip(objectives, values, spread, strict=False)
    )


def format_mean(mean: float, std: float | None) -> str:
    return f"{mean:.5g}" + ("" if std is None else f" ±{std:.2g}")


def format_params(params: Mapping[str, Any]) -> str:
    return " ".join(f"{short_name(name)}={format_value(value)}" for name, value in params.items())


def format_value(value: Any) -> str:
    return (
        f"{value:.4g}" if isinstance(value, float) else printable(str(value)).replace("\n", "\\n")
    )


def short_name(name: str) -> str:
    return name.rpartition(".")[2]


def _format_table(trials: Sequence[FrozenTrial], spec: SweepSpec) -> list[str]:
    # Parameters of a function come last, and some trials lack them.
    names = [parameter.name for parameter in spec.space.parameters]
    names += sorted({name for trial in trials for name in trial.params if name not in names})
    rows = [["trial", *spec.objectives, *map(short_name, names), "time"]]
    rows += [
        [
            str(trial.number),
            *(f"{value:.5g}" for value in trial.values),
            *(format_value(params_of(trial).get(name, "")) for name in names),
            format_seconds(_seconds(trial)),
        ]
        for trial in trials
    ]
    return align(rows)


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align the columns of a table; returns a line for each row."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]


def _seconds(trial: FrozenTrial) -> float:
    return trial.duration.total_seconds() if trial.duration else 0.0
