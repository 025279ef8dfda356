"""The exceptions that mean: what was asked for cannot be done, and this is the remedy.

Where something of the machine failed, the exception is the builtin one too: a program that knows
nothing of this package can tell what went wrong by its kind.
"""

import contextlib
import errno
from collections.abc import Iterator


class InputError(ValueError):
    """A person's input cannot be used.

    The message is one line: the value, what was found, and the remedy with its config key.
    ``train.py`` prints that line alone; the traceback is there with ``HYDRA_FULL_ERROR=1``.
    """


class OutageError(InputError, ConnectionError):
    """The store or the server of the runs does not answer."""


class DiskFullError(InputError, OSError):
    """There is no space left where something is to be written; ``errno`` is ENOSPC."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.errno = errno.ENOSPC


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Go back from an error through what led to it. The chain may be a circle: each comes once."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextlib.contextmanager
def named_disk_errors() -> Iterator[None]:
    """Say what a full disk is, in whichever library it is met."""
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        if _is_disk_full(error):
            raise DiskFullError(
                "the disk is full: free space where tracking.checkpoint_dir, "
                f"tracking.artifact_dir and tracking.uri lie ({type(error).__name__})"
            ) from error
        raise


def _is_disk_full(error: BaseException) -> bool:
    """Look through the chain: a library's error, or ours of the store, may be its consequence."""
    # The last is how torch.save says it: its file writer knows no error numbers.
    signs = ("No space left", "disk is full", "inline_container")
    return any(
        getattr(link, "errno", None) == errno.ENOSPC or any(sign in str(link) for sign in signs)
        for link in chain_of(error)
    )
