"""Errors that a person can fix, each with its remedy.

If the machine failed, the error is the builtin exception too: a program that knows nothing of this
package still recognises it.
"""

import errno
from collections.abc import Iterator


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


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that caused it. The chain may be a circle: each comes once."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
