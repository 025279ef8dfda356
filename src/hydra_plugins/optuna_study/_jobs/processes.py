"""Long-lived processes that run jobs, replaced when they die, and stopped within seconds."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from hydra.core.utils import env_override

from hydra_plugins.optuna_study._configs import Composer, number_job
from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._jobs.devices import worker_environment
from hydra_plugins.optuna_study._jobs.failure import INTERRUPTED, Failure, FailureKind
from hydra_plugins.optuna_study._jobs.interruption import Interruption
from hydra_plugins.optuna_study._jobs.outcome import JobOutcome, failed, read_error
from hydra_plugins.optuna_study._jobs.pool import GRACE_SECONDS, POLL_SECONDS, Finished, Pool
from hydra_plugins.optuna_study._jobs.worker_process import Assignment, serve

# Workers that end before they take a job, this many times in a row, end the sweep.
MAX_START_FAILURES = 3


@dataclass(eq=False)
class _Member:
    """The process of a worker, seen from outside."""

    index: int
    process: SpawnProcess
    connection: Connection
    # None until it has reported that it is ready.
    identity: dict[str, Any] | None = None
    number: int | None = None
    # Processes that the kernel had killed for memory when its job started.
    oom_kills: int = 0


@dataclass(eq=False)
class ProcessPool(Pool):
    """Long-lived processes. Each takes the next job as soon as it is free."""

    composer: Composer
    assignment: Assignment
    interruption: Interruption
    num_workers: int
    workers_per_gpu: int
    _num_start_failures: int = field(default=0, init=False)
    # What wait returns or raises at its next call.
    _finished: list[Finished] = field(default_factory=list, init=False)
    _broken: SweepError | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._members = [self._spawn(index) for index in range(self.num_workers)]

    def free(self) -> list[dict[str, Any]]:
        return [m.identity for m in self._members if m.identity is not None and m.number is None]

    def start(
        self,
        number: int,
        overrides: Sequence[str],
        own: Mapping[str, Any],
        identity: Mapping[str, Any],
    ) -> None:
        try:
            config = self.composer.compose(overrides, own)
        except Exception as error:  # noqa: BLE001 - of this point; the next one may be composed
            self._finished.append(Finished(number, read_error(error)))
            return
        number_job(config, number)
        member = next((m for m in self._members if m.identity == identity), None)
        if member is None:
            # It died between two jobs of the trial and was replaced.
            death = Failure(FailureKind.WORKER_DIED, "its process ended between two seeds")
            self._finished.append(Finished(number, failed(death)))
            return
        member.number = number
        member.oom_kills = _count_oom_kills()
        # A worker that has died meanwhile is found in wait.
        with contextlib.suppress(OSError):
            member.connection.send_bytes(pickle.dumps(config))

    def wait(self, seconds: float) -> list[Finished]:
        """Wait for jobs to end.

        Raises:
            SweepError: workers end before they can take a job.

        """
        if self._broken:
            raise self._broken
        finished, self._finished = self._finished, []
        for member in self._ready(self._members, 0.0 if finished else seconds):
            if member not in self._members:
                continue  # replaced a moment ago: both of its handles were ready
            message = self._receive(member)
            if message is None:
                finished += self._replace(member)
            elif isinstance(message, JobOutcome):
                finished.append(_end_job(member, message))
                if message.failure and message.failure.kind is FailureKind.OUT_OF_MEMORY:
                    # What the error still refers to would take memory from the next job.
                    self._renew(member)
            else:
                member.identity = message
                self._num_start_failures = 0
        return finished

    def _ready(self, members: Sequence[_Member], seconds: float) -> list[_Member]:
        """Wait until a worker sends a message or ends.

        If a job has forked, its child keeps both pipes open, and neither shows that the worker has
        died. So the processes themselves are checked too.
        """
        by_handle: dict[Any, _Member] = {m.connection: m for m in members}
        by_handle |= {m.process.sentinel: m for m in members}
        ready = [by_handle[handle] for handle in wait(list(by_handle), timeout=seconds)]
        return ready + [m for m in members if m.process.exitcode is not None]

    def interrupt(self) -> list[Finished]:
        busy = [m for m in self._members if m.number is not None]
        for member in busy:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member.process.pid or 0, signal.SIGTERM)
        finished, self._finished = self._finished, []
        deadline = time.monotonic() + GRACE_SECONDS
        while busy and time.monotonic() < deadline and not self.interruption.is_urgent:
            for member in set(self._ready(busy, POLL_SECONDS)):
                busy.remove(member)
                message = self._receive(member)
                # A job that ended just now has a result like any other.
                outcome = message if isinstance(message, JobOutcome) else failed(INTERRUPTED)
                finished.append(_end_job(member, outcome))
        for member in busy:
            member.process.kill()
            finished.append(_end_job(member, failed(INTERRUPTED)))
        return finished

    def close(self) -> None:
        for member in self._members:
            member.connection.close()
            if member.identity is None:
                member.process.kill()
        for member in self._members:
            member.process.join(GRACE_SECONDS)
            member.process.kill()
            member.process.join()

    def _spawn(self, index: int) -> _Member:
        ours, theirs = multiprocessing.Pipe()
        # spawn, not fork: a fork would copy locks and connections without their threads.
        process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(theirs, self.assignment), name=f"worker-{index}"
        )
        environment = worker_environment(
            index, num_workers=self.num_workers, workers_per_gpu=self.workers_per_gpu
        )
        # A child process needs them before its first import.
        with env_override(environment), _blocked_interrupt():
            process.start()
        theirs.close()
        return _Member(index, process, ours)

    def _receive(self, member: _Member) -> Any:
        """Receive the message of a worker; None if it has died without one."""
        try:
            return member.connection.recv() if member.connection.poll() else None
        except (EOFError, OSError):
            return None

    def _replace(self, member: _Member) -> list[Finished]:
        """Replace a worker that has died, and return how its job ended."""
        member.process.join()
        failure = _describe_death(member)
        if member.identity is None:
            self._num_start_failures += 1
            if self._num_start_failures >= MAX_START_FAILURES:
                self._broken = SweepError(
                    f"{MAX_START_FAILURES} workers ended before they could take a trial: "
                    f"{failure.text}; try hydra.sweeper.num_workers=1, which shows its errors"
                )
        self._renew(member)
        return [] if member.number is None else [_end_job(member, failed(failure))]

    def _renew(self, member: _Member) -> None:
        member.connection.close()
        member.process.join(GRACE_SECONDS)
        member.process.kill()
        self._members[self._members.index(member)] = self._spawn(member.index)


def _end_job(member: _Member, outcome: JobOutcome) -> Finished:
    """Note that a worker has no job any more, and return how its job ended."""
    assert member.number is not None
    number, member.number = member.number, None
    return Finished(number, outcome)


def _describe_death(member: _Member) -> Failure:
    code = member.process.exitcode
    if code is not None and code < 0:
        # The kernel kills what exceeds a limit of memory with SIGKILL, and counts it.
        if -code == signal.SIGKILL and _count_oom_kills() > member.oom_kills:
            return Failure(FailureKind.OUT_OF_MEMORY, "the kernel killed the worker, out of memory")
        name = signal.Signals(-code).name
        return Failure(FailureKind.WORKER_DIED, f"its process was killed by {name}")
    return Failure(FailureKind.WORKER_DIED, f"its process ended with code {code}")


def _count_oom_kills() -> int:
    """Count the processes that the kernel has killed for memory since its start."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


@contextlib.contextmanager
def _blocked_interrupt() -> Iterator[None]:
    """Block Ctrl-C: a child process inherits this, so it does not end during its imports."""
    # The first process starts a tracker before itself, which would unblock the signal.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
