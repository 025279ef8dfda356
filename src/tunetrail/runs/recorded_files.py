"""The files that a recorded config names: a rerun reads those that the run has read.

Whoever can write to a store can name any file in a record, and a rerun logs texts of its rows.
Nobody knows the digest of a file that they cannot read. So a file is read if it is as recorded, if
it lies where the command is given and is named like a table, or if the person names it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunetrail.config.paths import locate
from tunetrail.config.untrusted import GivenValue
from tunetrail.data.sources import checksum
from tunetrail.data.tables.formats import FORMATS
from tunetrail.errors import InputError


def require_recorded_files(
    recorded: Mapping[str, Any], known: Mapping[str, str], given: Sequence[GivenValue]
) -> None:
    """Check the files of a recorded config before they are read.

    Args:
        recorded: config of a run.
        known: name of a file -> SHA-256, as the run has recorded them.
        given: trusted values.

    Raises:
        InputError: a file lies elsewhere and is not the one that was read.

    """
    for key, is_packaged, value in _list_paths(recorded):
        if any(one.key == key for one in given):
            continue
        if is_packaged:
            if Path(value).is_absolute() or ".." in Path(value).parts:
                raise InputError(f"{key}={value}: leads out of its package; give {key}=PATH")
            continue
        for file in _list_files(locate(value)) if not key.startswith("model.") else ():
            if _is_beside(file) or checksum(file)["checksum"] in known.values():
                continue
            raise InputError(
                f"{key}={value}: {file} is not what the run has read, and lies outside of this "
                f"folder; give {key}={value} to read it all the same"
            )


def _list_paths(recorded: Mapping[str, Any]) -> Iterator[tuple[str, bool, str]]:
    """Yield texts of the sources that may be paths, and whether they are paths in a package."""
    nodes = [(f"{group}.source", recorded[group]["source"]) for group in ("data", "model")]
    nodes.append(("forgetting", recorded.get("forgetting") or {}))
    while nodes:
        key, node = nodes.pop()
        for name, value in node.items():
            if isinstance(value, dict):
                nodes.append((f"{key}.{name}", value))
            elif isinstance(value, str) and name != "_target_":
                yield f"{key}.{name}", name == "path" and "distribution" in node, value


def _list_files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (
            file
            for file in path.rglob("*")
            if file.is_file() and not file.name.startswith(".") and file.suffix != ".md"
        )


def _is_beside(file: Path) -> bool:
    """Whether a file is a table in the folder in which the command is given, or below it."""
    name = file.name.removesuffix(".gz")
    return file.resolve().is_relative_to(Path.cwd().resolve()) and name.endswith(tuple(FORMATS))
