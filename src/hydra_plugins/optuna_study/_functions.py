"""Functions that a config names as MODULE.FUNCTION, and the one that takes secrets out of texts."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hydra_plugins.optuna_study._errors import SweepError, first_line

# Takes a text, or plain mappings and lists of texts, and returns the same without secrets.
Redact = Callable[[Any], Any]


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
def load_redact(name: str | None) -> Redact:
    """Load the function that ``hydra.sweeper.redact`` names; null hides nothing.

    Raises:
        SweepError: there is none.

    """
    if name is None:
        return lambda value: value
    found: Redact = load_function(name, key="hydra.sweeper.redact")
    return found


def redact_of(config: DictConfig) -> Redact:
    """Load the function that a config with Hydra's node names."""
    return load_redact(OmegaConf.select(config, "hydra.sweeper.redact"))


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
