"""Who works on a study, who still lives, and whose turn it is to ask.

A worker holds a POSIX record lock on a file of its own and writes the file's name on each trial it
takes. The kernel drops the lock when the process ends, however it ends, so that a trial whose
lock is free was left behind. Optuna's heartbeat was not taken: it works with databases only, and
a trial is stale no sooner than its grace period. A process id was not taken: it is used again.
Record locks rather than flock: a forked child (a data loader) does not inherit them, so that an
orphan cannot keep a dead worker alive.
"""

import fcntl
import functools
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Worker:
    """One process among those that work on a study."""

    def __init__(self, folder: Path) -> None:
        """Register in a folder that the study's workers on this machine share.

        Raises:
            OSError: the folder cannot be written.

        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.absolute()
        self._turn_path = self.folder / "turn.lock"
        name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.lock"
        self._path = (folder / name).absolute()

    def __enter__(self) -> Self:
        self._file = self._path.open("w")
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._path.unlink(missing_ok=True)
        self._file.close()

    @property
    def identity(self) -> dict[str, Any]:
        """What is written on a trial."""
        return {
            "host": socket.gethostname(),
            "boot": _read_boot_id(),
            "pid": os.getpid(),
            "lock": self._path.name,
        }

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Keep the other workers on this machine from counting and asking meanwhile."""
        with self._turn_path.open("w") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            yield

    def can_see(self, identity: dict[str, Any] | None) -> bool:
        """Whether it can be told from here if a worker has left.

        Containers of one machine have names of their own but one kernel, which holds the locks:
        there it takes a folder that both share.
        """
        if identity is None or identity["host"] == socket.gethostname():
            return True
        same_kernel = bool(identity["boot"]) and identity["boot"] == _read_boot_id()
        return same_kernel and (self.folder / str(identity["lock"])).exists()

    def has_left(self, identity: dict[str, Any] | None) -> bool:
        """Whether the worker that took a trial is gone.

        None is a worker that was killed before it could sign. One that cannot be seen from here,
        as on another machine, counts as alive.
        """
        if identity is None:
            return True
        if identity == self.identity or not self.can_see(identity):
            return False
        path = self.folder / identity["lock"]
        try:
            file = path.open("r+")
        except FileNotFoundError:
            return True
        with file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                return False
            path.unlink(missing_ok=True)
            return True


@functools.cache
def _read_boot_id() -> str:
    """Name this start of this machine's kernel; empty where the system has no such name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
