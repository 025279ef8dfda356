"""What names the store of the runs: a key of the config, or an option of a command."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import yaml  # type: ignore[import-untyped] # PyYAML ships no types

from tunetrail.config.project import ROOT
from tunetrail.config.secrets import redact

_key: ContextVar[str] = ContextVar("store_key", default="tracking.uri")


def store_key() -> str:
    """Return what a person sets to choose another store."""
    return _key.get()


def show_store(uri: str) -> str:
    """Write a store as the start of a message has it."""
    return f"{store_key()}={redact(uri)}"


def default_store() -> str:
    """Return the URI that the config has, which commands take, too."""
    return str(_read_config()["tracking"]["uri"])


def default_storage() -> str:
    """Return the URL of the studies that the config has, which commands take, too."""
    return str(_read_config()["hydra"]["sweeper"]["storage"])


def _read_config() -> Any:
    return yaml.safe_load((ROOT / "conf" / "config.yaml").read_text("utf-8"))


@contextlib.contextmanager
def store_named(key: str) -> Iterator[None]:
    """Let messages name the store by another key meanwhile."""
    token = _key.set(key)
    try:
        yield
    finally:
        _key.reset(token)
