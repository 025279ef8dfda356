"""Which workers are on a study, which of them are alive, and whose turn it is to draw a point.

A worker holds a POSIX record lock on a file of its own, and writes the name of the file on each
trial that it takes. The kernel drops the lock when the process ends, however it ends. So if the
lock of a trial is free, its worker is dead. A process id may be used again. A flock would be
inherited by a forked child (a data loader), which would keep a dead worker alive; a record lock is
not. Past one machine there are no such locks: see ``_study/heartbeat.py``.
"""

import fcntl
import os
import re
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from optuna.trial import FrozenTrial

from hydra_plugins.optuna_study.attributes import WORKER

# The name of a worker's file: no path that leads elsewhere, and no turn.
_LOCK = re.compile(r"[\w.-]+-\d+-[0-9a-f]{8}\.lock")


class Worker:
    """One process among those that work on a study, all of which share a folder."""

    def __init__(self, folder: Path, *, turn: str = "turn") -> None:
        """Register in a folder.

        Args:
            folder: shared by all that may work on the study.
            turn: names what is drawn from by one worker at a time.

        Raises:
            OSError: the folder cannot be written.

        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.absolute()
        self._turn_path = self.folder / f"{turn}.lock"
        name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.lock"
        self._path = self.folder / name
        # Ids of the trials that this process runs, itself or in processes that it has started.
        self.holds: set[int] = set()

    def __enter__(self) -> Self:
        self._file = self._path.open("w")
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        return self

    def __exit__(self, *error: object) -> None:
        self._path.unlink(missing_ok=True)
        self._file.close()

    @property
    def identity(self) -> dict[str, Any]:
        """What is written on a trial."""
        return {"host": socket.gethostname(), "pid": os.getpid(), "lock": self._path.name}

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let no other worker count trials, draw a point or close a trial meanwhile."""
        with self._turn_path.open("w") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            yield

    def has_turn(self) -> bool:
        """Whether it is still this worker's turn; asked right before what only one may do."""
        return True

    def find_left(self, running: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """List those of the running trials whose worker is dead."""
        return [
            trial
            for trial in running
            if trial._trial_id not in self.holds  # noqa: SLF001 - what storages go by
            and self._has_left(trial.user_attrs.get(WORKER))
        ]

    def _has_left(self, identity: dict[str, Any] | None) -> bool:
        """Whether the worker that took a trial is dead.

        None: a trial is signed before it is seen to run, so that something else has made this one.
        """
        identity = _read(identity)
        if identity is None:
            return True
        # To open a file of one's own and close it again would drop its lock.
        if identity["lock"] == self._path.name:
            return False
        path = self.folder / identity["lock"]
        try:
            # Not through a link, which may be one to any file, nor waiting for a pipe.
            found = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return True
        with open(found, "r+b") as file:  # noqa: PTH123 - a descriptor
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                return False
            path.unlink(missing_ok=True)
            return True


def _read(identity: object) -> dict[str, Any] | None:
    """Read what stands on a trial: anything but the record of a worker counts as none."""
    if not isinstance(identity, dict):
        return None
    if not all(isinstance(identity.get(name), str) for name in ("host", "lock")):
        return None
    return identity if _LOCK.fullmatch(identity["lock"]) else None
