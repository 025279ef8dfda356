from hydra.errors import CompactHydraException


class SweepError(CompactHydraException):
    """A sweep cannot go on; the message is one line that Hydra prints without a traceback."""


class ForeignPointError(Exception):
    """The point of a queued trial is not in the search space."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"its point is not in the search space ({reason})")


def first_line(error: BaseException) -> str:
    """``Type: message`` with the first line of the message, for a place that holds one line."""
    name, message = type(error).__name__, message_line(error)
    return f"{name}: {message}" if message != name else name


def message_line(error: BaseException) -> str:
    """Return the first line of a message that is written for a person, or the type without one."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
