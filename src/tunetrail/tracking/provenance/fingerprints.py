"""Fingerprints of the rows that a run uses."""

import hashlib
from dataclasses import dataclass

from datasets import Dataset, DatasetDict

from tunetrail.data.columns import read_targets


@dataclass(frozen=True)
class SplitFingerprint:
    """SHA-256 over the rows of a split in their order, as the run used them."""

    sha256: str
    num_rows: int


def fingerprint_data(dataset: DatasetDict) -> dict[str, SplitFingerprint]:
    """Fingerprint every split by its content, whatever its file or cache."""
    return {name: _fingerprint(split) for name, split in dataset.items()}


def combine_fingerprints(splits: dict[str, SplitFingerprint]) -> str:
    """Make one short fingerprint for a set of splits."""
    whole = "".join(f"{name}:{splits[name].sha256}" for name in sorted(splits))
    return shorten(hashlib.sha256(whole.encode()).hexdigest())


def shorten(sha256: str) -> str:
    """Return the first 16 hex digits, for a tag."""
    return sha256[:16]


def _fingerprint(split: Dataset) -> SplitFingerprint:
    digest = hashlib.sha256()
    for row in zip(split["text"], read_targets(split), strict=True):
        for value in row:
            # Length first: no two lists of rows may run together into the same bytes.
            encoded = str(value).encode("utf-8", "surrogatepass")
            digest.update(f"{len(encoded)}:".encode())
            digest.update(encoded)
    digest.update(repr(split.features["answers"].feature.names).encode())
    return SplitFingerprint(sha256=digest.hexdigest(), num_rows=len(split))
