"""The trial of a study that a run belongs to: reopened by number, told how it goes."""

import math
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend


def open_study(storage: str, study: str, *, pruner: optuna.pruners.BasePruner | None = None) -> Any:
    """Load a study from a database URL, or from a journal file (a path that ends in .log)."""
    opened: BaseStorage
    if "://" not in storage:
        opened = JournalStorage(JournalFileBackend(storage))
    else:
        # Another worker may be writing to the same SQLite file: wait for it.
        wait = {"connect_args": {"timeout": 60}} if storage.startswith("sqlite") else {}
        opened = RDBStorage(storage, engine_kwargs=wait)
    return optuna.load_study(study_name=study, storage=opened, pruner=pruner)


class Trial:
    """One trial, seen from the run that carries it out.

    Args:
        storage, study, number: as the sweeper put them into ``cfg.trial``.
        pruner: decides whether to go on; None never stops.
        objective: the metric that is reported, for example ``validation/accuracy``.

    """

    def __init__(
        self,
        *,
        storage: str,
        study: str,
        number: int,
        pruner: optuna.pruners.BasePruner | None,
        objective: str,
    ) -> None:
        self._study = open_study(storage, study, pruner=pruner)
        store = self._study._storage  # noqa: SLF001 - optuna has no public way to reopen a trial
        trial_id = store.get_trial_id_from_study_id_trial_number(self._study._study_id, number)  # noqa: SLF001 - as above
        self._trial = optuna.trial.Trial(self._study, trial_id)
        self._single = len(self._study.directions) == 1
        self.objective = objective
        self.number = number
        self.study_name = study
        self.params: dict[str, Any] = self._trial.params

    @property
    def parent_run_id(self) -> str | None:
        """The MLflow run of the study."""
        found = self._study.user_attrs.get("mlflow_run_id")
        return str(found) if found else None

    def set_run_id(self, run_id: str) -> None:
        """Note which MLflow run this trial is."""
        self._trial.set_user_attr("mlflow_run_id", run_id)

    def report(self, value: float, *, number: int, may_prune: bool) -> None:
        """Report the objective at evaluation ``number``; stop here if the pruner says so.

        Optuna cannot prune a study of several objectives: then nothing is reported.

        Raises:
            optuna.TrialPruned: the trial is hopeless.

        """
        if not self._single:
            return
        self._trial.report(value, number)
        if may_prune and self._trial.should_prune():
            raise optuna.TrialPruned(f"{self.objective} {value:.4f} at evaluation {number}")

    def is_best(self, value: float) -> bool:
        """Tell whether ``value`` beats the first objective of every finished trial.

        Of equals the one that finished first is the best, here and in :mod:`tunetrail.study`.
        """
        finished = self._study.get_trials(
            deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)
        )
        sign = 1 if self._study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else -1
        best = max((sign * trial.values[0] for trial in finished), default=-math.inf)
        return sign * value > best
