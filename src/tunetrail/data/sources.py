"""Where rows come from: files, a file of an installed package, or the hub."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, DatasetDict, List, Value, load_dataset, load_dataset_builder
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub.errors import HfHubHTTPError

from tunetrail.config.hub import is_reachable
from tunetrail.config.paths import locate, stamp_files
from tunetrail.data.tables.files import load_table
from tunetrail.data.tables.reading import Reading
from tunetrail.errors import InputError, first_line

_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class SourceFile:
    """A file that rows were read from."""

    name: str
    sha256: str
    num_bytes: int


def list_files(rows: DatasetDict) -> tuple[SourceFile, ...]:
    """List the files that the splits were read from.

    There are none for a data set of the hub: ``datasets`` may have it in its cache without them.
    """
    files = {
        SourceFile(name=name, sha256=found["checksum"], num_bytes=found["num_bytes"])
        for part in rows.values()
        for name, found in (part.info.download_checksums or {}).items()
    }
    return tuple(sorted(files, key=lambda file: (file.name, file.sha256)))


def load_files(
    *,
    train: str,
    validation: str | None = None,
    test: str | None = None,
    format: str | None = None,  # noqa: A002 - the key of the config
    encoding: str = "utf-8",
    delimiter: str | None = None,
    escaped_quotes: bool = False,
    list_column: str | None = None,
    list_separator: str | None = None,
) -> DatasetDict:
    """Read one file for each split that is given, of the format that its suffix or ``format`` says.

    Args:
        train, validation, test, format: as above.
        encoding, delimiter, escaped_quotes: as :class:`Reading` has them.
        list_column: with ``list_separator`` the texts of this column become lists, split there.

    Raises:
        InputError: a file is missing, has no rows, or has rows that cannot be read.

    """
    reading = Reading(encoding, delimiter=delimiter, escaped_quotes=escaped_quotes)
    paths = {"train": train, "validation": validation, "test": test}
    rows = DatasetDict(
        {
            split: _load_file(
                Path(path), name=f"data.{split}={path}", format_name=format, reading=reading
            )
            for split, path in paths.items()
            if path is not None
        }
    )
    if list_separator is None or list_column is None:
        return rows
    return DatasetDict(
        {s: _split_lists(part, list_column, list_separator, split=s) for s, part in rows.items()}
    )


def load_package_file(
    *,
    distribution: str,
    path: str,
    encoding: str,
    encoding_errors: str,
    format: str | None = None,  # noqa: A002 - the key of the config
) -> DatasetDict:
    """Read a file that an installed distribution ships, as the split "train".

    The file is found through the distribution's metadata: none of its code is imported.

    Raises:
        InputError: the distribution is not installed, has no such file, or it cannot be read.

    """
    rows = _load_file(
        _locate(distribution, path),
        name=f"data.source.path={path} of {distribution}",
        format_name=format,
        reading=Reading(encoding, encoding_errors),
    )
    return DatasetDict({"train": rows})


def load_hub(
    *,
    path: str,
    splits: dict[str, str | None],
    name: str | None = None,
    revision: str | None = None,
) -> DatasetDict:
    """Load a data set of the Hugging Face hub, or a local directory, with ``load_dataset``.

    ``splits`` maps our names to theirs, slices included (``{"train": "train[:10%]"}``); null means
    none. Without a network, a data set in the cache is used.

    Raises:
        InputError: the data set, its configuration or a split cannot be loaded.

    """
    wanted = {ours: theirs for ours, theirs in splits.items() if theirs is not None}
    unknown = sorted(set(wanted) - set(_SPLITS))
    if unknown or "train" not in wanted:
        found = ", ".join(wanted) or "nothing"
        raise InputError(
            f"data.splits names {found}; give train, and validation and test where they exist"
        )
    key = f"data.path={path}"
    folder = locate(path) if locate(path).is_dir() else None
    how: dict[str, Any] = {"revision": revision, "split": list(wanted.values())}
    try:
        with _ask_cache_only(is_local=folder is not None), _quiet_loading():
            if folder is None:
                parts = load_dataset(path, name, **how)
            else:
                parts = _load_folder(folder, name, key=key, **how)
    except InputError:
        raise
    except ConnectionError:
        raise InputError(
            f"{key}: the hub does not answer, and the cache does not have it; data=tweets and "
            "data=files data.train=PATH work without a network"
        ) from None
    except (DatasetNotFoundError, FileNotFoundError, HfHubHTTPError) as error:
        raise InputError(
            f"{key}: {first_line(error)}; check data.path and data.revision, log in with "
            "`hf auth login` if it asks for access, or use data=files data.train=PATH"
        ) from error
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, OSError):
            # A full disk or a cache that cannot be written is no fault of the data.
            raise error.__cause__ from None
        raise InputError(f"{key}: {first_line(error.__cause__ or error)}; fix the data") from error
    except (ValueError, RuntimeError) as error:
        # An unknown split or configuration, or a data set that is a script.
        raise InputError(
            f"{key}: {first_line(error)}; set data.splits, data.config_name or data.path"
        ) from error
    return DatasetDict(dict(zip(wanted, parts, strict=True)))


def _split_lists(part: Dataset, column: str, separator: str, *, split: str) -> Dataset:
    key = f"data.label_separator={separator}"
    if not isinstance(separator, str) or not separator:
        raise InputError(f"{key}: must be a text of one character or more, or null for none")
    found = part.features.get(column)
    if found not in (Value("string"), Value("large_string")):
        what = "there is no such column" if found is None else "it holds no texts"
        raise InputError(
            f"{key}: data.columns.labels={column} of {split} cannot be split: {what} (found: "
            f"{', '.join(part.column_names)}); set data.columns.labels or data.label_separator"
        )
    lists = [None if text is None else _split_list(text, separator) for text in part[column][:]]
    files = part.info.download_checksums
    part = part.remove_columns(column).add_column(column, lists, feature=List(Value("string")))
    part.info.download_checksums = files
    return part


def _split_list(text: str, separator: str) -> list[str]:
    # Nothing between two separators is a label without a name; nothing at all is no label.
    return [label.strip() for label in text.split(separator)] if text.strip() else []


def _load_file(path: Path, *, name: str, **options: Any) -> Dataset:
    path = locate(path)
    with _unchanged([path] if path.is_file() else [], name=name):
        rows = load_table(path, name=name, **options)
        rows.info.download_checksums = {path.name: checksum(path)}
    return rows


def _load_folder(folder: Path, name: str | None, *, key: str, **how: Any) -> list[Dataset]:
    """Load a local directory with ``load_dataset``, and note its files, which that does not do."""
    folder = folder.resolve()
    if signs := sorted({*"*?["} & {*str(folder)}):
        raise InputError(
            f"{key}: {folder} has {' '.join(signs)} in its name, which datasets takes for a "
            "pattern of several names; rename the folder, or use data=files data.train=PATH"
        )
    listed = load_dataset_builder(str(folder), name).config.data_files or {}
    files = [Path(file) for found in listed.values() for file in found]
    with _unchanged(files, name=key):
        noted = {str(file.relative_to(folder)): checksum(file) for file in files}
        # datasets would take the rows of other files at the same place and time from its cache.
        content = hashlib.sha256(repr(sorted(noted.items())).encode()).hexdigest()[:16]
        cache_dir = Path(datasets.config.HF_DATASETS_CACHE) / f"content-{content}"
        parts: list[Dataset] = load_dataset(str(folder), name, cache_dir=str(cache_dir), **how)
    for part in parts:
        part.info.download_checksums = noted
    return parts


@contextlib.contextmanager
def _unchanged(files: list[Path], *, name: str) -> Iterator[None]:
    """Refuse files that are written while they are read: the record would be of other rows."""
    before = stamp_files(files)
    yield
    if stamp_files(files) != before:
        raise InputError(f"{name}: it was changed while it was read; start again")


def checksum(path: Path) -> dict[str, Any]:
    """Describe a file as ``datasets`` describes what it has downloaded."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return {"num_bytes": file.tell(), "checksum": digest.hexdigest()}


def _locate(name: str, path: str) -> Path:
    try:
        file = Path(str(distribution(name).locate_file(path)))
    except PackageNotFoundError:
        raise InputError(
            f"data.source.distribution={name} is not installed; run `make setup`, or use "
            "data=files data.train=PATH"
        ) from None
    if not file.is_file():
        raise InputError(
            f"data.source.path={path}: {name} {distribution(name).version} has no such file; run "
            "`make setup` for the release that has it"
        )
    return file


@contextlib.contextmanager
def _ask_cache_only(*, is_local: bool) -> Iterator[None]:
    """Let ``load_dataset`` use its cache at once if the hub cannot be reached."""
    offline = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = offline or not (is_local or is_reachable())
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = offline


@contextlib.contextmanager
def _quiet_loading() -> Iterator[None]:
    """Keep the library from printing a failure that is raised anyway."""
    verbosity = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
