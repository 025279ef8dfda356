"""Rows that runs trained on, as fingerprints: each run records its own and reads its ancestors'.

A fingerprint is 8 bytes of a hash of the normalised text, without a key: runs of one store must
be comparable, and a key in the store would be read with it. So whoever can read the store can test
whether a text that they guess was trained on; see docs/security.md.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tunetrail.data.duplicates import normalise
from tunetrail.data.leaks import EarlierRun
from tunetrail.data.prepare import EXAMPLES, PreparedData
from tunetrail.errors import InputError, first_line
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.tracking.artifacts import Artifacts
from tunetrail.tracking.run_log import RunLog
from tunetrail.tracking.starts import list_ancestors
from tunetrail.tracking.store import look_up

# 8 MB. Of more rows those with the smallest fingerprints are recorded.
_MOST_ROWS = 1_000_000
_BYTES = np.dtype("<u8")
Fingerprints = npt.NDArray[np.uint64]


def log_rows(
    run_log: RunLog, data: PreparedData, checkpoint: Checkpoint, *, trains: bool
) -> tuple[EarlierRun, ...]:
    """Record the rows that are trained on or shown, and find those that earlier runs trained on.

    Nothing is done where the check of leakage is off.

    Args:
        run_log: of this run.
        data: its rows.
        checkpoint: that it starts from.
        trains: whether its method trains on train.

    Raises:
        InputError: the chain of earlier runs leads in a circle.

    """
    if data.leakage is None:
        return ()
    used = {"train": data.dataset["train"] if trains else ()}
    if EXAMPLES in data.dataset:
        used[EXAMPLES] = data.dataset[EXAMPLES]
    for split, part in used.items():
        texts = part["text"] if isinstance(part, Dataset) else ()
        found = np.unique(fingerprint_texts(texts))[:_MOST_ROWS]
        run_log.content(found.astype(_BYTES).tobytes(), _path(split))
    if checkpoint.run_id is None:
        return ()
    return find_earlier(run_log.client, checkpoint.run_id, data)


def find_earlier(client: MlflowClient, run_id: str, data: PreparedData) -> tuple[EarlierRun, ...]:
    """Find the held-out rows that a run trained on, and those of its ancestors.

    Raises:
        InputError: the chain of runs leads in a circle.

    """
    held_out = {
        split: fingerprint_texts(data.dataset[split]["text"])
        for split in ("validation", "test")
        if split in data.dataset
    }
    return tuple(_compare(client, run_id, held_out))


def fingerprint_texts(texts: Iterable[str]) -> Fingerprints:
    """Return the fingerprint of each text."""
    digests = (
        hashlib.blake2b(normalise(text).encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for text in texts
    )
    return np.frombuffer(b"".join(digests), dtype=_BYTES)


def _path(split: str) -> str:
    return f"fingerprints/{split}.bin"


def _compare(
    client: MlflowClient, run_id: str, held_out: Mapping[str, Fingerprints]
) -> Iterator[EarlierRun]:
    """Compare held-out rows with those of the run that was started from, and of its ancestors."""
    num_rows = {split: len(found) for split, found in held_out.items()}
    for found in _list_runs(client, run_id):
        if isinstance(found, str):
            yield EarlierRun(found, "", {}, num_rows, "it is not in this store")
            continue
        name = str(found.info.run_name)
        try:
            rows, is_sample = _read(client, found)
        except InputError as error:
            yield EarlierRun(found.info.run_id, name, {}, num_rows, first_line(error))
            continue
        known = {
            split: tuple(np.flatnonzero(np.isin(own, rows)).tolist())
            for split, own in held_out.items()
        }
        yield EarlierRun(found.info.run_id, name, known, num_rows, is_sample=is_sample)


def _list_runs(client: MlflowClient, run_id: str) -> Iterator[Run | str]:
    run = look_up(client.get_run, run_id)
    if run is None:
        yield run_id
        return
    yield run
    yield from list_ancestors(client, run)


def _read(client: MlflowClient, run: Run) -> tuple[Fingerprints, bool]:
    """Read what a run recorded; anybody may have written it.

    Raises:
        InputError: it cannot be used.

    """
    path = _path("train")
    content = Artifacts(client, run).content(path, most=_MOST_ROWS * _BYTES.itemsize)
    if content is None:
        raise InputError("it recorded no fingerprints of its rows")
    number, rest = divmod(len(content), _BYTES.itemsize)
    if rest:
        raise InputError(f"its {path} holds no fingerprints ({len(content):,} bytes)")
    return np.frombuffer(content, dtype=_BYTES), number == _MOST_ROWS
