"""Where jobs run: in this process, through a launcher of Hydra, or in processes of their own."""

import contextlib
import logging
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hydra.core.utils import configure_log
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.optuna_study._configs import Composer, number_job, quoted
from hydra_plugins.optuna_study._functions import find_passwords, redact_of
from hydra_plugins.optuna_study._jobs.failure import INTERRUPTED
from hydra_plugins.optuna_study._jobs.interruption import Interruption
from hydra_plugins.optuna_study._jobs.job import append_traceback, run_job
from hydra_plugins.optuna_study._jobs.outcome import JobOutcome, failed, read_error, read_return

log = logging.getLogger(__name__)

# Seconds between two looks at signals and at other processes while jobs run.
POLL_SECONDS = 0.5
# Seconds in which interrupted jobs can close what they have open, before they are killed.
GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class Finished:
    """A job that ended, and the number of its trial."""

    number: int
    outcome: JobOutcome


class Pool(ABC):
    """Takes jobs while workers are free, and returns how they ended."""

    # Whether jobs run on this machine, and see its files.
    is_local = True
    # Jobs that it runs at a time.
    num_workers: int

    @abstractmethod
    def free(self) -> list[dict[str, Any]]:
        """Return the identities of the workers that are free."""

    @abstractmethod
    def start(
        self,
        number: int,
        overrides: Sequence[str],
        own: Mapping[str, Any],
        identity: Mapping[str, Any],
    ) -> None:
        """Give the job of a trial to a free worker.

        Args:
            number: of the trial.
            overrides: of the job.
            own: what the sweeper itself sets in the job's config, dotted key to value. It is no
                override: overrides are written, and may name the job's folder.
            identity: of the worker.

        """

    @abstractmethod
    def wait(self, seconds: float) -> list[Finished]:
        """Wait until a job ends, or for so many seconds."""

    @abstractmethod
    def interrupt(self) -> list[Finished]:
        """End all jobs within seconds."""

    @abstractmethod
    def close(self) -> None:
        """End the workers."""


class App(Protocol):
    """What Hydra gives a sweeper."""

    # Of the whole sweep.
    config: DictConfig
    hydra_context: HydraContext
    launcher: Launcher
    task_function: TaskFunction


@dataclass(eq=False)
class InProcessPool(Pool):
    """One job at a time in this process: a debugger stops in it, and a crash ends the sweep."""

    num_workers = 1

    app: App
    composer: Composer
    objectives: Sequence[str]
    interruption: Interruption
    identity: dict[str, Any]
    _job: tuple[int, Sequence[str], Mapping[str, Any]] | None = field(default=None, init=False)

    def free(self) -> list[dict[str, Any]]:
        return [] if self._job else [self.identity]

    def start(
        self,
        number: int,
        overrides: Sequence[str],
        own: Mapping[str, Any],
        identity: Mapping[str, Any],
    ) -> None:
        del identity
        self._job = (number, overrides, own)

    def wait(self, seconds: float) -> list[Finished]:
        """Run the job: there is nothing else to do meanwhile."""
        if self._job is None:
            time.sleep(seconds)
            return []
        number, overrides, own = self._job
        try:
            with self.interruption.job():
                outcome = self._run(number, overrides, own)
        except KeyboardInterrupt:
            # Also if the job itself raised it: Ctrl-C looks like that from inside.
            self.interruption.requested = True
            outcome = failed(INTERRUPTED)
        except Exception as error:
            # For example, it could not be launched.
            log.debug("trial %d could not be launched", number, exc_info=True)
            outcome = read_error(error)
        finally:
            # The job had its own logging.
            hydra = self.app.config.hydra
            configure_log(hydra.hydra_logging, hydra.verbose)
        self._job = None
        return [Finished(number, outcome)]

    def interrupt(self) -> list[Finished]:
        if self._job is None:
            return []
        number, self._job = self._job[0], None
        return [Finished(number, failed(INTERRUPTED))]

    def close(self) -> None:
        """Do nothing: this process is the worker."""

    def _run(self, number: int, overrides: Sequence[str], own: Mapping[str, Any]) -> JobOutcome:
        config = self.composer.compose(overrides, own)
        number_job(config, number)
        return run_job(
            config,
            self.app.task_function,
            callbacks=self.app.hydra_context.callbacks,
            objectives=self.objectives,
            capture_output=False,
        )


class LauncherPool(InProcessPool):
    """One job at a time through the launcher that ``hydra/launcher`` chose: Ray, Slurm, joblib."""

    is_local = False

    def _run(self, number: int, overrides: Sequence[str], own: Mapping[str, Any]) -> JobOutcome:
        given = [*overrides, *self._as_overrides(own)]
        with _quiet_launcher(self.app.launcher):
            try:
                (job,) = self.app.launcher.launch([given], initial_job_idx=number)
            except KeyboardInterrupt as stop:
                _cancel_submitted(stop)
                raise
        error = job._return_value  # noqa: SLF001 - the property prints what it raises
        if isinstance(error, BaseException):
            outcome = read_error(error)
            if outcome.failure is not None and job.hydra_cfg is not None:
                append_traceback(error, job.hydra_cfg, redact_of(self.app.config))
            return outcome
        return read_return(job.return_value, self.objectives)

    def _as_overrides(self, own: Mapping[str, Any]) -> list[str]:
        """Write what the sweeper sets as overrides: a launcher takes nothing else.

        A password is not among them, since Hydra writes them: the job reads it where the sweeper
        does.
        """
        names = self.app.config.hydra.job.config.override_dirname.exclude_keys
        hidden = ",".join(map(quoted, [*names, *own]))
        return [
            f"hydra.job.config.override_dirname.exclude_keys=[{hidden}]",
            *(
                f"++{key}=${{hydra:sweeper.storage}}"
                if isinstance(value, str) and find_passwords(value)
                else f"++{key}={quoted(value) if isinstance(value, str) else value}"
                for key, value in own.items()
            ),
        ]


def _cancel_submitted(stop: KeyboardInterrupt) -> None:
    """End the jobs that submitit has given to a scheduler: they outlive the process that waits.

    Its launcher keeps them to itself, so they are found where the signal has interrupted it.
    """
    submitit = sys.modules.get("submitit")
    if submitit is None:
        return
    frames = [frame for frame, _ in traceback.walk_tb(stop.__traceback__)]
    values = [value for frame in frames for value in frame.f_locals.values()]
    items = [item for value in values for item in (value if isinstance(value, list) else [value])]
    jobs = {item.job_id: item for item in items if isinstance(item, submitit.Job)}
    for job in jobs.values():
        job.cancel(check=False)
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline and not all(job.done() for job in jobs.values()):
        time.sleep(0.1)


@contextlib.contextmanager
def _quiet_launcher(launcher: Launcher) -> Iterator[None]:
    """Silence what the launcher logs of a job: the study has a line for each trial."""
    logger = logging.getLogger(type(launcher).__module__)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
