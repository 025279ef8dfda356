"""How a job ended: the state, values and failure that are reported to the study."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import optuna
from optuna.trial import TrialState

from hydra_plugins.optuna_study._jobs.failure import Failure, FailureKind, classify


@dataclass(frozen=True)
class JobOutcome:
    """How a job ended. A worker sends it to the process of the sweep."""

    state: TrialState
    values: tuple[float, ...] | None = None
    failure: Failure | None = None

    def redacted(self, redact: Callable[[str], str]) -> "JobOutcome":
        """Return the same without secrets in the text of the failure."""
        if self.failure is None:
            return self
        return replace(self, failure=replace(self.failure, text=redact(self.failure.text)))


def read_return(returned: Any, objectives: Sequence[str]) -> JobOutcome:
    """Read what a job returned."""
    values = list(returned) if isinstance(returned, list | tuple) else [returned]
    if len(values) != len(objectives):
        return _unusable(
            f"the job returned {len(values)} values for {len(objectives)} objectives; "
            f"return {', '.join(objectives)} in this order"
        )
    for name, value in zip(objectives, values, strict=True):
        if not isinstance(value, Real) or isinstance(value, bool):
            return _unusable(f"the job returned {value!r} for {name}; return a float")
        if not math.isfinite(value):
            text = f"the job returned {float(value)} for {name}, which is not finite"
            return failed(Failure(FailureKind.NOT_FINITE, f"ValueError: {text}"))
    return JobOutcome(TrialState.COMPLETE, values=tuple(float(value) for value in values))


def read_error(error: BaseException) -> JobOutcome:
    """Read what a job raised."""
    if isinstance(error, optuna.TrialPruned):
        return JobOutcome(TrialState.PRUNED)
    return failed(classify(error))


def failed(failure: Failure) -> JobOutcome:
    return JobOutcome(TrialState.FAIL, failure=failure)


def _unusable(reason: str) -> JobOutcome:
    return failed(Failure(FailureKind.ERROR, f"ValueError: {reason}"))
