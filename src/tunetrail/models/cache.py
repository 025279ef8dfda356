"""Folders that are made once and used again, by several processes at a time."""

import os
from collections.abc import Callable
from pathlib import Path

from tunetrail.config.scratch import scratch


def make_once(target: Path, make: Callable[[Path], object]) -> None:
    """Make a folder that appears with all of its files at once; do nothing if it is there.

    Several workers may make it at the same time: each works in a folder of its own, and the first
    one to finish gives it its name.

    Args:
        target: the folder.
        make: writes the files into the folder that it is given.

    """
    if target.is_dir():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch(target.parent) as folder:
        work = folder / "made"
        work.mkdir()
        make(work)
        try:
            os.rename(work, target)  # noqa: PTH104 - rename is the commit: it must not overwrite
        except OSError:
            if not target.is_dir():
                raise
