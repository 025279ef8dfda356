"""The exceptions that mean: what was asked for cannot be done, and this is the remedy.

Where something of the machine failed, the exception is the builtin one too: a program that knows
nothing of this package can tell what went wrong by its kind.
"""

import errno


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
