"""The trial of a study that a run belongs to: reopened by number; the run reports to it."""

from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from hydra_plugins.optuna_study import attributes
from tunetrail.studies.ranking import count_better, total_violation
from tunetrail.studies.states import number_of, reference_of
from tunetrail.templates.names import name_trial
from tunetrail.tracking.confinement import require_run_id


def _load_study(
    storage: str, study: str, *, pruner: optuna.pruners.BasePruner | None = None
) -> Any:
    """Load a study from a database URL, or from a journal file (a path that ends in .log)."""
    opened: BaseStorage
    if "://" not in storage:
        opened = JournalStorage(JournalFileBackend(storage))
    else:
        # Another worker may be writing to the same SQLite file: wait for it.
        wait = {"connect_args": {"timeout": 60}} if storage.startswith("sqlite") else {}
        # The sweeper has created the tables and checked their version already.
        opened = RDBStorage(
            storage, engine_kwargs=wait, skip_compatibility_check=True, skip_table_creation=True
        )
    return optuna.load_study(study_name=study, storage=opened, pruner=pruner)


class Trial:
    """One trial, as the run that carries it out sees it.

    Args:
        storage, study, number: as the sweeper put them into ``cfg.trial``.
        pruner: decides whether to stop the run; None never stops it.
        objective: the metric that is reported, for example ``validation/accuracy``.
        repeat: which of the trial's runs this is, from 0; None if it has one run.
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
        self._storage = storage
        self._study = _load_study(storage, study, pruner=pruner)
        store = self._study._storage  # noqa: SLF001 - optuna has no public way to reopen a trial
        trial_id = store.get_trial_id_from_study_id_trial_number(self._study._study_id, number)  # noqa: SLF001 - as above
        self._trial = optuna.trial.Trial(self._study, trial_id)
        self._single = len(self._study.directions) == 1
        # Finals are compared over seeds, so each seed is trained to its end.
        self.final_of: str | None = self._study.user_attrs.get(attributes.FINAL_OF)
        attrs = self._trial.user_attrs
        # What the finals compare the winner with; None: a point of the search.
        self.reference = reference_of(self._trial)
        self._is_first = (repeat or 0) == len(attrs.get(attributes.CARRIED, ()))
        self._is_last = repeat is None or repeat == num_repeats - 1
        self._num_before = repeat or 0
        self.objective = objective
        self.number = number
        self.repeat = repeat
        self.study_name = study
        self.params: dict[str, Any] = self._trial.params

    @property
    def searched(self) -> int:
        """The number of the trial of the search: in finals, of the one that is trained again."""
        return number_of(self._trial)

    def name_run(self, *, seed: int, own: str | None = None) -> str:
        """Name the MLflow run; a final is known by its number, and its seed.

        ``own`` is ``tracking.run_name``.
        """
        params = self.params if self.final_of is None else {}
        several = self.final_of is not None or self.repeat is not None
        return name_trial(
            self.searched,
            params,
            reference=self.reference,
            seed=seed if several else None,
            own=own,
        )

    @property
    def parent_run_id(self) -> str | None:
        """The MLflow run of the study."""
        found = self._study.user_attrs.get(attributes.RUN_ID)
        return require_run_id(found) if found else None

    def pin(self, name: str, resolve: Callable[[str], str]) -> str:
        """Return what a name stands for; looked up once for the whole study and its finals."""
        searched = self.final_of
        study = self._study if searched is None else _load_study(self._storage, searched)
        known = study.user_attrs.get(attributes.PINNED, {})
        if name not in known:
            known[name] = resolve(name)
            study.set_user_attr(attributes.PINNED, known)
        return require_run_id(known[name])

    def set_run_id(self, run_id: str) -> None:
        """Note the MLflow run of this trial; of several repeats the one that began last."""
        self._trial.set_user_attr(attributes.RUN_ID, run_id)

    def set_num_evaluations(self, number: int) -> None:
        """Note how many evaluations the run makes if it is not pruned."""
        if self._is_first:
            self._trial.set_user_attr(attributes.NUM_EVALUATIONS, number)

    def report(self, value: float, *, number: int, may_prune: bool) -> None:
        """Report the objective at evaluation ``number``, and stop if the pruner says so.

        With several objectives nothing is reported, because Optuna cannot prune them. Of several
        repeats only the first reports, so a trial is not pruned after its first seed. Trials of
        finals are never pruned, nor those that finals compare the winner with.

        Raises:
            optuna.TrialPruned: the pruner stops the trial.

        """
        if not self._single or not self._is_first:
            return
        self._trial.report(value, number)
        may_prune = may_prune and self.final_of is None and self.reference is None
        if may_prune and self._trial.should_prune():
            raise optuna.TrialPruned(f"{self.objective} {value:.4f} at evaluation {number}")

    def set_constraints(self, values: Mapping[str, float]) -> float:
        """Note by how much each named constraint is violated; 0 or less is met.

        Optuna takes a constraint once. So earlier repeats keep their values in the user attribute
        ``repeat_constraints``, and the last repeat sets the means.

        Returns:
            the total violation of the trial, if this is its last run.

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

    def set_fit(self, values: Mapping[str, Any]) -> None:
        """Note how the model of this run fits; earlier repeats keep theirs."""
        before = self._trial.user_attrs.get(attributes.FITS, [])[: self._num_before]
        self._trial.set_user_attr(attributes.FITS, [*before, dict(values)])

    def is_kept(self, value: float, *, keep_best: int, violation: float = 0.0) -> bool:
        """Return whether the trial would be among the first ``keep_best`` of the ranking.

        With repeats the trial's value is their mean, and only the last run keeps its weights.

        Args:
            value: the first objective of this run.
            keep_best: how many trials keep their weights.
            violation: what :meth:`set_constraints` returned.

        """
        if not self._is_last:
            return False
        before = self._trial.user_attrs.get(attributes.REPEATS, [])[: self._num_before]
        mean = fmean([*(values[0] for values in before), value])
        return count_better(self._study, mean, violation=violation) < keep_best
