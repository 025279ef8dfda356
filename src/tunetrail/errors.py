"""Errors that a person can fix, each with its remedy.

If the machine failed, the error is the builtin exception too: a program that knows nothing of this
package still recognises it.
"""

import contextlib
import errno
from collections.abc import Iterator
from textwrap import shorten


class InputError(ValueError):
    """A person's input cannot be used.

    The message is one line: the value, what was found, and the remedy with its config key.
    ``train.py`` prints that line alone; ``HYDRA_FULL_ERROR=1`` shows the traceback.
    """


class OutageError(InputError, ConnectionError):
    """The store of the runs, or its server, does not answer."""


class DiskFullError(InputError, OSError):
    """The disk is full; ``errno`` is ENOSPC."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.errno = errno.ENOSPC


def first_line(error: object) -> str:
    """Return the first line of an error's message; the name of its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def one_line(error: object) -> str:
    """Return an error's message as one line that is not too long; else the name of its type."""
    return shorten(str(error), 300, placeholder=" …").rstrip(".") or type(error).__name__


def describe(error: BaseException) -> str:
    """Return the type of an error and its message, if it has one."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that caused it. The chain may be a circle: each comes once."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


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
