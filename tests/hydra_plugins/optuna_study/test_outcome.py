"""What a job brings back becomes the state, values and failure of its trial."""

import math

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from hydra_plugins.optuna_study._jobs.failure import Failure, FailureKind
from hydra_plugins.optuna_study._jobs.outcome import JobOutcome, read_error, read_return


@pytest.mark.parametrize("value", [0.5, [0.5], (0.5,), np.float32(0.5), np.float64(0.5)])
def test_a_number_is_the_value(value):
    outcome = read_return(value, ["score"])
    assert outcome == JobOutcome(TrialState.COMPLETE, values=(0.5,))
    assert type(outcome.values[0]) is float


def test_several_objectives_are_reported_in_their_order():
    outcome = read_return([1, 2.5], ["score", "time"])
    assert outcome == JobOutcome(TrialState.COMPLETE, values=(1.0, 2.5))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "the job returned nan for score, which is not finite"),
        (-math.inf, "the job returned -inf for score, which is not finite"),
        ("0.5", "the job returned '0.5' for score; return a float"),
        (True, "the job returned True for score; return a float"),
        (None, "the job returned None for score; return a float"),
        ([1, 2], "the job returned 2 values for 1 objectives; return score in this order"),
    ],
)
def test_an_unusable_value_is_a_failure_with_its_reason(value, reason):
    outcome = read_return(value, ["score"])
    kind = FailureKind.NOT_FINITE if "finite" in reason else FailureKind.ERROR
    assert outcome == JobOutcome(TrialState.FAIL, failure=Failure(kind, f"ValueError: {reason}"))


def test_a_pruned_job_is_no_failure():
    assert read_error(optuna.TrialPruned()) == JobOutcome(TrialState.PRUNED)


def test_an_error_is_reported_in_full():
    failure = Failure(FailureKind.ERROR, "KeyError: 'a\\nb'")
    assert read_error(KeyError("a\nb")) == JobOutcome(TrialState.FAIL, failure=failure)


def test_an_error_without_a_message_is_its_type():
    assert read_error(ValueError()).failure.text == "ValueError"
