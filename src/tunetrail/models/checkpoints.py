"""Where pretrained weights come from. Each function finds a checkpoint; none loads it.

All weights are read as safetensors: a pickle file runs code when it is opened. The weights of an
earlier run are found by ``tracking/starts.py``, which knows the store of the runs.
"""

import hashlib
import logging
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from tunetrail.config.paths import Stamp, locate, stamp_files
from tunetrail.errors import InputError
from tunetrail.models.cache import make_once

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """What ``from_pretrained`` needs.

    ``path`` is a directory; with a ``revision`` it is an id of the hub. ``origin`` names it for a
    person: an id with its revision, a package with its version, a directory, a run. The tokenizer
    may be in a directory of its own. ``run_id`` is the run whose model it is, if it is one.
    """

    path: str
    origin: str
    revision: str | None = None
    tokenizer_path: str | None = None
    run_id: str | None = None

    @property
    def is_on_hub(self) -> bool:
        return self.revision is not None

    @property
    def tokenizer(self) -> str:
        """Where its tokenizer is: a directory, or an id of the hub."""
        return self.tokenizer_path or self.path


def hub(*, id: str, revision: str) -> Checkpoint:  # noqa: A002 - the hub's own word
    """Name a model of the Hugging Face hub."""
    return Checkpoint(path=id, origin=f"{id}@{revision}", revision=revision)


def directory(*, path: str) -> Checkpoint:
    """Check that ``path`` holds a checkpoint as ``save_pretrained`` writes it.

    Raises:
        InputError: no directory, no ``config.json``, or no safetensors weights in it.

    """
    if not path.strip():
        raise InputError("model.path=: it is empty; give a directory that save_pretrained wrote")
    return _require_checkpoint(locate(path), key=f"model.path={path}", origin=path)


def package_directory(*, distribution: str, path: str) -> Checkpoint:
    """Find a checkpoint directory inside an installed distribution.

    Raises:
        InputError: the distribution is not installed, or ``path`` is no checkpoint.

    """
    return _require_checkpoint(
        _locate(distribution, path),
        key=f"model.source.distribution={distribution}",
        origin=_package(distribution),
    )


def package_gguf(*, distribution: str, path: str, cache_dir: str) -> Checkpoint:
    """Find a GGUF file inside an installed distribution and convert it once to safetensors.

    Dequantising is slow; the copy in ``cache_dir`` loads in a second. Its name holds a hash of the
    source, so that the copy of another file is never used.

    Raises:
        InputError: the distribution is not installed or lacks the file.

    """
    source = _locate(distribution, path)
    if not source.is_file():
        raise InputError(
            f"model.source.path={path}: no such file in {distribution}; found: "
            f"{', '.join(sorted(p.name for p in source.parent.glob('*'))) or 'nothing'}"
        )
    target = locate(cache_dir) / f"{source.stem}-{_digest(stamp_files([source]))}"
    make_once(target, lambda folder: _convert_gguf(source, folder))
    return Checkpoint(path=str(target), origin=_package(distribution))


def _locate(name: str, path: str) -> Path:
    try:
        return Path(str(distribution(name).locate_file(path)))
    except PackageNotFoundError:
        raise InputError(
            f"model.source.distribution={name} is not installed; run `make setup`, or choose "
            "model=directory model.path=PATH"
        ) from None


def _package(name: str) -> str:
    return f"{name} {distribution(name).version}"


def _require_checkpoint(path: Path, *, key: str, origin: str) -> Checkpoint:
    if not path.is_dir():
        raise InputError(f"{key}: no directory there; give one that save_pretrained wrote")
    found = sorted(p.name for p in path.iterdir())
    if "config.json" not in found:
        listed = ", ".join(found[:6]) or "nothing"
        raise InputError(
            f"{key}: no checkpoint, config.json is missing (found: {listed}); "
            "give a directory that save_pretrained wrote"
        )
    if not any(name.endswith(".safetensors") for name in found):
        pickled = [name for name in found if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        what = f"only pickled weights ({', '.join(pickled)})" if pickled else "no weights"
        raise InputError(
            f"{key}: {what}; pickle runs code when opened, so only safetensors are read: "
            "load it once where you trust it and save_pretrained(path, safe_serialization=True)"
        )
    return Checkpoint(path=str(path), origin=origin)


@lru_cache(maxsize=8)
def _digest(stamp: Stamp) -> str:
    """Hash a file: two models of one family have the same head and the same size."""
    with Path(stamp[0][0]).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _convert_gguf(source: Path, target: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    log.info("converting %s to safetensors, once", source.name)
    folder, file = str(source.parent), source.name
    model: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    # Trainer and save_pretrained refuse a model that is marked as quantised; these weights, read
    # as float32, no longer are.
    model.hf_quantizer.remove_quantization_config(model)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
