"""What the app does not want written: passwords in URLs, tokens in overrides and in errors."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._function import load_function

# Takes a text, or plain mappings and lists of texts, and gives the same back without secrets.
Redact = Callable[[Any], Any]


@lru_cache(maxsize=4)
def load_redact(name: str | None) -> Redact:
    """Find the function that ``hydra.sweeper.redact`` names; null hides nothing.

    Raises:
        SweepError: there is none.

    """
    if name is None:
        return _as_it_is
    found: Redact = load_function(name, key="hydra.sweeper.redact")
    return found


@contextmanager
def redacted_errors(redact: Redact) -> Iterator[None]:
    """Take what is secret out of the line that ends a sweep."""
    shown = None
    try:
        yield
    except SweepError as error:
        text = redact(str(error))
        if text == str(error):
            raise
        shown = SweepError(text)
    # Raised out here: inside, its context would show what it hides.
    if shown is not None:
        raise shown


def _as_it_is(value: Any) -> Any:
    return value
