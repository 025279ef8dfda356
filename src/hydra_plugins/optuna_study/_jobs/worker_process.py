"""A long-lived worker, seen from inside: it imports once, then runs one job after the other.

The process of the sweep draws points, composes configs and reports; a worker only runs jobs. It
ends when the process of the sweep ends, however that ends.
"""

import contextlib
import importlib
import os
import pickle
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import parent_process
from pathlib import Path
from types import FrameType
from typing import Any

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra.core.utils import JobRuntime, setup_globals
from hydra.types import TaskFunction
from omegaconf import DictConfig

from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._jobs.failure import INTERRUPTED
from hydra_plugins.optuna_study._jobs.job import run_job
from hydra_plugins.optuna_study._jobs.outcome import failed, read_error
from hydra_plugins.optuna_study._jobs.workers import Worker


@dataclass(frozen=True)
class TaskName:
    """Where another process finds a job's function."""

    module: str
    name: str
    # How many decorators to remove; hydra.main is the outermost.
    num_wrappers: int

    def find(self) -> TaskFunction:
        found: Any = sys.modules.get(self.module) or importlib.import_module(self.module)
        for part in self.name.split("."):
            found = getattr(found, part)
        for _ in range(self.num_wrappers):
            found = found.__wrapped__
        return found  # type: ignore[no-any-return] # whatever the app decorated


@dataclass(frozen=True)
class Assignment:
    """What a worker needs before its first job."""

    task: TaskName
    objectives: tuple[str, ...]
    version_base: str | None
    job_name: str
    workers_dir: Path


def name_task(task_function: TaskFunction, *, key: str) -> TaskName:
    """Name the function of a job so that another process finds it.

    Raises:
        SweepError: its name does not lead back to it, for example because it is a nested function.

    """
    module = task_function.__module__
    name = getattr(task_function, "__qualname__", type(task_function).__name__)
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    num_wrappers = 0
    while found is not None and found is not task_function:
        found = getattr(found, "__wrapped__", None)
        num_wrappers += 1
    if found is None:
        raise SweepError(
            f"{key}: the job {name} cannot be found from another process; define it at the top "
            "level of its module, or use one worker"
        )
    return TaskName(module, name, num_wrappers)


def serve(connection: Connection, assignment: Assignment) -> None:
    """Run the jobs that come in until the connection is closed."""
    # A terminal sends Ctrl-C to the whole group; the process of the sweep decides what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _Stop())
    _follow_parent()
    version.setbase(assignment.version_base)
    setup_globals()
    JobRuntime.instance().set("name", assignment.job_name)
    task_function = assignment.task.find()
    callbacks: Callbacks | None = None
    # The sweep may end, and close the connection, at any moment.
    with Worker(assignment.workers_dir) as worker, contextlib.suppress(EOFError, OSError):
        connection.send(worker.identity)
        while True:
            config: DictConfig = pickle.loads(connection.recv_bytes())  # noqa: S301 - from the process that started this one
            callbacks = callbacks or Callbacks(config)
            connection.send(_run(config, task_function, callbacks, assignment.objectives))


def _run(
    config: DictConfig,
    task_function: TaskFunction,
    callbacks: Callbacks,
    objectives: Sequence[str],
) -> Any:
    try:
        _Stop.armed = True
        try:
            return run_job(
                config,
                task_function,
                callbacks=callbacks,
                objectives=objectives,
                capture_output=True,
            )
        finally:
            _Stop.armed = False
    except KeyboardInterrupt:
        return failed(INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - for example, the folder of the job could not be made
        return read_error(error)


class _Stop:
    """SIGTERM interrupts a job, which closes what it has open; between jobs it does nothing."""

    armed = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if _Stop.armed:
            _Stop.armed = False
            raise KeyboardInterrupt


def _follow_parent() -> None:
    """End at once when the process of the sweep is gone; the next one runs its trials again."""
    parent = parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
