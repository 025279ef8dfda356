"""Temporary folders that a killed process cannot leave for ever.

Each holds a file that its process locks. The kernel drops the lock when the process ends, however
it ends: then the next process that makes such a folder at the same place deletes this one.
"""

import contextlib
import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = ".tunetrail-scratch-"
_LOCK = ".tunetrail-lock"


@contextlib.contextmanager
def scratch(parent: Path | None = None) -> Iterator[Path]:
    """Make a folder that is deleted at the end, and delete those that dead processes left.

    Args:
        parent: where it is made; None for the system's place.

    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    _clear_once(parent)
    with contextlib.ExitStack() as held:
        while (folder := _make(parent, held)) is None:
            pass
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _make(parent: Path, held: contextlib.ExitStack) -> Path | None:
    """Make a folder and lock it; None if another process took it for a dead one's meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    try:
        file = held.enter_context((folder / _LOCK).open("w"))
        # Without locks (some network disks) nobody clears the folder after a kill.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        (folder / _LOCK).stat()
    except FileNotFoundError:
        return None
    return folder


@functools.cache
def _clear_once(parent: Path) -> None:
    clear(parent)


def clear(parent: Path) -> list[Path]:
    """Delete the folders in ``parent`` whose processes have ended; return them."""
    return [folder for folder in parent.glob(f"{PREFIX}*") if _clear(folder)]


def _clear(folder: Path) -> bool:
    # Another user's folder, and what only has the name of one, stay.
    with contextlib.suppress(OSError):
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            return False
        if not any(folder.iterdir()):
            folder.rmdir()  # killed before it was locked; one that is just made is made again
            return True
        descriptor = os.open(folder / _LOCK, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            return True
    return False
