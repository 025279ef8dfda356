"""Checkpoints to train and to ask, made once."""

from functools import lru_cache
from typing import Any

import pytest


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folder of a checkpoint by architecture."""
    from architectures import ARCHITECTURES

    folder = tmp_path_factory.mktemp("saved")
    return lru_cache(lambda name: ARCHITECTURES[name].save(folder / name))
