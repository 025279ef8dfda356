"""Errors of jobs, by what the study should do about them."""

import errno
import pickle

import pytest
from hydra.errors import InstantiationException
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import IntegrityError, OperationalError

from hydra_plugins.optuna_study._jobs.failure import Failure, FailureKind, classify


class OutOfMemoryError(RuntimeError):
    """torch's own has this name."""


def caused(error, cause):
    try:
        raise error from cause
    except type(error) as raised:
        return raised


def sqlite(message):
    return OperationalError("INSERT …", {}, Exception(message))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "out of memory"),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out of memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            "out of memory",
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory"),
        (caused(InstantiationException("in model"), MemoryError()), "out of memory"),
        (FloatingPointError("loss is nan"), "not finite"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk full"),
        (caused(ValueError("could not save"), OSError(errno.ENOSPC, "x")), "disk full"),
        (sqlite("database or disk is full"), "disk full"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "outage"),
        (TimeoutError("no answer"), "outage"),
        (sqlite("database is locked"), "outage"),
        (caused(StorageInternalError("An exception is raised"), sqlite("gone")), "outage"),
        (IntegrityError("INSERT …", {}, Exception("UNIQUE")), "error"),
        (ValueError("wrong"), "error"),
        (RuntimeError("size mismatch"), "error"),
        (FileNotFoundError("x.csv"), "error"),
    ],
)
def test_the_chain_of_causes_gives_the_kind(error, kind):
    assert classify(error).kind == FailureKind(kind)


def test_an_error_that_was_being_handled_is_not_the_cause():
    error = KeyError("missing")
    error.__context__ = TimeoutError()
    assert classify(error).kind is FailureKind.ERROR
    assert classify(caused(error, TimeoutError())).kind is FailureKind.OUTAGE


def test_a_chain_may_be_a_circle():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert classify(first).kind is FailureKind.ERROR


def test_errors_that_differ_in_their_numbers_are_the_same():
    assert classify(ValueError("row 3 of trial-7")).pattern == (
        classify(ValueError("row 41 of trial-12")).pattern
    )
    assert classify(ValueError("row 3")).pattern != classify(KeyError("row 3")).pattern


def test_a_failure_is_one_line_for_people_and_crosses_processes():
    failure = classify(MemoryError("no room\nat all"))
    assert failure.line == "out of memory (MemoryError: no room)"
    assert failure.text == "MemoryError: no room\nat all"
    assert pickle.loads(pickle.dumps(failure)) == failure
    assert Failure(FailureKind.ERROR, "ValueError: a\nb").line == "ValueError: a"
