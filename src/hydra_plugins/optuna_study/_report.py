"""What a person reads: a line for each trial, a table at the end, commands to paste."""

import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study import _workers
from hydra_plugins.optuna_study._settings import Settings
from hydra_plugins.optuna_study._space import SearchSpace

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
TABLE_ROWS = 5


def format_trial(study: optuna.Study, trial: FrozenTrial, settings: Settings) -> str:
    """One line: number, state, values, point, seconds, best so far, what is left."""
    parts = [f"trial {trial.number}", trial.state.name.lower()]
    if trial.state is TrialState.FAIL:
        parts.append(trial.user_attrs["failure"].splitlines()[0])
    elif trial.values:
        parts.append(_format_values(settings.objectives, trial.values))
    parts.append(_format_params(trial.params))
    parts.append(format_seconds(_seconds(trial)))
    trials = study.get_trials(deepcopy=False)
    if best := find_best(study, trials):
        parts.append(_format_best(study, best))
    done = sum(other.state in FINISHED for other in trials)
    left = settings.num_trials - done
    progress = f"{done} of {settings.num_trials}"
    if done and left > 0:
        progress += f", about {format_seconds(_estimate_seconds(trials, left))} left"
    return " | ".join([*parts, progress])


def format_summary(study: optuna.Study, settings: Settings, space: SearchSpace) -> str:
    """Say how the trials ended, which were best, and the command that runs the best again."""
    trials = study.get_trials(deepcopy=False)
    best = find_best(study, trials)
    counts = Counter(trial.state.name.lower() for trial in trials)
    lines = [f"study {study.study_name}: " + ", ".join(f"{n} {s}" for s, n in counts.items())]
    if best:
        several = len(settings.objectives) > 1
        shown = best if several else _ranked(study, trials)[:TABLE_ROWS]
        lines += ["", "no trial beats these in every objective:" if several else "best trials:"]
        lines += _format_table(shown, settings, space)
        lines += ["", "run the best again:" if not several else "run one of them again:"]
        fixed = [text for text in space.fixed if not settings.is_of_study(text)]
        lines += [
            "  " + format_run_command([*fixed, *space.overrides(trial.params)])
            for trial in best[:TABLE_ROWS]
        ]
    if running := counts["running"]:
        lines += ["", f"{running} more run in other processes, which report them"]
    return "\n".join(lines)


def format_continue_command(settings: Settings) -> str:
    """Spell out the command that goes on with this study, whatever its name came from."""
    key = settings.keys["study_name"]
    typed = [text for text in sys.argv if text.partition("=")[0] != key]
    return shlex.join(["python", *typed, f"{key}={settings.study_name}"])


def format_run_command(overrides: Sequence[str]) -> str:
    """Spell out the command of a single run."""
    return shlex.join(["python", sys.argv[0], *overrides])


def find_best(study: optuna.Study, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Find the best complete trial, or the Pareto front of several objectives; empty without."""
    if len(study.directions) > 1:
        return study.best_trials
    return _ranked(study, trials)[:1]


def write_results(study: optuna.Study, path: Path) -> None:
    """Write the outcome in the format of Hydra's own Optuna plugin."""
    best = find_best(study, study.get_trials(deepcopy=False))
    results: dict[str, Any] = {"name": "optuna"}
    if len(study.directions) > 1:
        results["solutions"] = [{"params": t.params, "values": t.values} for t in best]
    elif best:
        results |= {"best_params": best[0].params, "best_value": best[0].value}
    OmegaConf.save(OmegaConf.create(results), path)


def format_seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _ranked(study: optuna.Study, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    sign = -1.0 if study.directions[0] is StudyDirection.MAXIMIZE else 1.0
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    return sorted(complete, key=lambda trial: sign * trial.values[0])


def _format_best(study: optuna.Study, best: Sequence[FrozenTrial]) -> str:
    if len(study.directions) > 1:
        return f"{len(best)} on the Pareto front"
    return f"best {best[0].values[0]:.5g} (trial {best[0].number})"


def _format_values(objectives: Mapping[str, str], values: Sequence[float]) -> str:
    # A pruned trial of Optuna holds its last report, of the first objective.
    return " ".join(f"{n} {v:.5g}" for n, v in zip(objectives, values, strict=False))


def _format_params(params: Mapping[str, Any]) -> str:
    return " ".join(f"{_short(name)}={_format_value(value)}" for name, value in params.items())


def _format_value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _format_table(
    trials: Sequence[FrozenTrial], settings: Settings, space: SearchSpace
) -> list[str]:
    names = [parameter.name for parameter in space.parameters]
    rows = [["trial", *settings.objectives, *map(_short, names), "time"]]
    rows += [
        [
            str(trial.number),
            *(f"{value:.5g}" for value in trial.values),
            *(_format_value(trial.params[name]) for name in names),
            format_seconds(_seconds(trial)),
        ]
        for trial in trials
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]


def _seconds(trial: FrozenTrial) -> float:
    return trial.duration.total_seconds() if trial.duration else 0.0


def _estimate_seconds(trials: Sequence[FrozenTrial], left: int) -> float:
    finished = [_seconds(trial) for trial in trials if trial.state in FINISHED]
    others = {
        str(trial.user_attrs.get(_workers.ATTRIBUTE))
        for trial in trials
        if trial.state is TrialState.RUNNING
    }
    return left * sum(finished) / len(finished) / (1 + len(others))
