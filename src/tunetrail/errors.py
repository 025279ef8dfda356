"""The exceptions that mean: what was asked for cannot be done, and this is the remedy.

Where something of the machine failed, the exception is the builtin one too: a program that knows
nothing of this package can tell what went wrong by its kind.
"""

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


def first_line(error: object) -> str:
    """Return the first line of an error's message; the name of its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Go back from an error through what led to it. The chain may be a circle: each comes once."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
