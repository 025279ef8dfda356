"""How trials end, as it is written into the study and read back."""

from collections.abc import Sequence
from statistics import fmean, stdev

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from hydra_plugins.optuna_study._jobs.failure import TRIED_AGAIN, Failure, FailureKind
from hydra_plugins.optuna_study._jobs.outcome import Outcome
from hydra_plugins.optuna_study._study.ledger import Ledger
from hydra_plugins.optuna_study._study.study import quiet_optuna
from hydra_plugins.optuna_study.attributes import (
    ENQUEUED,
    FAILURE,
    FAILURE_KIND,
    FINALIST_OF,
    OVERRIDES,
    REPEATS,
    RETRY_OF,
    REUSED_FROM,
    SPREAD,
)

# The constraint that a point violates which does not fit into memory.
MEMORY_CONSTRAINT = "out_of_memory"


def read_failure(trial: FrozenTrial) -> Failure | None:
    """Read what went wrong with a trial; None if nothing did."""
    if FAILURE not in trial.user_attrs:
        return None
    kind = FailureKind(trial.user_attrs.get(FAILURE_KIND, FailureKind.ERROR))
    return Failure(kind, trial.user_attrs[FAILURE])


class Endings:
    """Writes into a study how its trials end, and notes it in the ledger."""

    def __init__(self, study: optuna.Study, ledger: Ledger) -> None:
        self._study = study
        self._ledger = ledger

    def write(
        self, trial: Trial, outcome: Outcome, repeats: Sequence[Sequence[float]]
    ) -> FrozenTrial:
        """Write how the last job of a trial ended.

        Args:
            trial: whose job it was.
            outcome: of the job.
            repeats: the values of all jobs of the trial, a list for each job.

        Raises:
            UpdateFinishedTrialError: another process has closed the trial.

        """
        state, values, failure = outcome.state, outcome.values, outcome.failure
        if failure and failure.kind in TRIED_AGAIN:
            return self.retry(self._study.get_trials(deepcopy=False)[trial.number], failure)
        if values is not None and len(repeats) > 1:
            columns = list(zip(*repeats, strict=True))
            values = tuple(map(fmean, columns))
            trial.set_user_attr(REPEATS, repeats)
            trial.set_user_attr(SPREAD, list(map(stdev, columns)))
        if failure:
            self._write_failure(trial.number, failure)
            if failure.kind is FailureKind.OUT_OF_MEMORY:
                # A sampler learns nothing from a failed trial. A pruned one that violates a
                # constraint makes TPE look elsewhere.
                trial.set_constraint(MEMORY_CONSTRAINT, 1.0)
                state = TrialState.PRUNED
        return self._report(trial, state, values)

    def fail(self, number: int, failure: Failure) -> FrozenTrial:
        """Close a trial as failed."""
        self._write_failure(number, failure)
        return self._report(number, TrialState.FAIL)

    def reuse(self, trial: Trial, source: FrozenTrial) -> FrozenTrial:
        """Give a trial all that the finished trial of the same point has."""
        trial.set_user_attr(REUSED_FROM, source.number)
        for name in (FAILURE, FAILURE_KIND, REPEATS, SPREAD):
            if name in source.user_attrs:
                trial.set_user_attr(name, source.user_attrs[name])
        for name, value in source.constraints.items():
            trial.set_constraint(name, value)
        if len(self._study.directions) == 1:
            for step, value in source.intermediate_values.items():
                trial.report(value, step)
        values = source.values if source.state is TrialState.COMPLETE else None
        return self._report(trial, source.state, values)

    def retry(self, trial: FrozenTrial, failure: Failure) -> FrozenTrial:
        """Queue the point of a trial again, then close the trial as failed.

        In this order: after a kill in between, the next worker finds the trial still running and
        its point already queued. Only one process may do this at a time.

        Raises:
            UpdateFinishedTrialError: another process has closed the trial.

        """
        self._ledger.update()
        if self._study.get_trials(deepcopy=False)[trial.number].state.is_finished():
            raise UpdateFinishedTrialError(f"trial {trial.number} has ended")
        kept = {k: v for k, v in trial.user_attrs.items() if k in (ENQUEUED, FINALIST_OF)}
        attributes = {RETRY_OF: trial.number, **kept}
        # Some samplers keep notes on a point here, such as its generation.
        system = {k: v for k, v in trial.system_attrs.items() if not k.startswith("constraints")}
        again = None
        if OVERRIDES in trial.user_attrs:
            again = optuna.create_trial(
                state=TrialState.WAITING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs=attributes,
                system_attrs={**system, "fixed_params": trial.params},
            )
        elif "fixed_params" in system:
            # The point was given, and the process died before the rest of it was drawn.
            again = optuna.create_trial(
                state=TrialState.WAITING, user_attrs=attributes, system_attrs=system
            )
        if again is not None and not self._ledger.is_queued_again(trial.number):
            self._study.add_trial(again)
        return self.fail(trial.number, failure)

    def _report(
        self, trial: Trial | int, state: TrialState, values: Sequence[float] | None = None
    ) -> FrozenTrial:
        with quiet_optuna():
            frozen = self._study.tell(trial, values, state, skip_if_finished=True)
        self._ledger.note(frozen)
        return frozen

    def _write_failure(self, number: int, failure: Failure) -> None:
        # Not through a Trial: when one is made of a trial that exists, Optuna draws its point anew.
        storage = self._study._storage  # noqa: SLF001 - as above
        trial_id = storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)  # noqa: SLF001 - as above
        storage.set_trial_user_attr(trial_id, FAILURE, failure.text)
        storage.set_trial_user_attr(trial_id, FAILURE_KIND, str(failure.kind))
