"""What went wrong with a job, by what the study should do about it."""

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import InterfaceError, OperationalError

from hydra_plugins.optuna_study import attributes


class FailureKind(StrEnum):
    """Written on a trial as ``failure_kind``."""

    # Stopped from outside, or its process is gone: the point is run again.
    INTERRUPTED = attributes.INTERRUPTED
    # The point does not fit into memory: it is infeasible, and the sampler moves away from it.
    OUT_OF_MEMORY = attributes.OUT_OF_MEMORY
    # The loss or the returned value is NaN or infinite: the point itself is bad.
    NOT_FINITE = "not finite"
    # No point can be run until space is freed: the sweep ends, and this point is run again.
    DISK_FULL = "disk full"
    # A storage or a server does not answer: the point is run again after a while.
    OUTAGE = "outage"
    # The process of the job ended without a message.
    WORKER_DIED = "worker died"
    # In code, config or data: the same one several times in a row ends the sweep.
    ERROR = "error"


# Failures that say nothing about the point: it is queued again.
TRIED_AGAIN = (FailureKind.INTERRUPTED, FailureKind.DISK_FULL, FailureKind.OUTAGE)


@dataclass(frozen=True)
class Failure:
    kind: FailureKind
    # "Type: message", the whole message.
    text: str

    @property
    def pattern(self) -> str:
        """The text without its numbers: another folder, row or trial is the same error."""
        return re.sub(r"\d+", "#", self.text)

    @property
    def line(self) -> str:
        """Kind and first line, for a place that holds one line."""
        first = self.text.splitlines()[0]
        if self.kind in (FailureKind.ERROR, FailureKind.INTERRUPTED):
            return first
        return f"{self.kind} ({first})"


INTERRUPTED = Failure(FailureKind.INTERRUPTED, str(FailureKind.INTERRUPTED))

# What CUDA, cuBLAS and torch's allocator for the host say in a RuntimeError.
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|"
    r"CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
_OUTAGES = (
    ConnectionError, TimeoutError, OperationalError, InterfaceError, StorageInternalError,
)  # fmt: skip
# What SQLite says, and a writer that has lost the error number on the way.
_DISK_FULL = re.compile(r"disk is full|No space left on device", re.IGNORECASE)


def classify(error: BaseException) -> Failure:
    """Find the kind of a failure by the exceptions that led to it.

    The kinds go by Python's own exceptions, so a job needs nothing of this plugin to say what went
    wrong: MemoryError, FloatingPointError, OSError with ENOSPC, ConnectionError and TimeoutError,
    anywhere in the chain of causes.
    """
    message = str(error).strip()
    name = type(error).__name__
    text = f"{name}: {message}" if message else name
    return Failure(_kind(list(_chain(error))), text)


def is_outage(error: BaseException) -> bool:
    """Whether another try may help."""
    return classify(error).kind is FailureKind.OUTAGE


def _kind(chain: list[BaseException]) -> FailureKind:
    for kind, is_kind in (
        (FailureKind.OUT_OF_MEMORY, _is_out_of_memory),
        (FailureKind.DISK_FULL, _is_disk_full),
        (FailureKind.NOT_FINITE, lambda error: isinstance(error, FloatingPointError)),
        (FailureKind.OUTAGE, lambda error: isinstance(error, _OUTAGES)),
    ):
        if any(map(is_kind, chain)):
            return kind
    return FailureKind.ERROR


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return isinstance(error, OperationalError | RuntimeError) and (
        _DISK_FULL.search(str(error)) is not None
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        # Not __context__: the error that was being handled need not be the cause.
        error = error.__cause__
