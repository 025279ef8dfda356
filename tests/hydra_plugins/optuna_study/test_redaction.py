"""What an app does not want written is written nowhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._functions import load_redact

Sweep = Callable[..., optuna.Study]

# A function that any process finds, and that needs no more than the standard library.
MODULE = """
def redact(value):
    if isinstance(value, dict):
        return {key: redact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [redact(item) for item in value]
    return value.replace("marker", "***") if isinstance(value, str) else value
"""


@pytest.fixture
def function(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (workspace / "hiding.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(workspace))
    return "hydra.sweeper.redact=hiding.redact"


def files_with(folder: Path, text: bytes) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return [path.name for path in files if text in path.read_bytes()]


def test_all_that_a_sweep_writes_goes_through_the_function(
    sweep: Sweep, workspace: Path, function: str
) -> None:
    def fail_once(cfg: Any) -> float:
        if cfg.trial.number == 1:
            raise ValueError("no such marker")
        return float(cfg.n)

    asked = [function, "num_trials=3", "name=my-marker", "hydra.sweeper.max_failure_rate=1"]
    study = sweep(*asked, task=fail_once)
    assert study.trials[1].user_attrs["failure"] == "ValueError: no such ***"
    assert study.user_attrs["fixed_config"]["name"] == "my-***"
    assert study.user_attrs["fixed_overrides"]["name"] == "my-***"
    assert files_with(workspace / "sweeps", b"marker") == []
    assert files_with(workspace / "store", b"marker") == []
    hidden = files_with(workspace / "sweeps", b"***")
    assert {"multirun.yaml", "config.yaml", "overrides.yaml", "hydra.yaml"} <= set(hidden)
    # what is hidden is no change of the study
    asked[2] = "name=my-***"
    assert len(sweep(*asked, task=fail_once).trials) == 4


def test_without_a_function_everything_is_written_as_it_is(sweep: Sweep, workspace: Path) -> None:
    study = sweep("num_trials=1", "name=my-marker")
    assert study.user_attrs["fixed_config"]["name"] == "my-marker"


def test_the_line_that_ends_a_sweep_goes_through_it(sweep: Sweep, function: str) -> None:
    with pytest.raises(SweepError) as caught:
        sweep(function, "hydra.sweeper.storage=marker://host")
    assert "marker" not in str(caught.value)
    assert "***://host" in str(caught.value)


def test_a_function_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(SweepError, match=r"hydra.sweeper.redact=no\.such: no such function"):
        load_redact("no.such", None)
