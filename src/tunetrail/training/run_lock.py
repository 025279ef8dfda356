"""Lock a run so that only one process trains it.

The process holds a POSIX record lock on a file among the run's checkpoints. The kernel releases it
when the process ends, even by a kill, so a killed run can be resumed at once. A forked child does
not inherit it.
"""

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tunetrail.errors import InputError

_TRIAL = "trial.json"


@dataclass(frozen=True)
class TrialOf:
    """The trial whose run has a folder of checkpoints: the run of its study, and its number."""

    parent: str
    number: int


def note_trial(folder: Path, trial: TrialOf) -> None:
    """Note in a run's folder which trial it is of.

    Whoever deletes the folder reads it there: a store could name any folder.
    """
    (folder / _TRIAL).write_text(json.dumps(asdict(trial)), encoding="utf-8")


def read_trial(folder: Path) -> TrialOf | None:
    """Read which trial a folder is of; None if none is noted."""
    try:
        return TrialOf(**json.loads((folder / _TRIAL).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


@contextlib.contextmanager
def hold_run(folder: Path, *, run_id: str) -> Iterator[None]:
    """Keep other processes of this machine from training a run.

    Args:
        folder: of the run's checkpoints; removed at the end if it has none.

    Raises:
        InputError: another process is training it.

    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "run.lock").open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise InputError(
                f"resume={run_id}: this run is still training in another process; wait for its "
                "end, or stop it"
            ) from None
        try:
            yield
        finally:
            if not any(folder.glob("checkpoint-*")):
                shutil.rmtree(folder, ignore_errors=True)


def is_free(folder: Path) -> bool:
    """Whether the lock of a run lies in the folder of its checkpoints and nobody holds it.

    Not for a run of this process: looking would release its lock.
    """
    try:
        with (folder / "run.lock").open("r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except OSError:
        return False
