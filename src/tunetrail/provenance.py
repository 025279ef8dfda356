"""What a run was made from: code, packages, machine, data."""

import hashlib
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict


@dataclass(frozen=True)
class Code:
    """The commit that ran. ``commit`` is None outside a git checkout."""

    commit: str | None
    branch: str | None
    dirty: bool
    diff: str


def describe_code(folder: Path) -> Code:
    """Read commit, branch and the uncommitted changes to tracked files of a checkout."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return Code(commit=None, branch=None, dirty=False, diff="")
    diff = _git(folder, "diff", "HEAD", "--binary") or ""
    return Code(
        commit=commit,
        branch=_git(folder, "rev-parse", "--abbrev-ref", "HEAD"),
        dirty=bool(_git(folder, "status", "--porcelain")),
        diff=diff + "\n" if diff else "",
    )


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - the git of the user's PATH
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@lru_cache(maxsize=1)
def list_packages() -> tuple[str, ...]:
    """List every installed distribution as ``name==version``, sorted.

    Once a process: what is installed later is not what this process imported.
    """
    found = {f"{d.metadata['Name']}=={d.version}" for d in distributions() if d.metadata["Name"]}
    return tuple(sorted(found, key=str.lower))


def describe_machine() -> dict[str, Any]:
    """Describe what decides the last digits of a result: system, processor, GPU, threads."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "processor": torch.cpu.get_capabilities().get("cpu_name") or platform.processor(),
        "num_cpus": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "gpus": gpus,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if gpus else None,  # type: ignore[no-untyped-call]
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }


@dataclass(frozen=True)
class SplitFingerprint:
    """SHA-256 over the canonical rows of a split, in order, as they were used."""

    sha256: str
    num_rows: int


def fingerprint_data(dataset: DatasetDict) -> dict[str, SplitFingerprint]:
    """Fingerprint every split by its content, whatever file or cache it came from."""
    return {name: _fingerprint(split) for name, split in dataset.items()}


def combine_fingerprints(splits: dict[str, SplitFingerprint]) -> str:
    """Make one short name for a set of splits, 16 hex digits."""
    whole = "".join(f"{name}:{splits[name].sha256}" for name in sorted(splits))
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def describe_fingerprints(splits: dict[str, SplitFingerprint]) -> dict[str, Any]:
    return {name: asdict(split) for name, split in splits.items()}


def _fingerprint(split: Dataset) -> SplitFingerprint:
    digest = hashlib.sha256()
    for text, label in zip(split["text"], split["label"], strict=True):
        # Length first: no two lists of rows may run together into the same bytes.
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(f"{len(encoded)}:{label}:".encode())
        digest.update(encoded)
    digest.update(repr(getattr(split.features["label"], "names", None)).encode())
    return SplitFingerprint(sha256=digest.hexdigest(), num_rows=len(split))
