"""How far a job of a study is, for the lines that the sweeper shows: a file of one line.

The sweeper names the file in ``trial.progress``; a run of its own has none. It is a help for people
and no record: what cannot be written is left out.
"""

import contextlib
import json
import os
import time
from pathlib import Path

# Seconds between two writes of the same stage.
_EVERY = 0.5


class _Progress:
    path: Path | None = None
    share = 0.0
    said = ""
    at = 0.0


def write_progress_to(path: str | None) -> None:
    """Say from now on in this process how far its job is, in a file; None: nowhere."""
    _Progress.path = None if path is None else Path(path)
    _Progress.said, _Progress.at, _Progress.share = "", 0.0, 0.0
    report_progress("begins")


def report_progress(said: str, done: int | None = None, total: int | None = None) -> None:
    """Write what the job does now, and how much of its training is done.

    Args:
        said: what it does, such as ``loads rows``.
        done, total: steps; the share that is done stays as it was if they are not given.

    """
    path, now = _Progress.path, time.monotonic()
    if path is None or (said == _Progress.said and now - _Progress.at < _EVERY):
        return
    _Progress.said, _Progress.at = said, now
    if done is not None and total:
        said, _Progress.share = f"{said} {done} of {total}", done / total
    found = {"said": said, "share": _Progress.share}
    beside = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        beside.write_text(json.dumps(found), "utf-8")
        beside.replace(path)
