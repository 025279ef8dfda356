"""Errors that a person can fix, each with its remedy.

If the machine failed, the error is the builtin exception too: a program that knows nothing of this
package still recognises it.
"""

import contextlib
import difflib
import errno
import re
from collections.abc import Iterable, Iterator
from textwrap import shorten

# What steers a terminal: control characters, such as those of escape sequences, marks that turn the
# direction of text, tags, and bytes of a file's name that are no text. "\r\n" only ends a line.
_STEERS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]|\r(?!\n)"
)


def printable(text: str) -> str:
    """Write what steers a terminal as an escape: names may come from anywhere."""
    return _STEERS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


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


def one_line(error: object, *, most: int | None = None) -> str:
    """Return an error's message in one line; the name of its type where it has none.

    ``most`` is how many characters are kept; None: all.
    """
    message = " ".join(str(error).split())
    if most is not None:
        message = shorten(message, most, placeholder=" …")
    return message.rstrip(".") or type(error).__name__


def did_you_mean(name: str, known: Iterable[str], *, before: str = "") -> str:
    """Return a question that names the most similar of some names, or nothing.

    Args:
        name: that was given.
        known: names that there are.
        before: what stands before each of them in a config.

    """
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {before}{near[0]}?" if near else ""


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
        if is_disk_full(error):
            raise DiskFullError(
                "the disk is full: free space where tracking.checkpoint_dir, "
                f"tracking.artifact_dir and tracking.uri lie ({type(error).__name__})"
            ) from error
        raise


def is_disk_full(error: BaseException) -> bool:
    """Look through the chain: a library's error, or ours of the store, may be its consequence."""
    # The last is how torch.save says it: its file writer knows no error numbers.
    signs = ("No space left", "disk is full", "inline_container")
    return any(
        getattr(link, "errno", None) == errno.ENOSPC or any(sign in str(link) for sign in signs)
        for link in chain_of(error)
    )
