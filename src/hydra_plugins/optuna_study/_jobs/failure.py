"""What went wrong with a job, told apart by what the study should do about it."""

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

    # Stopped from outside, or its process is gone: the point is tried again.
    INTERRUPTED = attributes.INTERRUPTED
    # The machine cannot hold this point: it is infeasible, and the sampler moves away from it.
    OUT_OF_MEMORY = attributes.OUT_OF_MEMORY
    # The point's own fault: the loss or the returned value is NaN or infinite.
    NOT_FINITE = "not finite"
    # No point can be run until space is freed: the sweep ends, this point is tried again.
    DISK_FULL = "disk full"
    # A store or a server does not answer: the point is tried again after a while.
    OUTAGE = "outage"
    # The process that ran the job ended without a word.
    WORKER_DIED = "worker died"
    # In code, config or data: the same one again and again ends the sweep.
    ERROR = "error"


# The point says nothing about itself: it goes back into the queue.
TRIED_AGAIN = (FailureKind.INTERRUPTED, FailureKind.DISK_FULL, FailureKind.OUTAGE)


@dataclass(frozen=True)
class Failure:
    kind: FailureKind
    # "Type: message", the whole message.
    text: str

    @property
    def pattern(self) -> str:
        """The text without its numbers: a folder, a row or a trial in it makes no other error."""
        return re.sub(r"\d+", "#", self.text)

    @property
    def line(self) -> str:
        """Kind and first line, for a place that holds one line."""
        first = self.text.splitlines()[0]
        if self.kind in (FailureKind.ERROR, FailureKind.INTERRUPTED):
            return first
        return f"{self.kind} ({first})"


INTERRUPTED = Failure(FailureKind.INTERRUPTED, str(FailureKind.INTERRUPTED))

# Frameworks raise what Python has no exception for as RuntimeError, in words of their own: CUDA,
# cuBLAS, the allocator of torch for the host.
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|"
    r"CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
# SQLite's words, and those of a writer that lost the error number on the way.
_DISK_FULL = re.compile(r"disk is full|No space left on device", re.IGNORECASE)


def classify(error: BaseException) -> Failure:
    """Tell a failure apart by the exceptions that led to it.

    The kinds are Python's own where it has them, so that a job needs nothing of this plugin to
    say what went wrong: MemoryError, FloatingPointError, OSError with ENOSPC, ConnectionError and
    TimeoutError, anywhere in the chain of causes.
    """
    message = str(error).strip()
    name = type(error).__name__
    text = f"{name}: {message}" if message else name
    return Failure(_kind(list(_chain(error))), text)


def is_outage(error: BaseException) -> bool:
    """Whether asking again may help."""
    return classify(error).kind is FailureKind.OUTAGE


def _kind(chain: list[BaseException]) -> FailureKind:
    for kind, tells in (
        (FailureKind.OUT_OF_MEMORY, _tells_memory),
        (FailureKind.DISK_FULL, _tells_disk),
        (FailureKind.NOT_FINITE, _tells_number),
        (FailureKind.OUTAGE, _tells_outage),
    ):
        if any(tells(error) for error in chain):
            return kind
    return FailureKind.ERROR


def _tells_memory(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None


def _tells_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return isinstance(error, OperationalError | RuntimeError) and (
        _DISK_FULL.search(str(error)) is not None
    )


def _tells_number(error: BaseException) -> bool:
    return isinstance(error, FloatingPointError)


def _tells_outage(error: BaseException) -> bool:
    outages = (ConnectionError, TimeoutError, OperationalError, InterfaceError)
    return isinstance(error, (*outages, StorageInternalError))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        # Not __context__: what was being handled at that moment need not be the reason.
        error = error.__cause__
