import re

from hydra.errors import CompactHydraException

# Control characters, such as those of escape sequences, and marks that turn the direction of text.
_STEERS = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


class SweepError(CompactHydraException):
    """A sweep cannot go on; the message is one line that Hydra prints without a traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Write what steers a terminal as an escape: names and errors may come from anywhere."""
    return _STEERS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


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
