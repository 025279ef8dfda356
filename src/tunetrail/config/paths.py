"""Paths as people type them, and whether a file is still the one that was read."""

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from tunetrail.errors import InputError

# The largest artifacts are tables of predictions.
MOST_BYTES = 2**31
# Path, size, number on its disk, and times of the last change of content and of anything.
Stamp = tuple[tuple[str, int, int, int, int], ...]


def locate(path: str | Path) -> Path:
    """Expand ``~``, and take a relative path from where the command was given.

    With hydra.job.chdir=true a job works in a folder of its own.
    """
    found = Path(path)
    # The name of a file may begin with ~, too: then there is no such person.
    with contextlib.suppress(RuntimeError):
        found = found.expanduser()
    if not HydraConfig.initialized():
        return found
    launched = Path(HydraConfig.get().runtime.cwd)
    return found if launched == Path.cwd() else launched / found


def read_regular(path: Path, *, most: int = MOST_BYTES) -> bytes:
    """Read a file that others may have put there: a pipe would be waited for, for ever.

    Raises:
        OSError: it is no regular file.
        InputError: it is larger than anything that this project writes.

    """
    with open(path, "rb", opener=_open_at_once) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path} is no regular file")
        if found.st_size > most:
            raise InputError(f"{path}: {found.st_size:,} bytes, and {most:,} are the most; refused")
        return file.read()


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def stamp_files(paths: Iterable[Path]) -> Stamp:
    """Describe files: equal as long as none is written again or replaced.

    Size and time of the content are not enough: a copy can keep both. The time of the last change
    of anything cannot be set.
    """
    stats = [(str(path), path.stat()) for path in paths]
    return tuple(
        (path, stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)
        for path, stat in stats
    )
