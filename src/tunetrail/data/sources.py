"""Where rows come from: files, a file of an installed package, or the hub."""

import contextlib
import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
from datasets import (
    Dataset,
    DatasetDict,
    Features,
    Value,
    load_dataset,
    load_dataset_builder,
)
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub.errors import HfHubHTTPError

from tunetrail.errors import InputError, first_line
from tunetrail.models.hub import is_reachable

_SPLITS = ("train", "validation", "test")
_BUILDERS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}


@dataclass(frozen=True)
class SourceFile:
    """A file that rows were read from."""

    name: str
    sha256: str
    num_bytes: int


def list_files(rows: DatasetDict) -> tuple[SourceFile, ...]:
    """List the files that the splits were read from, as their loader noted them.

    Of a data set of the hub there are none: ``datasets`` may have it in its cache without them.
    """
    files = {
        SourceFile(name=name, sha256=found["checksum"], num_bytes=found["num_bytes"])
        for part in rows.values()
        for name, found in (part.info.download_checksums or {}).items()
    }
    return tuple(sorted(files, key=lambda file: (file.name, file.sha256)))


def load_files(
    *, train: str, validation: str | None = None, test: str | None = None, encoding: str = "utf-8"
) -> DatasetDict:
    """Read one file for each split that is given.

    The suffix says the format: .csv, .tsv, .json (a list of objects, or ``{"data": [...]}``),
    .jsonl, .parquet; all but the last also with .gz. Every column of a CSV or TSV is read as text,
    so that the tweet "NA" and the label "01" arrive as they were written.

    Raises:
        InputError: a file is missing, empty, of another format, or cannot be read as its format.

    """
    paths = {"train": train, "validation": validation, "test": test}
    return DatasetDict(
        {
            split: _read_file(Path(path), key=f"data.{split}={path}", encoding=encoding)
            for split, path in paths.items()
            if path is not None
        }
    )


def load_package_file(
    *, distribution: str, path: str, encoding: str, encoding_errors: str
) -> DatasetDict:
    """Read a CSV that an installed distribution ships, as the split "train".

    The file is found through the distribution's metadata: none of its code is imported.

    Raises:
        InputError: the distribution is not installed or has no such file.

    """
    file = _locate(distribution, path)
    key = f"data.source.path={path} of {distribution}"
    rows = _read_file(file, key=key, encoding=encoding, encoding_errors=encoding_errors)
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
    that there is none. Without a network, a data set that the cache holds is used.

    Raises:
        InputError: the data set, its configuration or a split cannot be had.

    """
    wanted = {ours: theirs for ours, theirs in splits.items() if theirs is not None}
    unknown = sorted(set(wanted) - set(_SPLITS))
    if unknown or "train" not in wanted:
        found = ", ".join(wanted) or "nothing"
        raise InputError(
            f"data.splits names {found}; give train, and if there are any validation and test"
        )
    key = f"data.path={path}"
    try:
        with _ask_cache_only(path), _quiet_loading():
            parts = load_dataset(path, name, revision=revision, split=list(wanted.values()))
            _note_files(parts, path, name)
    except ConnectionError:
        raise InputError(
            f"{key}: the hub does not answer and the cache does not hold it; data=tweets and "
            "data=files data.train=PATH work without a network"
        ) from None
    except (DatasetNotFoundError, FileNotFoundError, HfHubHTTPError) as error:
        raise InputError(
            f"{key}: {first_line(error)}; check data.path and data.revision, log in with "
            "`hf auth login` where access is asked for, or use data=files data.train=PATH"
        ) from error
    except DatasetGenerationError as error:
        raise _unreadable(key, error) from error
    except (ValueError, RuntimeError) as error:
        # An unknown split or configuration, or a data set that is a script.
        raise InputError(
            f"{key}: {first_line(error)}; set data.splits, data.config_name or data.path"
        ) from error
    return DatasetDict(dict(zip(wanted, parts, strict=True)))


def _read_file(path: Path, *, key: str, encoding: str, encoding_errors: str = "strict") -> Dataset:
    path = path.expanduser()
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else path.suffix.lower()
    if suffix not in _BUILDERS:
        raise InputError(
            f"{key}: {suffix or 'no suffix'} is not a format that is read; convert it to one of "
            f"{', '.join(_BUILDERS)}"
        )
    if not path.is_file():
        found = "that is a directory" if path.is_dir() else f"no such file in {Path.cwd()}"
        raise InputError(f"{key}: {found}; give the path of a file")
    if path.stat().st_size == 0:
        raise InputError(f"{key}: the file has no rows; give one with at least one")
    try:
        options = _reader_options(path, suffix, key, encoding, encoding_errors)
        with _quiet_loading():
            rows = load_dataset(_BUILDERS[suffix], data_files=[str(path)], split="train", **options)
    except InputError:
        raise
    except UnicodeError as error:
        raise _undecodable(key, error) from error
    except DatasetGenerationError as error:
        raise _unreadable(key, error) from error
    except (ValueError, LookupError) as error:
        if "corresponds to no data" in str(error):
            raise InputError(f"{key}: the file has no rows; give one with at least one") from error
        raise InputError(f"{key}: {first_line(error)}; mend the file or data.encoding") from error
    assert isinstance(rows, Dataset)
    if len(rows) == 0:
        raise InputError(f"{key}: the file has no rows; give one with at least one")
    rows.info.download_checksums = {path.name: _checksum(path)}
    return rows


def _note_files(parts: list[Dataset], path: str, name: str | None) -> None:
    """Note the files of a data set that is a local directory: ``datasets`` itself does not."""
    folder = Path(path)
    if not folder.is_dir():
        return
    found = load_dataset_builder(path, name).config.data_files or {}
    files = [Path(file) for listed in found.values() for file in listed]
    noted = {str(file.relative_to(folder.resolve())): _checksum(file) for file in files}
    for part in parts:
        part.info.download_checksums = noted


def _checksum(path: Path) -> dict[str, Any]:
    """Sum up a file in the form in which ``datasets`` notes what it has downloaded."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return {"num_bytes": file.tell(), "checksum": digest.hexdigest()}


def _reader_options(
    path: Path, suffix: str, key: str, encoding: str, encoding_errors: str
) -> dict[str, Any]:
    if suffix == ".parquet":
        return {}
    decoding = {"encoding": encoding, "encoding_errors": encoding_errors}
    if suffix in (".json", ".jsonl"):
        return decoding | {"field": _data_field(path, encoding) if suffix == ".json" else None}
    table = decoding | {"sep": "\t" if suffix == ".tsv" else ",", "na_filter": False}
    head = pd.read_csv(path, nrows=1, dtype=str, **table)
    if not isinstance(head.index, pd.RangeIndex):
        # pandas would take the surplus first field for an index and shift every column by one.
        raise InputError(
            f"{key}: its first row has {head.index.nlevels + len(head.columns)} fields and its "
            f'header {len(head.columns)}; put texts that contain the separator in "quotes"'
        )
    return table | {"features": Features({name: Value("string") for name in head.columns})}


def _data_field(path: Path, encoding: str) -> str | None:
    """Tell ``{"data": [...]}`` from a list of objects and from JSON lines."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding=encoding) as file:
        try:
            content = json.load(file)
        except json.JSONDecodeError:
            return None
    wrapped = isinstance(content, dict) and isinstance(content.get("data"), list)
    return "data" if wrapped else None


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
def _ask_cache_only(path: str) -> Iterator[None]:
    """Have ``load_dataset`` look into its cache at once where the hub cannot be asked."""
    offline = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = offline or not (Path(path).is_dir() or is_reachable())
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = offline


@contextlib.contextmanager
def _quiet_loading() -> Iterator[None]:
    """Keep the library from printing a failure that is raised, and said in one line, anyway."""
    verbosity = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)


def _unreadable(key: str, error: DatasetGenerationError) -> Exception:
    cause = error.__cause__ or error
    if isinstance(cause, OSError):
        return cause  # a full disk or a cache that cannot be written is no fault of the file
    if isinstance(cause, UnicodeError):
        return _undecodable(key, cause)
    return InputError(f"{key}: {first_line(cause)}; mend the file")


def _undecodable(key: str, error: UnicodeError) -> InputError:
    return InputError(
        f"{key}: {first_line(error)}; save it as UTF-8, or set data.encoding (latin-1, cp1252, …)"
    )
