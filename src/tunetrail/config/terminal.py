"""What is said on the terminal: without secrets, and without characters that steer it."""

import sys
import threading
import traceback
from types import TracebackType
from typing import TextIO

from tunetrail.config.secrets import redact
from tunetrail.errors import printable


def clean(text: str) -> str:
    """Take out secrets, and show what would steer a terminal."""
    return printable(redact(text))


def say(text: str, *, file: TextIO | None = None) -> None:
    """Print a text, on standard output if no file is given."""
    print(clean(text), file=file, flush=True)


def say_error(text: object) -> None:
    """Print the line that ends a program."""
    say(f"error: {text}", file=sys.stderr)


def clean_tracebacks() -> None:
    """Print what nobody catches without secrets: a message may repeat what was typed."""
    sys.excepthook = _print_traceback
    threading.excepthook = lambda found: _print_traceback(
        found.exc_type, found.exc_value or found.exc_type(), found.exc_traceback
    )


def _print_traceback(
    kind: type[BaseException], error: BaseException, where: TracebackType | None
) -> None:
    say("".join(traceback.format_exception(kind, error, where)).rstrip("\n"), file=sys.stderr)
