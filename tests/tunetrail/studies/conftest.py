"""A study in the store of a workspace."""

from pathlib import Path

import pytest
from study_bench import Bench


@pytest.fixture
def bench(workspace: Path) -> Bench:
    return Bench()
