"""How far a study is, in lines: the whole of it, and each trial that this process runs."""

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study._console.report import (
    SEPARATOR,
    format_params,
    format_seconds,
    name_trial,
)
from hydra_plugins.optuna_study._spec.settings import Settings
from hydra_plugins.optuna_study._study.records import FINISHED
from hydra_plugins.optuna_study.attributes import (
    ABANDONED,
    CARRIED,
    FINAL_OF,
    NUM_EVALUATIONS,
    REUSED_FROM,
    params_of,
)

_CELLS = 16
# Longer than anything that a job says of itself.
_MOST_BYTES = 4096


@dataclass(frozen=True)
class Around:
    """What comes before the trials of a study, and after them."""

    # Trainings that the search had, for finals.
    jobs_before: int = 0
    # Trials and trainings that finals will have, for a search.
    trials_after: int = 0
    jobs_after: int = 0


@dataclass(frozen=True)
class _Progress:
    """How far a study is, in trainings: of some trials of finals the search made the first ones."""

    trials: list[FrozenTrial]
    done: list[FrozenTrial]
    # Number of a trial that this process runs -> how much of it is done, from 0 to 1.
    shares: dict[int, float]
    num_trials: int
    planned: int
    progressed: float


class Status:
    """The lines of one study, or of its finals."""

    def __init__(
        self,
        study: optuna.Study,
        running: Mapping[int, Any],
        settings: Settings,
        *,
        folder: Path,
        around: Around,
        num_workers: int,
    ) -> None:
        """Prepare the lines.

        Args:
            study: whose trials they are.
            running: the trials that this process runs.
            settings: how many trials it will have, and how many jobs a trial is.
            folder: where jobs write how far they are.
            around: what comes before the study and after it.
            num_workers: jobs that this process runs at a time.

        """
        self._study = study
        self._running = running
        self._folder = folder
        self._of_finals = FINAL_OF in study.user_attrs
        self._num_trials = settings.num_trials
        self._per_trial = settings.num_seeds
        self._around = around
        self._num_workers = num_workers
        self._started = time.monotonic()

    def open_file(self, number: int) -> str:
        """Name the file in which the job of a trial writes how far it is, and make its folder."""
        path = self._path_of(number).absolute()
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # of a job that was killed
        return str(path)

    def _path_of(self, number: int) -> Path:
        return self._folder / f"{'final' if self._of_finals else 'trial'}-{number}.json"

    def forget(self, number: int) -> None:
        """Remove the file of a trial that has ended."""
        with contextlib.suppress(OSError):
            self._path_of(number).unlink(missing_ok=True)

    def lines(self) -> list[str]:
        """Describe the study in one line, and each of its running trials in one."""
        said = self._read_all()
        progress = self._look(said)
        own = [_format_running(progress.trials[number], said[number]) for number in said]
        return [self._format_study(progress), *own]

    def progress(self) -> str:
        """Say how many trials are done of how many, and how long they and the finals still take."""
        progress = self._look(self._read_all())
        left = self._estimate(progress)
        counted = self._count(progress, "")
        return f"{counted}, about {format_seconds(left)} left" if left else counted

    def _look(self, said: Mapping[int, Mapping[str, Any]]) -> _Progress:
        trials = self._study.get_trials(deepcopy=False)
        shares = {number: self._share(trials[number], said[number]) for number in said}
        done = [trial for trial in trials if trial.state in FINISHED]
        num_trials = max(self._num_trials, len(done))
        made_before = [
            self._per_trial - self._num_jobs(t) for t in trials if t.state is not TrialState.FAIL
        ]
        return _Progress(
            trials=trials,
            done=done,
            shares=shares,
            num_trials=num_trials,
            planned=num_trials * self._per_trial - sum(made_before),
            progressed=sum(self._num_jobs(trial) for trial in done)
            + sum(share * self._num_jobs(trials[number]) for number, share in shares.items()),
        )

    def _format_study(self, progress: _Progress) -> str:
        around = self._around
        jobs = around.jobs_before + progress.planned + around.jobs_after
        share = min(1.0, (around.jobs_before + progress.progressed) / max(jobs, 1))
        filled = round(share * _CELLS)
        bar = "#" * filled + "-" * (_CELLS - filled)
        what = " finals" if self._of_finals else " trials"
        parts = [f"[{bar}] {self._count(progress, what)}"]
        left = self._estimate(progress)
        if left is not None:
            parts.append(f"about {format_seconds(left)} left")
        parts.append(f"{format_seconds(time.monotonic() - self._started)} so far")
        return SEPARATOR.join(parts)

    def _count(self, progress: _Progress, what: str) -> str:
        after = self._around.trials_after
        counted = f"{len(progress.done)} of {progress.num_trials}{what}"
        if not after:
            return counted
        return f"{counted}, then {after} final{'' if after == 1 else 's'}"

    def _estimate(self, progress: _Progress) -> float | None:
        """Estimate how long the study and its finals will still take; None: nothing is known."""
        each = self._seconds_of_training(progress)
        if each is None:
            return None
        trials, shares, around = progress.trials, progress.shares, self._around
        # Of what has not said yet how far it is.
        spent = sum(
            min(0.95, _since_start(trials[number]) / max(each[0], 1e-9))
            for number, share in shares.items()
            if share == 0
        )
        others = sum(t.state is TrialState.RUNNING and t.number not in shares for t in trials)
        places = self._num_workers + others
        here = min(places, max(1, progress.num_trials - len(progress.done)))
        after = min(places, max(1, around.trials_after))
        left = max(0.0, progress.planned - progress.progressed - spent)
        return left * each[0] / here + around.jobs_after * each[1] / after

    def _read_all(self) -> dict[int, dict[str, Any]]:
        return {number: self._read(number) for number in sorted(self._running)}

    def _read(self, number: int) -> dict[str, Any]:
        """Read what the job of a trial has said of itself; empty if it has said nothing."""
        try:
            with self._path_of(number).open("rb") as file:
                found = json.loads(file.read(_MOST_BYTES))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _num_jobs(self, trial: FrozenTrial) -> int:
        """Count the trainings of a trial; those of the search, which count in finals, left out."""
        return max(1, self._per_trial - len(trial.user_attrs.get(CARRIED, ())))

    def _share(self, trial: FrozenTrial, said: Mapping[str, Any]) -> float:
        """Return how much of a trial is done, between 0 and 1."""
        share, jobs = said.get("share"), self._num_jobs(trial)
        before = len(getattr(self._running.get(trial.number), "repeats", ()))
        inner = min(1.0, max(0.0, share)) if isinstance(share, int | float) else 0.0
        return (before - (self._per_trial - jobs) + inner) / jobs

    def _seconds_of_training(self, progress: _Progress) -> tuple[float, float] | None:
        """Estimate the seconds of a training of this study, and of one that is not pruned."""
        untimed = {ABANDONED, REUSED_FROM}
        timed = [t for t in progress.done if not untimed & t.user_attrs.keys() and t.duration]
        if timed:
            whole = [trial for trial in timed if trial.state is TrialState.COMPLETE] or timed
            return self._mean_seconds(timed), self._mean_seconds(whole)
        trials = progress.trials
        guesses = [
            _since_start(trials[number]) / (share * self._num_jobs(trials[number]))
            for number, share in progress.shares.items()
            if share > 0.1
        ]
        return (fmean(guesses), fmean(guesses)) if guesses else None

    def _mean_seconds(self, trials: list[FrozenTrial]) -> float:
        return fmean(
            trial.duration.total_seconds() / self._num_jobs(trial)
            for trial in trials
            if trial.duration
        )


def _since_start(trial: FrozenTrial) -> float:
    started = trial.datetime_start
    return 0.0 if started is None else (datetime.now() - started).total_seconds()  # noqa: DTZ005 - Optuna writes local time


def _format_running(trial: FrozenTrial, said: Mapping[str, Any]) -> str:
    parts = [name_trial(trial), str(said.get("said") or "runs")[:60]]
    if trial.intermediate_values:
        number, value = max(trial.intermediate_values.items())
        planned = trial.user_attrs.get(NUM_EVALUATIONS)
        parts.append(f"evaluation {number}{f' of {planned}' if planned else ''}: {value:.5g}")
    parts.append(format_seconds(_since_start(trial)))
    # Each for itself: on a narrow terminal the last ones are left out.
    parts += [format_params({name: value}) for name, value in params_of(trial).items()]
    return SEPARATOR.join(parts)
