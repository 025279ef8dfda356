"""Secrets of the app, taken out of all that is written: configs, overrides, errors."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._function import load_function

# Takes a text, or plain mappings and lists of texts, and returns the same without secrets.
Redact = Callable[[Any], Any]


@lru_cache(maxsize=4)
def load_redact(name: str | None) -> Redact:
    """Load the function that ``hydra.sweeper.redact`` names; null hides nothing.

    Raises:
        SweepError: there is none.

    """
    if name is None:
        return _as_it_is
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


def _as_it_is(value: Any) -> Any:
    return value
