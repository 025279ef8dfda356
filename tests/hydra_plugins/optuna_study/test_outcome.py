"""What a job brings back becomes the state, values and failure of its trial."""

import math

import numpy as np
import optuna
import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf
from optuna.trial import TrialState

from hydra_plugins.optuna_study._outcome import Outcome, read_outcome


def returned(value):
    return JobReturn(status=JobStatus.COMPLETED, _return_value=value)


def raised(error, hydra_cfg=None):
    return JobReturn(status=JobStatus.FAILED, _return_value=error, hydra_cfg=hydra_cfg)


@pytest.mark.parametrize("value", [0.5, [0.5], (0.5,), np.float32(0.5), np.float64(0.5)])
def test_a_number_is_the_value(value):
    outcome = read_outcome(returned(value), ["score"])
    assert outcome == Outcome(TrialState.COMPLETE, values=(0.5,))
    assert type(outcome.values[0]) is float


def test_several_objectives_are_told_in_their_order():
    outcome = read_outcome(returned([1, 2.5]), ["score", "time"])
    assert outcome == Outcome(TrialState.COMPLETE, values=(1.0, 2.5))


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
    outcome = read_outcome(returned(value), ["score"])
    assert outcome == Outcome(TrialState.FAIL, failure=f"ValueError: {reason}")


def test_a_pruned_job_is_no_failure(capfd):
    assert read_outcome(raised(optuna.TrialPruned()), ["score"]) == Outcome(TrialState.PRUNED)
    assert capfd.readouterr().err == ""


def test_an_error_is_told_in_full_and_its_traceback_logged(tmp_path, capfd):
    path = tmp_path / "app.log"
    path.write_text("before\n", encoding="utf-8")
    handlers = {"file": {"filename": str(path)}, "console": {"stream": "ext://sys.stdout"}}
    hydra_cfg = OmegaConf.create({"hydra": {"job_logging": {"handlers": handlers}}})
    outcome = read_outcome(raised(KeyError("a\nb"), hydra_cfg), ["score"])
    assert outcome == Outcome(TrialState.FAIL, failure="KeyError: 'a\\nb'")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("before\nTraceback")
    assert text.endswith("KeyError: 'a\\nb'\n")
    assert capfd.readouterr().err == ""


def test_an_error_without_a_message_is_its_type():
    assert read_outcome(raised(MemoryError()), ["score"]).failure == "MemoryError"
