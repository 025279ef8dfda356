"""What an app does not want written is written nowhere."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from hydra_plugins.optuna_study._configs import Composer, number_job
from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._functions import load_redact, redact_command
from hydra_plugins.optuna_study._jobs.job import run_job

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


def test_a_command_to_paste_says_that_something_was_taken_out() -> None:
    command = "python app.py -m hydra.sweeper.storage=postgresql://me:pw@host/db"
    redact = load_redact(None, "postgresql://me:pw@host/db")
    shown = redact_command(redact, command)
    assert "postgresql://me:***@host/db  # put in" in shown
    assert shlex.split(shown, comments=True)[-1].endswith("me:***@host/db")
    assert redact_command(redact, "python app.py -m n=1") == "python app.py -m n=1"


PASSWORD = "Pl4nted%2FSecret"
URL = f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1:1/studies?sslpassword=Pl4ntedToo"
BY_OVERRIDES = "hydra.sweep.subdir='jobs/${hydra.job.override_dirname}'"


def names_and_files_with(folder: Path, *texts: str) -> list[str]:
    paths = [path for path in folder.rglob("*") if "__pycache__" not in path.parts]
    return [
        str(path)
        for path in paths
        for text in texts
        if text in str(path) or (path.is_file() and text.encode() in path.read_bytes())
    ]


@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize("asked", ["", "hydra.sweeper.redact=hiding.redact"])
def test_the_storage_of_a_job_is_in_no_file_and_no_folders_name(
    workspace: Path, function: str, config_loader: ConfigLoader, asked: str
) -> None:
    """Whether or not the app asks for anything to be hidden."""
    storage = f"hydra.sweeper.storage='{URL}'"
    master = config_loader.load_configuration(
        "config", [storage, BY_OVERRIDES, *filter(None, [asked])], RunMode.MULTIRUN
    )
    own = {"trial.storage": URL, "trial.study": "toy", "trial.number": 3}
    config = Composer(config_loader, master).compose(["x=0.5"], own)
    number_job(config, 3)

    def task(cfg: DictConfig) -> float:
        assert cfg.trial.storage == URL
        raise ValueError(f"no route to {cfg.trial.storage}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HydraConfig.instance(), "cfg", None)
        outcome = run_job(
            config, task, callbacks=Callbacks(config), objectives=["score"], capture_output=True
        )
    assert outcome.failure is not None
    folder = workspace / "sweeps" / "toy" / "jobs" / "x=0.5"
    assert (
        "storage: postgresql+psycopg://me:***@" in (folder / ".hydra" / "config.yaml").read_text()
    )
    assert (folder / ".hydra" / "overrides.yaml").read_text() == "- x=0.5\n"
    assert "no route to postgresql+psycopg://me:***@" in (folder / "app.log").read_text()
    assert names_and_files_with(workspace, PASSWORD, "Pl4nted/Secret", "Pl4ntedToo") == []


def test_what_was_typed_names_no_folder_before_it_went_through_the_function(
    function: str, config_loader: ConfigLoader
) -> None:
    master = config_loader.load_configuration("config", [function], RunMode.MULTIRUN)
    config = Composer(config_loader, master).compose(["name=my-marker", "n=2"])
    assert config.hydra.job.override_dirname == "n=2,name=my-***"
    assert config.name == "my-marker"
