"""Which kind of table a file is, how it is opened, and how the one with the answers is written."""

import contextlib
import gzip
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tunetrail.data.tables.delimited import DelimitedReader, DelimitedWriter
from tunetrail.data.tables.json_lines import JsonLinesReader, JsonLinesWriter, require_free_names
from tunetrail.data.tables.lines import Lines
from tunetrail.data.tables.parquet import ParquetReader, ParquetWriter
from tunetrail.data.tables.plain import COLUMN, ArgumentReader, LineReader
from tunetrail.data.tables.rows import TableReader, TableWriter
from tunetrail.errors import InputError

# Kinds that a stream can have; the suffixes of their files may have .gz after them.
STREAMED = ("text", "csv", "tsv", "jsonl")
_KINDS = {
    ".txt": "text",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
_DELIMITERS = {"csv": ",", "tsv": "\t"}


@dataclass(frozen=True)
class OpenTable:
    """A table open for reading, and how one of its kind is written."""

    reader: TableReader
    build_writer: Callable[[IO[Any]], TableWriter]  # bytes or text, by kind
    # Rows read so far -> rows in all, an estimate where rows have to be counted; None: unknown.
    estimate_rows: Callable[[int], int | None]


def find_kind(path: Path) -> str:
    """Tell the kind of a table by the suffix of its file.

    Raises:
        InputError: it is none of those that are read.

    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    kind = _KINDS.get((suffixes[:-1] if packed else suffixes)[-1:][0] if suffixes else "")
    if kind is None or (packed and kind == "parquet"):
        raise InputError(
            f"{path}: the suffix names no kind of table; use one of {', '.join(_KINDS)} (all but "
            "the last also with .gz), or say it with --format"
        )
    return kind


@contextlib.contextmanager
def open_table(
    path: Path, kind: str, *, text_column: str, added: Sequence[str]
) -> Iterator[OpenTable]:
    """Open a file.

    Raises:
        InputError: it cannot be read as a table of this kind, lacks the text column, or has
            columns named as the answers' are.

    """
    if not path.is_file():
        raise InputError(f"{path}: " + ("that is a directory" if path.is_dir() else "no such file"))
    if kind == "parquet":
        yield _open_parquet(path, text_column=text_column, added=added)
        return
    try:
        raw = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    with raw:
        packed = path.suffix.lower() == ".gz"
        stream = gzip.GzipFile(fileobj=raw) if packed else io.BufferedReader(raw.raw)
        size = path.stat().st_size
        yield open_stream(
            stream,  # type: ignore[arg-type] # GzipFile is no IO[bytes] by its types
            kind,
            name=str(path),
            text_column=text_column,
            added=added,
            # A share of the bytes is the same share of the rows, more or less.
            estimate_rows=lambda num_rows: num_rows * size // max(raw.tell(), 1),
        )


def open_stream(
    stream: IO[bytes],
    kind: str,
    *,
    name: str,
    text_column: str,
    added: Sequence[str],
    estimate_rows: Callable[[int], int | None] = lambda _: None,
) -> OpenTable:
    """Open a stream of lines, such as stdin; errors as :func:`open_table`."""
    lines = Lines(stream, name=name)
    if kind == "text":
        return OpenTable(LineReader(lines), _text_writer(added), estimate_rows)
    if kind == "jsonl":
        return OpenTable(
            JsonLinesReader(lines, name=name, text_column=text_column, added=added),
            lambda file: JsonLinesWriter(file, added=added),
            estimate_rows,
        )
    delimiter = _DELIMITERS[kind]
    reader = DelimitedReader(lines, name=name, delimiter=delimiter, text_column=text_column)
    require_free_names(reader.header, added, name=name)
    return OpenTable(
        reader,
        lambda file: DelimitedWriter(file, header=reader.header, delimiter=delimiter, added=added),
        estimate_rows,
    )


def open_arguments(texts: Sequence[str], *, added: Sequence[str]) -> OpenTable:
    """Take texts as they are."""
    return OpenTable(ArgumentReader(texts), _text_writer(added), lambda _: len(texts))


def _open_parquet(path: Path, *, text_column: str, added: Sequence[str]) -> OpenTable:
    reader = ParquetReader(path, name=str(path), text_column=text_column)
    require_free_names(reader.schema.names, added, name=str(path))
    return OpenTable(
        reader,
        lambda file: ParquetWriter(file, schema=reader.schema, added=added),
        lambda _: reader.num_rows,
    )


def _text_writer(added: Sequence[str]) -> Callable[[IO[Any]], TableWriter]:
    return lambda file: DelimitedWriter(file, header=[COLUMN], delimiter="\t", added=added)


def require_output(path: Path, *, kind: str, source: Path | None) -> None:
    """Check before any work that a table can be written to ``path``.

    Raises:
        InputError: its suffix names another kind than the input has (plain texts come out as
            .tsv), it is the input, it is no regular file, or its folder is not there.

    """
    written = "tsv" if kind == "text" else kind
    if find_kind(path) != written:
        raise InputError(
            f"--output {path}: what comes out is {written}, as what goes in is {kind}; give a "
            f"name that ends in .{written}"
        )
    if path.exists() and not path.is_file():
        raise InputError(f"--output {path}: that is no regular file; leave it out for stdout")
    if not path.parent.is_dir():
        raise InputError(f"--output {path}: there is no folder {path.parent}; make it first")
    if source is not None and path.exists() and path.samefile(source):
        raise InputError(f"--output {path}: that is the input, still being read; name another")


@contextlib.contextmanager
def open_output(path: Path, *, kind: str) -> Iterator[IO[Any]]:
    """Write to a file beside ``path`` that takes its place at the end, or goes away.

    Raises:
        InputError: it cannot be written.

    """
    # A link stays one: what it points to is replaced.
    path = path.resolve()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with contextlib.ExitStack() as opened:
            file: Any = opened.enter_context(part.open("wb"))
            if path.suffix.lower() == ".gz":
                file = opened.enter_context(gzip.GzipFile("", "wb", fileobj=file))
            if kind != "parquet":
                file = opened.enter_context(io.TextIOWrapper(file, "utf-8", newline=""))
            yield file
        part.replace(path)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"--output {path} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
