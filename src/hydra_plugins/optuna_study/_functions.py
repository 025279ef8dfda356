"""Functions that a config names as MODULE.FUNCTION, and the one that takes secrets out of texts."""

import importlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

from omegaconf import DictConfig

from hydra_plugins.optuna_study._errors import SweepError, first_line

# Takes a text, or plain mappings and lists of texts, and returns the same without secrets.
Redact = Callable[[Any], Any]

# A shorter password is hidden only where it stands in a URL.
_MIN_LENGTH = 8


def load_function(name: str, *, key: str) -> Any:
    """Import the function that a key names.

    Raises:
        SweepError: there is no such function.

    """
    try:
        module, _, function = name.rpartition(".")
        return getattr(importlib.import_module(module), function)
    except Exception as error:
        raise SweepError(
            f"{key}={name}: no such function ({first_line(error)}); give MODULE.FUNCTION"
        ) from error


@lru_cache(maxsize=4)
def load_redact(name: str | None, storage: object) -> Redact:
    """Load the function that ``hydra.sweeper.redact`` names; null hides no more than passwords.

    Args:
        name: MODULE.FUNCTION.
        storage: of the studies. Its password is hidden, whatever an app asks for: the sweeper
            itself gives it to every job.

    Raises:
        SweepError: there is no such function.

    """
    found = None if name is None else load_function(name, key="hydra.sweeper.redact")
    hidden = find_passwords(str(storage))

    def redact(value: Any) -> Any:
        if hidden:
            value = _replace(value, hidden)
        return value if found is None else found(value)

    return redact


def find_passwords(storage: str) -> tuple[str, ...]:
    """List the ways in which the password of a database's URL is written."""
    # As SQLAlchemy reads it, which decodes it. An invalid URL may still hold one.
    spelled = re.findall(r"://[^:/@\s]*:([^@\s]+)@", storage)
    spelled += re.findall(r"[?&]\w*(?:pass|pwd)\w*=([^&#\s]+)", storage)
    plain = [unquote(text) for text in spelled]
    quoted = [quote(text, safe=safe) for text in plain for safe in ("", " +")]
    return tuple(sorted({*spelled, *plain, *quoted}, key=len, reverse=True))


def _replace(value: Any, hidden: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _replace(item, hidden) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, hidden) for item in value]
    if not isinstance(value, str):
        return value
    for text in hidden:
        # A short one is found in other words.
        value = value.replace(f":{text}@", ":***@").replace(f"={text}", "=***")
        value = value.replace(text, "***") if len(text) >= _MIN_LENGTH else value
    return value


def redact_command(redact: Redact, text: str) -> str:
    """Take secrets out of a text that ends in commands to paste; say so, for they are needed."""
    shown = str(redact(text))
    return shown if shown == text else f"{shown}  # put in what was typed where it says ***"


def redact_of(config: DictConfig) -> Redact:
    """Load the function that a config with Hydra's node names."""
    sweeper = config.hydra.sweeper
    return load_redact(sweeper.get("redact"), sweeper.get("storage"))


@contextmanager
def redacted_errors(redact: Redact) -> Iterator[None]:
    """Take secrets out of the line that ends a sweep."""
    shown = None
    try:
        yield
    except SweepError as error:
        text = redact(str(error))
        if text == str(error):
            raise
        shown = SweepError(text)
    # Raised here: inside the except block its context would show the secret.
    if shown is not None:
        raise shown
