"""What the trials of a study have come to; the cost of an update does not grow with them."""

from collections.abc import Sequence
from datetime import datetime

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study._spec.references import identify
from hydra_plugins.optuna_study._study.records import FINISHED, read_trials, require_sound
from hydra_plugins.optuna_study.attributes import OVERRIDES, PLAN_SINCE


class Ledger:
    """Reads each trial once after it has ended; only trials that have not are looked at again."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._plan_since: int = study.user_attrs.get(PLAN_SINCE, 0)
        self._signs = list_signs(study)
        self._num_read = 0
        self._open: list[int] = []
        self._points: dict[tuple[str, ...], FrozenTrial] = {}
        # The best, or the Pareto front of several objectives.
        self.best: list[FrozenTrial] = []
        self.num_finished = 0
        self.num_since_best = 0
        self.running: list[FrozenTrial] = []
        self.waiting: list[FrozenTrial] = []

    def update(self) -> list[FrozenTrial]:
        """Read what has happened since the last call, and return all trials."""
        trials = read_trials(self._study)
        numbers = [*self._open, *range(self._num_read, len(trials))]
        looked_at = [trials[number] for number in numbers]
        require_sound(self._study, looked_at, num_trials=len(trials))
        self._num_read = len(trials)
        still_open = [trial for trial in looked_at if not trial.state.is_finished()]
        self._open = [trial.number for trial in still_open]
        self.running = [trial for trial in still_open if trial.state is TrialState.RUNNING]
        self.waiting = [trial for trial in still_open if trial.state is TrialState.WAITING]
        ended = [trial for trial in looked_at if trial.state in FINISHED]
        for trial in sorted(ended, key=_completed):
            self._read(trial)
        return trials

    @property
    def is_waiting(self) -> bool:
        """Whether a point waits to be run."""
        return any("fixed_params" in trial.system_attrs for trial in self.waiting)

    def find_same(self, overrides: Sequence[str], *identity: str) -> FrozenTrial | None:
        """Find the finished trial of a point, or of a reference, under the present config."""
        return self._points.get((*identity, *overrides))

    def _read(self, trial: FrozenTrial) -> None:
        self.num_finished += 1
        overrides = trial.user_attrs.get(OVERRIDES)
        if overrides is not None and trial.number >= self._plan_since:
            self._points.setdefault((*identify(trial), *overrides), trial)
        self.num_since_best += 1
        if trial.state is TrialState.COMPLETE and is_feasible(trial):
            self._compare(trial)

    def _compare(self, trial: FrozenTrial) -> None:
        """Add a trial to the best unless one of them is as good in every objective."""
        losses = self._losses(trial)
        others = [self._losses(other) for other in self.best]
        # Of equal trials the one that ended first counts, whichever was read first.
        later = [other for other in self.best if _completed(other) > _completed(trial)]
        if any(
            _all_at_most(other, losses) and not (other == losses and best in later)
            for best, other in zip(self.best, others, strict=True)
        ):
            return
        worse = [_all_at_most(losses, other) for other in others]
        self.best = [t for t, out in zip(self.best, worse, strict=True) if not out] + [trial]
        self.num_since_best = 0

    def _losses(self, trial: FrozenTrial) -> list[float]:
        return [sign * value for sign, value in zip(self._signs, trial.values, strict=True)]


def list_signs(study: optuna.Study) -> list[float]:
    """Return for each objective what turns its values into losses."""
    return [-1.0 if way is StudyDirection.MAXIMIZE else 1.0 for way in study.directions]


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether a trial meets every constraint."""
    return total_violation(trial) == 0


def total_violation(trial: FrozenTrial) -> float:
    """Sum up by how much a trial violates its constraints."""
    return sum(max(0.0, value) for value in trial.constraints.values())


def rank(study: optuna.Study, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Sort the complete trials that meet every constraint by the first objective, best first."""
    sign = list_signs(study)[0]
    complete = [t for t in trials if t.state is TrialState.COMPLETE and is_feasible(t)]
    return sorted(complete, key=lambda trial: (sign * trial.values[0], _completed(trial)))


def _all_at_most(left: Sequence[float], right: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(left, right, strict=True))


def _completed(trial: FrozenTrial) -> datetime:
    assert trial.datetime_complete is not None
    return trial.datetime_complete
