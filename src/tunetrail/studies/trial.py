"""The trial of a study that a run belongs to: reopened by number, told how it goes."""

from collections.abc import Mapping
from datetime import datetime
from statistics import fmean
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study import attributes


def open_study(storage: str, study: str, *, pruner: optuna.pruners.BasePruner | None = None) -> Any:
    """Load a study from a database URL, or from a journal file (a path that ends in .log)."""
    opened: BaseStorage
    if "://" not in storage:
        opened = JournalStorage(JournalFileBackend(storage))
    else:
        # Another worker may be writing to the same SQLite file: wait for it.
        wait = {"connect_args": {"timeout": 60}} if storage.startswith("sqlite") else {}
        # The sweeper has made the tables and checked their version: once is enough.
        opened = RDBStorage(
            storage, engine_kwargs=wait, skip_compatibility_check=True, skip_table_creation=True
        )
    return optuna.load_study(study_name=study, storage=opened, pruner=pruner)


def rank(study: optuna.Study) -> list[FrozenTrial]:
    """Order the complete trials, best first by the first objective.

    Trials that violate a constraint come after all others, least violation first. Of equals the
    one that finished first is the better: it alone has saved its weights. A trial that was told the
    values of an earlier one, without running, is left out: it is the earlier one.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    trials = [trial for trial in complete if trial.user_attrs.get(attributes.REUSED_FROM) is None]
    sign = _sign(study)

    def order(trial: FrozenTrial) -> tuple[float, float, datetime, int]:
        assert trial.datetime_complete is not None
        cost = sign * trial.values[0]
        return (total_violation(trial.constraints), cost, trial.datetime_complete, trial.number)

    return sorted(trials, key=order)


def total_violation(constraints: Mapping[str, float]) -> float:
    """Sum up by how much the constraints are violated; 0 where all are met."""
    return sum(max(0.0, value) for value in constraints.values())


def _sign(study: optuna.Study) -> int:
    """Return what turns the first objective into a cost."""
    return 1 if study.directions[0] == StudyDirection.MINIMIZE else -1


class Trial:
    """One trial, seen from the run that carries it out.

    Args:
        storage, study, number: as the sweeper put them into ``cfg.trial``.
        pruner: decides whether to go on; None never stops.
        objective: the metric that is reported, for example ``validation/accuracy``.
        repeat: which of the trial's runs this is, from 0; None where it has one.
        num_repeats: how many runs with different seeds the trial has.

    """

    def __init__(
        self,
        *,
        storage: str,
        study: str,
        number: int,
        pruner: optuna.pruners.BasePruner | None,
        objective: str,
        repeat: int | None = None,
        num_repeats: int = 1,
    ) -> None:
        self._study = open_study(storage, study, pruner=pruner)
        store = self._study._storage  # noqa: SLF001 - optuna has no public way to reopen a trial
        trial_id = store.get_trial_id_from_study_id_trial_number(self._study._study_id, number)  # noqa: SLF001 - as above
        self._trial = optuna.trial.Trial(self._study, trial_id)
        self._single = len(self._study.directions) == 1
        # What is to be compared over seeds is trained to its end on each.
        self._is_final = attributes.FINAL_OF in self._study.user_attrs
        self._is_first = repeat in (None, 0)
        self._is_last = repeat is None or repeat == num_repeats - 1
        self._num_before = repeat or 0
        self.objective = objective
        self.number = number
        self.repeat = repeat
        self.study_name = study
        self.params: dict[str, Any] = self._trial.params

    @property
    def run_name(self) -> str:
        """What the MLflow run is called."""
        name = f"trial-{self.number}"
        return name if self.repeat is None else f"{name}-seed-{self.repeat}"

    @property
    def parent_run_id(self) -> str | None:
        """The MLflow run of the study."""
        found = self._study.user_attrs.get(attributes.RUN_ID)
        return str(found) if found else None

    def set_run_id(self, run_id: str) -> None:
        """Note which MLflow run this trial is; of several repeats, the one that began last."""
        self._trial.set_user_attr(attributes.RUN_ID, run_id)

    def set_num_evaluations(self, number: int) -> None:
        """Note how many evaluations the run makes if it is not stopped."""
        if self._is_first:
            self._trial.set_user_attr(attributes.NUM_EVALUATIONS, number)

    def report(self, value: float, *, number: int, may_prune: bool) -> None:
        """Report the objective at evaluation ``number``; stop here if the pruner says so.

        Optuna cannot prune a study of several objectives: then nothing is reported. Of several
        repeats only the first reports: a trial that is worth its second seed is not given up. Of
        the finals none is.

        Raises:
            optuna.TrialPruned: the trial is hopeless.

        """
        if not self._single or not self._is_first:
            return
        self._trial.report(value, number)
        if may_prune and not self._is_final and self._trial.should_prune():
            raise optuna.TrialPruned(f"{self.objective} {value:.4f} at evaluation {number}")

    def set_constraints(self, values: Mapping[str, float]) -> float:
        """Note by how much each constraint is violated (0 or less: met), by its name.

        Optuna takes a constraint once, so of several repeats the earlier ones' values wait in the
        user attribute ``repeat_constraints`` and the last sets the means.

        Returns:
            the total violation of the trial, as :func:`rank` will see it if this is its last run.

        """
        before = self._trial.user_attrs.get(attributes.REPEAT_CONSTRAINTS, [])[: self._num_before]
        repeats = [*before, dict(values)]
        if self.repeat is not None:
            self._trial.set_user_attr(attributes.REPEAT_CONSTRAINTS, repeats)
        means = {name: fmean(repeat[name] for repeat in repeats) for name in values}
        if self._is_last:
            for name, value in means.items():
                self._trial.set_constraint(name, value)
        return total_violation(means)

    def is_kept(self, value: float, *, keep_best: int, violation: float = 0.0) -> bool:
        """Tell whether the trial would be among the first ``keep_best`` of :func:`rank`.

        With repeats the trial's value is the mean of theirs, and only the last run is ever kept.

        Args:
            value: the first objective of this run.
            keep_best: how many trials keep their weights.
            violation: what :meth:`set_constraints` returned.

        """
        if not self._is_last:
            return False
        before = self._trial.user_attrs.get(attributes.REPEATS, [])[: self._num_before]
        mean = fmean([*(values[0] for values in before), value])
        sign = _sign(self._study)
        own = (violation, sign * mean)
        better = sum(
            (total_violation(other.constraints), sign * other.values[0]) <= own
            for other in rank(self._study)
        )
        return better < keep_best
