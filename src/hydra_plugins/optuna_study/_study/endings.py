"""How trials end, as it is written into the study and read back."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from hydra_plugins.optuna_study._jobs.failure import INTERRUPTED, TRIED_AGAIN, Failure, FailureKind
from hydra_plugins.optuna_study._jobs.outcome import JobOutcome
from hydra_plugins.optuna_study._study.study import quiet_optuna
from hydra_plugins.optuna_study.attributes import (
    ABANDONED,
    CARRIED,
    ENQUEUED,
    FAILURE,
    FAILURE_KIND,
    FINALIST_OF,
    FITS,
    OVERRIDES,
    REFERENCE,
    REFERENCE_VALUES,
    REPEAT_CONSTRAINTS,
    REPEATS,
    RETRY_OF,
    REUSED_FROM,
    SPREAD,
)

# What says where a point came from.
KEPT = (ENQUEUED, FINALIST_OF, CARRIED, REFERENCE, REFERENCE_VALUES)
# The constraint that a point violates which does not fit into memory.
MEMORY_CONSTRAINT = "out_of_memory"


def read_failure(trial: FrozenTrial) -> Failure | None:
    """Read what went wrong with a trial; None if nothing did."""
    if FAILURE not in trial.user_attrs:
        return None
    kind = FailureKind(trial.user_attrs.get(FAILURE_KIND, FailureKind.ERROR))
    return Failure(kind, trial.user_attrs[FAILURE])


def write_ending(
    study: optuna.Study, trial: Trial, outcome: JobOutcome, repeats: Sequence[Sequence[float]]
) -> FrozenTrial:
    """Write into the study how the last job of a trial ended.

    Args:
        study: of the trial.
        trial: whose job it was.
        outcome: of the job.
        repeats: the values of all jobs of the trial, a list for each job.

    Raises:
        UpdateFinishedTrialError: another process has closed the trial.

    """
    state, values, failure = outcome.state, outcome.values, outcome.failure
    if failure and failure.kind in TRIED_AGAIN:
        return retry(study, trial.number, failure)
    if values is not None and len(repeats) > 1:
        columns = list(zip(*repeats, strict=True))
        values = tuple(map(fmean, columns))
        trial.set_user_attr(REPEATS, repeats)
        trial.set_user_attr(SPREAD, list(map(stdev, columns)))
    if failure:
        _write_failure(study, trial.number, failure)
        if failure.kind is FailureKind.OUT_OF_MEMORY:
            # A sampler learns nothing from a failed trial. A pruned one that violates a
            # constraint makes TPE look elsewhere.
            trial.set_constraint(MEMORY_CONSTRAINT, 1.0)
            state = TrialState.PRUNED
    return _tell(study, trial, state, values)


def fail(study: optuna.Study, number: int, failure: Failure) -> FrozenTrial:
    """Close a trial as failed."""
    _write_failure(study, number, failure)
    return _tell(study, number, TrialState.FAIL)


def reuse(study: optuna.Study, trial: Trial, source: FrozenTrial) -> FrozenTrial:
    """Give a trial all that the finished trial of the same point has."""
    trial.set_user_attr(REUSED_FROM, source.number)
    for name in (FAILURE, FAILURE_KIND, REPEATS, SPREAD):
        if name in source.user_attrs:
            trial.set_user_attr(name, source.user_attrs[name])
    for name, value in source.constraints.items():
        trial.set_constraint(name, value)
    if len(study.directions) == 1:
        for step, value in source.intermediate_values.items():
            trial.report(value, step)
    values = source.values if source.state is TrialState.COMPLETE else None
    return _tell(study, trial, source.state, values)


def abandon(study: optuna.Study, number: int) -> FrozenTrial:
    """Close a trial whose process is gone, as :func:`retry` does."""
    _mark(study, number, ABANDONED, True)
    return retry(study, number, INTERRUPTED)


def retry(study: optuna.Study, number: int, failure: Failure) -> FrozenTrial:
    """Queue the point of a trial again, then close the trial as failed.

    In this order: after a kill in between, the next worker finds the trial still running and
    its point already queued. Only one process may do this at a time.

    Raises:
        UpdateFinishedTrialError: another process has closed the trial.

    """
    trials = study.get_trials(deepcopy=False)
    trial = trials[number]
    if trial.state.is_finished():
        raise UpdateFinishedTrialError(f"trial {number} has ended")
    if any(other.user_attrs.get(RETRY_OF) == number for other in trials):
        return fail(study, number, failure)
    kept = {k: v for k, v in trial.user_attrs.items() if k in KEPT}
    for name in (REPEAT_CONSTRAINTS, FITS):
        if CARRIED in kept and name in trial.user_attrs:
            kept[name] = trial.user_attrs[name][: len(kept[CARRIED])]
    attributes = {RETRY_OF: number, **kept}
    # Some samplers keep notes on a point here, such as its generation.
    system = {k: v for k, v in trial.system_attrs.items() if not k.startswith("constraints")}
    is_drawn = OVERRIDES in trial.user_attrs
    if is_drawn:
        system["fixed_params"] = trial.params
    # Else the process died before all of the point was drawn: only what was given is kept.
    if "fixed_params" in system:
        again = optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params if is_drawn else {},
            distributions=trial.distributions if is_drawn else {},
            user_attrs=attributes,
            system_attrs=system,
        )
        study.add_trial(again)
    return fail(study, number, failure)


def _tell(
    study: optuna.Study,
    trial: Trial | int,
    state: TrialState,
    values: Sequence[float] | None = None,
) -> FrozenTrial:
    with quiet_optuna():
        told = study.tell(trial, values, state, skip_if_finished=True)
    if told.state is not state:
        raise UpdateFinishedTrialError(f"trial {told.number} has ended as {told.state.name}")
    return told


def _write_failure(study: optuna.Study, number: int, failure: Failure) -> None:
    _mark(study, number, FAILURE, failure.text)
    _mark(study, number, FAILURE_KIND, str(failure.kind))


def _mark(study: optuna.Study, number: int, name: str, value: Any) -> None:
    # Not through a Trial: when one is made of a trial that exists, Optuna draws its point anew.
    storage = study._storage  # noqa: SLF001 - Optuna has no public way to mark a trial by its number
    trial_id = storage.get_trial_id_from_study_id_trial_number(study._study_id, number)  # noqa: SLF001 - as above
    storage.set_trial_user_attr(trial_id, name, value)
