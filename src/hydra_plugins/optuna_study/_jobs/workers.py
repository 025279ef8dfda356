"""Which workers are on a study, which of them are alive, and whose turn it is to draw a point.

A worker holds a POSIX record lock on a file of its own, and writes the name of the file on each
trial that it takes. The kernel drops the lock when the process ends, however it ends. So if the
lock of a trial is free, its worker is dead. Optuna's heartbeat needs a database, and finds a trial
stale only after its grace period. A process id may be used again. A flock would be inherited by a
forked child (a data loader), which would keep a dead worker alive; a record lock is not.
"""

import fcntl
import functools
import os
import re
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

_TURN = "turn.lock"
# The name of a worker's file: no path that leads elsewhere.
_LOCK = re.compile(r"[\w.-]+\.lock")


class Worker:
    """One process among those that work on a study."""

    def __init__(self, folder: Path) -> None:
        """Register in a folder that the study's workers on this machine share.

        Raises:
            OSError: the folder cannot be written.

        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.absolute()
        self._turn_path = self.folder / _TURN
        name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.lock"
        self._path = self.folder / name

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
        return {
            "host": socket.gethostname(),
            "boot": _read_boot_id(),
            "pid": os.getpid(),
            "lock": self._path.name,
        }

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let no other worker on this machine count trials or draw a point meanwhile."""
        with self._turn_path.open("w") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            yield

    def can_see(self, identity: dict[str, Any] | None) -> bool:
        """Whether this process can find out if a worker is alive.

        Containers on one machine have different host names but one kernel, which holds the locks.
        They must share the folder.
        """
        identity = _read(identity)
        if identity is None or identity["host"] == socket.gethostname():
            return True
        same_kernel = bool(identity["boot"]) and identity["boot"] == _read_boot_id()
        return same_kernel and (self.folder / identity["lock"]).exists()

    def has_left(self, identity: dict[str, Any] | None) -> bool:
        """Whether the worker that took a trial is dead.

        None is a worker that was killed before it could sign the trial. A worker that cannot be
        seen from here, for example on another machine, counts as alive.
        """
        identity = _read(identity)
        if identity is None:
            return True
        # To open a file of one's own and close it again would drop its lock.
        if identity["lock"] == self._path.name or not self.can_see(identity):
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
    if not all(isinstance(identity.get(name), str) for name in ("host", "boot", "lock")):
        return None
    name = identity["lock"]
    return identity if _LOCK.fullmatch(name) and name != _TURN else None


@functools.cache
def _read_boot_id() -> str:
    """Read the id of this start of the kernel; empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
