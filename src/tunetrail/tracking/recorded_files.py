"""The files that a recorded config names: what reads them again reads those that the run has read.

Whoever can write to a store can name any file in a record, and texts of its rows, or of an error,
would be logged there. Nobody knows the digest of a file that they cannot read. So a file is read if
it is as recorded, if it lies where the command is given and is named like a table, or if the person
names it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunetrail.config.paths import locate
from tunetrail.config.untrusted import GivenValue
from tunetrail.data.sources import checksum
from tunetrail.data.tables.formats import FORMATS
from tunetrail.errors import InputError, first_line


def read_files(data: Mapping[str, Any]) -> dict[str, str] | None:
    """Read the files that a run has recorded in ``reports/data.json``: name -> SHA-256."""
    files = data.get("files")
    if not isinstance(files, list):
        return None
    return {
        str(file["name"]): str(file["sha256"])
        for file in files
        if isinstance(file, dict) and {"name", "sha256"} <= file.keys()
    }


def require_recorded_files(
    recorded: Mapping[str, Any],
    known: Mapping[str, str],
    *,
    given: Sequence[GivenValue] = (),
    remedy: str,
) -> None:
    """Check the files of a recorded config before they are read.

    Args:
        recorded: config of a run.
        known: name of a file -> SHA-256, as the run has recorded them.
        given: trusted values.
        remedy: what a person can do about a file that is refused.

    Raises:
        InputError: a file lies elsewhere and is not the one that was read.

    """
    for key, is_packaged, value in _list_paths(recorded):
        if any(one.key == key for one in given):
            continue
        if is_packaged:
            if Path(value).is_absolute() or ".." in Path(value).parts:
                raise InputError(f"{key}={value}: leads out of its package; give {key}=PATH")
        elif not key.startswith("model."):
            try:
                foreign = _find_foreign(locate(value), frozenset(known.values()))
            except (OSError, ValueError) as error:
                raise InputError(f"{key}={value[:80]}: {first_line(error)}; {remedy}") from error
            if foreign is not None:
                raise InputError(
                    f"{key}={value}: {foreign} is not what the run has read, and lies outside of "
                    f"this folder; {remedy}"
                )


def _list_paths(recorded: Mapping[str, Any]) -> Iterator[tuple[str, bool, str]]:
    """Yield texts of the sources that may be paths, and whether they are paths in a package."""
    nodes = [(f"{group}.source", recorded[group]["source"]) for group in ("data", "model")]
    if isinstance(reference := recorded.get("forgetting"), dict):
        nodes.append(("forgetting", reference))
    while nodes:
        key, node = nodes.pop()
        for name, value in node.items():
            if isinstance(value, dict):
                nodes.append((f"{key}.{name}", value))
            elif isinstance(value, str) and name != "_target_":
                yield f"{key}.{name}", name == "path" and "distribution" in node, value


def _find_foreign(path: Path, known: frozenset[str]) -> Path | None:
    """Find a file, in a folder at any depth, that is neither recorded nor a table beside."""
    files = [path] if path.is_file() else path.rglob("*") if path.is_dir() else []
    for file in files:
        is_shown = file == path or not (file.name.startswith(".") or file.suffix == ".md")
        if not is_shown or not file.is_file() or _is_beside(file):
            continue
        if checksum(file)["checksum"] not in known:
            return file
    return None


def _is_beside(file: Path) -> bool:
    """Whether a file is a table in the folder in which the command is given, or below it."""
    name = file.name.removesuffix(".gz")
    return file.resolve().is_relative_to(Path.cwd().resolve()) and name.endswith(tuple(FORMATS))
