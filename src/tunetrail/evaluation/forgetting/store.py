"""What the start of a training costs on a reference, kept so that it is measured once."""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tunetrail.config.paths import Stamp, read_regular, stamp_files
from tunetrail.config.scratch import scratch
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import find_weight_files
from tunetrail.tasks.base import Array

_MOST_BYTES = 1_000_000


def fingerprint_start(checkpoint: Checkpoint) -> str | None:
    """Return a digest of a checkpoint's weights and config; None if their files are not found."""
    files = find_weight_files(checkpoint)
    if not files:
        return None
    config = Path(checkpoint.path) / "config.json"
    return _digest(stamp_files([*files, *([config] if config.is_file() else [])]))


@lru_cache(maxsize=8)
def _digest(stamp: Stamp) -> str:
    whole = hashlib.sha256()
    for path, *_ in stamp:
        with Path(path).open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


class KeptCosts:
    """Costs in a file of ``folder``; anyone may have written it, so it is checked.

    Args:
        folder: is made if need be.
        key: all that the costs depend on.

    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        text = json.dumps(key, sort_keys=True, default=str)
        self._path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"

    def read(self, num_rows: int) -> Array | None:
        """Read the costs, shape (rows, 2); None if there are none that can be used."""
        try:
            content = json.loads(read_regular(self._path, most=_MOST_BYTES))
            costs = np.array(content["costs"], dtype=np.float64)
        except Exception:  # noqa: BLE001 - whatever is in the file, it is measured again
            return None
        is_usable = (
            costs.shape == (num_rows, 2)
            and bool(np.isfinite(costs).all())
            and bool((costs[:, 0] >= 0).all() and (costs[:, 1] >= 1).all())
        )
        return costs if is_usable else None

    def write(self, costs: Array) -> None:
        """Write the costs, all at once; without room on the disk they are measured again."""
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with scratch(self._path.parent) as folder:
                file = folder / self._path.name
                file.write_text(json.dumps({"costs": costs.tolist()}), "utf-8")
                os.replace(file, self._path)  # noqa: PTH105 - the commit, as in models/cache.py
