"""Sweeps of the toy app in ``app/``: in this process, or as a person runs it."""

import logging
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra

from .toy_callback import EVENTS

APP = Path(__file__).parent / "app" / "app.py"
CONF = str(APP.parent / "conf")
job = runpy.run_path(str(APP))["job"]

Sweep = Callable[..., optuna.Study]
Launch = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def _no_events() -> None:
    EVENTS.clear()


@pytest.fixture
def config_loader() -> Iterator[ConfigLoader]:
    """What finds the options of the toy app's config groups."""
    with initialize_config_dir(CONF, version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables made: making them takes half a second, copying it none."""
    path = tmp_path_factory.mktemp("database") / "optuna.db"
    optuna.storages.RDBStorage(f"sqlite:///{path}").engine.dispose()
    return path


@pytest.fixture
def workspace(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    shutil.copy(empty_database, tmp_path / "store")
    return tmp_path


@pytest.fixture
def load_study(workspace: Path) -> Sweep:
    def load(name: str = "toy") -> optuna.Study:
        return optuna.load_study(study_name=name, storage=f"sqlite:///{workspace}/store/optuna.db")

    return load


@pytest.fixture
def load_finals(load_study: Sweep) -> Sweep:
    """The finals of two seeds, if no others are named."""
    return lambda name="toy-finals-2": load_study(name)


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Take back what Hydra sets up for a job, and close its files."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers, root.level = handlers, level


@pytest.fixture
def sweep(load_study: Sweep, monkeypatch: pytest.MonkeyPatch, own_logging: None) -> Sweep:
    """Run ``python app.py -m …`` in this process and return the study."""
    monkeypatch.setattr(sys, "argv", ["app.py", "-m"])

    def run(
        *overrides: str, task: Callable[..., Any] = job, study: str = "toy", conf: str = CONF
    ) -> optuna.Study:
        with initialize_config_dir(conf, version_base="1.3"):
            GlobalHydra.instance().hydra.multirun(
                config_name="config", task_function=task, overrides=[*overrides, f"study={study}"]
            )
        return load_study(study)

    return run


@pytest.fixture
def launch(workspace: Path) -> Iterator[Launch]:
    """Start ``python app.py …`` as a process of its own; none outlives the test."""
    processes = []

    def start(*arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, str(APP), *arguments],
            cwd=workspace,
            env=dict(os.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()
