"""What a model's folder may hold before anything of it is loaded.

Others may have written it. Libraries follow what its files say: to code, to other files, to other
models, to pickles. A pipe in the place of a file is waited for, for ever.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunetrail.config.paths import read_regular
from tunetrail.errors import InputError

_INDEX = "model.safetensors.index.json"
_WEIGHTS = ".safetensors"
# No config or index is larger; a vocabulary is.
_MOST_BYTES = 64 * 2**20
# Keys of any of these are arguments of what is loaded.
_CONFIGS = (
    "config.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json",
)  # fmt: skip
# Those that lead to code, or to weights in other formats.
_LEADING = ("auto_map", "quantization_config", "transformers_weights")


def require_harmless(*folders: Path, root: Path | None, source: str) -> None:
    """Check the folders of weights and tokenizer.

    Args:
        folders: of which files are loaded.
        root: of a model in a store, out of which no link may lead; None for a directory that a
            person has typed.
        source: names the model in an error.

    Raises:
        InputError: something in it is no file, or leads elsewhere.

    """
    for folder in dict.fromkeys(folders):
        for path in _list_files(folder, deep=root is not None):
            _require_file(path, root=root, source=source)
        if (folder / "adapter_config.json").exists():
            raise InputError(
                f"{source}: an adapter (adapter_config.json) lies beside the model, and leads to "
                "another one; merge it with merge_and_unload of peft and save the model again"
            )
        _require_own_shards(folder, source)
        if root is not None:
            for name in _CONFIGS:
                _require_plain_keys(folder / name, source)


def _list_files(folder: Path, *, deep: bool) -> Iterator[Path]:
    if not deep:
        yield from folder.iterdir()
        return
    for place, folders, files in os.walk(folder):
        yield from (Path(place) / name for name in (*folders, *files))


def _require_file(path: Path, *, root: Path | None, source: str) -> None:
    if not path.is_file() and not path.is_dir():
        raise InputError(
            f"{source}: {path} is no file (a pipe, a device or a broken link); refused"
        )
    if root is not None and not path.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{source}: {path} is a link out of the model's folder; refused")


def _require_own_shards(folder: Path, source: str) -> None:
    """Check that an index of weights names files beside it, and no pickles."""
    path = folder / _INDEX
    if not path.is_file():
        return
    shards = _read(path, source).get("weight_map")
    names = {str(name) for name in shards.values()} if isinstance(shards, dict) else set()
    wrong = sorted(name for name in names if Path(name).name != name or not name.endswith(_WEIGHTS))
    if wrong:
        raise InputError(
            f"{source}: {_INDEX} names {wrong[0][:80]!r}, and no *{_WEIGHTS} beside it; refused"
        )


def _require_plain_keys(path: Path, source: str) -> None:
    if not path.is_file():
        return
    for key, value in _walk(_read(path, source)):
        # A tokenizer opens the file that such a key names, wherever it is; one may implement
        # attention by code of the hub.
        names_file = key.endswith(("_file", "_files")) and bool(value)
        names_code = key.endswith("_implementation") and "/" in str(value)
        if (key in _LEADING and value is not None) or names_file or names_code:
            raise InputError(
                f"{source}: {path.name} has {key}={str(value)[:80]!r}, which leads to code or "
                "files elsewhere and is nothing that a run of this project logs; refused"
            )


def _walk(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield str(key), value
            yield from _walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from _walk(value)


def _read(path: Path, source: str) -> dict[str, Any]:
    try:
        found = json.loads(read_regular(path, most=_MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{source}: {path} cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f"{source}: {path} holds no JSON object")
    return found
