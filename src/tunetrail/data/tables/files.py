"""How a table in a file is opened, and how one with answers is written."""

import contextlib
import gzip
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from datasets import Dataset

from tunetrail.config.scratch import scratch
from tunetrail.data.tables.conll import ConllReader
from tunetrail.data.tables.delimited import DelimitedReader
from tunetrail.data.tables.formats import FORMATS, WRITTEN_AS, find_format
from tunetrail.data.tables.json_objects import JsonLinesReader, JsonReader
from tunetrail.data.tables.lines import Lines
from tunetrail.data.tables.parquet import ParquetReader
from tunetrail.data.tables.plain import LineReader
from tunetrail.data.tables.reading import DEFAULT, Reading
from tunetrail.data.tables.rows import TableReader
from tunetrail.errors import InputError

_GZIP = b"\x1f\x8b"
# First bytes of files that are taken for a table -> what they are, and the remedy.
_OTHER_KINDS = {
    b"PK\x03\x04": "a zip archive or a workbook; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "a workbook; save the sheet as CSV",
    b"PAR1": "a Parquet file; give it a name that ends in .parquet",
}
_DELIMITERS = {"csv": ",", "tsv": "\t"}
_READERS: dict[str, Callable[[Lines], TableReader]] = {
    "json": JsonReader,
    "jsonl": JsonLinesReader,
    "text": LineReader,
    "conll": ConllReader,
}


def load_table(
    path: Path, *, name: str, format_name: str | None = None, reading: Reading = DEFAULT
) -> Dataset:
    """Read a file into memory, all rows and columns, with the types that its format gives them.

    Texts of CSV and TSV stay as they were written: the tweet "NA", the label "01".

    Args:
        name: of the file, in messages.
        reading: how its bytes are read.

    Raises:
        InputError: the file is missing, has no rows, or has rows that cannot be read.

    """
    _require_file(path, name=name)
    if format_name not in (None, *FORMATS.values()):
        known = ", ".join(dict.fromkeys(FORMATS.values()))
        raise InputError(f"{name}: {format_name} is not a format; name one of {known}")
    format_name = format_name or find_format(path, name=name)
    with open_table(path, format_name, name=name, reading=reading) as reader:
        table = reader.read_all()
    if table.num_rows == 0:
        raise InputError(f"{name}: the file has no rows; give one with at least one")
    return Dataset(table)


@contextlib.contextmanager
def open_table(
    path: Path, format_name: str, *, name: str, reading: Reading = DEFAULT
) -> Iterator[TableReader]:
    """Open a file; arguments as those of :func:`load_table`.

    Raises:
        InputError: it cannot be read as a table of this format.

    """
    _require_file(path, name=name)
    if format_name == "parquet":
        yield ParquetReader(path, name=name)
        return
    try:
        raw = path.open("rb")
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from error
    size = max(path.stat().st_size, 1)
    with raw:
        is_packed = path.suffix.lower() == ".gz"
        _require_kind(raw.peek(4), name=name, is_packed=is_packed)
        stream: Any = gzip.GzipFile(fileobj=raw) if is_packed else raw
        yield open_stream(
            stream, format_name, name=name, share_read=lambda: raw.tell() / size, reading=reading
        )


def open_stream(
    stream: IO[bytes],
    format_name: str,
    *,
    name: str,
    share_read: Callable[[], float] | None = None,
    reading: Reading = DEFAULT,
) -> TableReader:
    """Open a stream of bytes, such as stdin; errors as :func:`open_table`."""
    delimiter = _DELIMITERS.get(format_name)
    newline = "" if delimiter else "\n"
    lines = Lines(stream, name=name, newline=newline, share_read=share_read, reading=reading)
    if delimiter:
        return DelimitedReader(lines, delimiter=delimiter)
    return _READERS[format_name](lines)


def _require_file(path: Path, *, name: str) -> None:
    if not path.is_file():
        found = "that is a directory" if path.is_dir() else f"no such file in {Path.cwd()}"
        raise InputError(f"{name}: {found}; give the path of a file")


def _require_kind(head: bytes, *, name: str, is_packed: bool) -> None:
    """Refuse a file whose first bytes are those of another kind than its name says."""
    is_gzip = head.startswith(_GZIP)
    if is_packed and not is_gzip:
        raise InputError(f"{name}: it is no gzip file; give it a name without .gz")
    if is_gzip and not is_packed:
        raise InputError(f"{name}: it is packed with gzip; give it a name that ends in .gz")
    for start, what in _OTHER_KINDS.items():
        if head.startswith(start):
            raise InputError(f"{name}: it is {what}")


def require_output(path: Path, *, format_name: str, source: Path | None) -> None:
    """Check before any work that answers to a table of this format can be written to ``path``.

    Raises:
        InputError: its suffix names another format, it is the input, it is no regular file, or
            its folder does not exist.

    """
    written = WRITTEN_AS.get(format_name, format_name)
    if find_format(path, name=f"--output {path}") != written:
        raise InputError(
            f"--output {path}: answers to {format_name} are written as {written}; give a name "
            f"that ends in .{written}"
        )
    if path.exists() and not path.is_file():
        raise InputError(f"--output {path}: that is no regular file; leave it out for stdout")
    if not path.parent.is_dir():
        raise InputError(f"--output {path}: there is no folder {path.parent}; make it first")
    if not os.access(path.resolve().parent, os.W_OK):
        raise InputError(f"--output {path}: its folder cannot be written to; name another")
    if source is not None and path.exists() and path.samefile(source):
        raise InputError(f"--output {path}: that is the input, still being read; name another")


@contextlib.contextmanager
def open_output(path: Path, *, format_name: str) -> Iterator[IO[Any]]:
    """Write to a file beside ``path`` that replaces it at the end, or is deleted.

    Raises:
        InputError: it cannot be written.

    """
    # A link stays one: what it points to is replaced.
    path = path.resolve()
    try:
        with scratch(path.parent) as beside:
            part = beside / path.name
            with contextlib.ExitStack() as opened:
                file: Any = opened.enter_context(part.open("wb"))
                if path.suffix.lower() == ".gz":
                    file = opened.enter_context(gzip.GzipFile("", "wb", fileobj=file))
                if format_name != "parquet":
                    file = opened.enter_context(io.TextIOWrapper(file, "utf-8", newline=""))
                yield file
            part.replace(path)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"--output {path} cannot be written: {error.strerror or error}") from error
