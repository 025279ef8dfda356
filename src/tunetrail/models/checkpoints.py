"""Where pretrained weights come from. Each function finds a checkpoint; none loads it.

All weights are read as safetensors: a pickle file runs code when it is opened. The weights of an
earlier run are found by ``tracking/starts.py``, which knows the store of the runs.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from tunetrail.config.paths import Stamp, locate, stamp_files
from tunetrail.errors import InputError, first_line
from tunetrail.models.cache import make_once

log = logging.getLogger(__name__)

# Names the files of weights where there are several.
_INDEX = "model.safetensors.index.json"
# What safetensors calls the types of weights that are read as float32.
_TRAINABLE = ("F64", "F32", "F16", "BF16")


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
    if "adapter_config.json" in found:
        raise InputError(
            f"{key}: an adapter (adapter_config.json), which transformers would lay on the model "
            "that it was trained on; merge it with merge_and_unload of peft, save_pretrained, and "
            "give that directory"
        )
    if "config.json" not in found:
        listed = ", ".join(found[:6]) or "nothing"
        raise InputError(
            f"{key}: no checkpoint, config.json is missing (found: {listed}); "
            "give a directory that save_pretrained wrote"
        )
    for file in _list_weights(path, found, key=key):
        _require_whole(file, key=key)
    return Checkpoint(path=str(path), origin=origin)


@lru_cache(maxsize=8)
def _digest(stamp: Stamp) -> str:
    """Hash a file: two models of one family have the same head and the same size."""
    with Path(stamp[0][0]).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _list_weights(path: Path, found: list[str], *, key: str) -> list[Path]:
    """List the files that transformers reads weights from."""
    if "model.safetensors" in found:
        return [path / "model.safetensors"]
    if _INDEX in found:
        try:
            shards = sorted({*json.loads((path / _INDEX).read_bytes())["weight_map"].values()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{key}: {_INDEX} cannot be read; copy it again") from error
        missing = [name for name in shards if name not in found]
        if missing:
            raise InputError(
                f"{key}: {len(missing)} of {len(shards)} files of weights are missing "
                f"({', '.join(missing[:3])}), which {_INDEX} names; copy them there"
            )
        return [path / name for name in shards]
    pickled = [name for name in found if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    others = [name for name in found if name.endswith(".safetensors")]
    if pickled and not others:
        raise InputError(
            f"{key}: only pickled weights ({', '.join(pickled)}); pickle runs code when opened, so "
            "only safetensors are read: load it once where you trust it and save_pretrained(path)"
        )
    what = f"weights without {_INDEX} ({', '.join(others[:3])})" if others else "no weights"
    raise InputError(f"{key}: {what}; model.safetensors is needed, as save_pretrained writes it")


def _require_whole(file: Path, *, key: str) -> None:
    """Check by its header that a file of weights is complete, and that it holds numbers to train.

    Raises:
        InputError: it does not.

    """
    try:
        with safe_open(file, framework="numpy") as weights:
            kinds = {
                part.get_dtype()
                for part in map(weights.get_slice, weights.keys())
                if len(part.get_shape()) > 1
            }
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{key}: {file.name} is no safetensors file, or not all of it ({first_line(error)}; "
            f"{file.stat().st_size:,} bytes); copy it again"
        ) from error
    if kinds and kinds.isdisjoint(_TRAINABLE):
        raise InputError(
            f"{key}: {file.name} holds weights in {', '.join(sorted(kinds))}, which cannot be "
            f"trained; give the model before it was quantised"
        )


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
