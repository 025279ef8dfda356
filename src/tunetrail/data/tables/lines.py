"""Lines of a byte stream, numbered, of bounded length, that can be read again."""

import io
import zlib
from collections.abc import Callable, Iterator
from typing import IO

from tunetrail.data.tables.reading import Reading
from tunetrail.data.tables.rows import BadRow, TableReader
from tunetrail.errors import InputError

# A longer line is not read into memory.
MAX_LINE_CHARACTERS = 1 << 24
_UTF16_MARKS = ("\udcff\udcfe", "\udcfe\udcff")


class LineTooLongError(Exception):
    """A line is longer than any that is read; it was passed over."""


class Lines:
    """Iterate over decoded lines, ends included. ``number`` is that of the line last given, from 1.

    Args:
        newline: as ``open`` has it; "" ends lines at a lone carriage return too.
        share_read: gives which share of the bytes has been read.

    Raises:
        LineTooLongError: by ``next``, which may be called again for the line after it.
        InputError: the encoding is unknown, the stream is UTF-16 without being said so, or it
            breaks off as no whole gzip file does.

    """

    def __init__(
        self,
        stream: IO[bytes],
        *,
        name: str,
        reading: Reading,
        newline: str = "\n",
        share_read: Callable[[], float] | None = None,
    ) -> None:
        self.name = name
        self.reading = reading
        self.encoding = reading.encoding
        self.number = 0
        self._again: list[str] = []  # the last is the next
        self._record: list[str] | None = None
        self._share_read = share_read
        errors = reading.encoding_errors
        errors = "surrogateescape" if errors == "strict" else errors
        try:
            self._text = io.TextIOWrapper(stream, reading.encoding, errors, newline)
        except LookupError as error:
            remedy = reading.remedy("encoding", "utf-8")
            raise InputError(f"{name}: {error}; {remedy}, or another") from error

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        self.number += 1
        line = self._again.pop() if self._again else self._read_new()
        if self._record is not None:
            self._record.append(line)
        return line

    def _read_new(self) -> str:
        line = self._read(MAX_LINE_CHARACTERS + 1)
        if not line:
            self.number -= 1
            raise StopIteration
        if len(line) > MAX_LINE_CHARACTERS:
            while line and not line.endswith("\n"):
                line = self._read(MAX_LINE_CHARACTERS)
            raise LineTooLongError(f"the line is longer than {MAX_LINE_CHARACTERS:,} characters")
        return self._without_mark(line) if self.number == 1 else line

    def begin_record(self) -> int:
        """Keep the lines from here on in memory; return the number of the first."""
        self._record = []
        return self.number + 1

    @property
    def record(self) -> list[str]:
        """The lines of the record that was read last."""
        return self._record or []

    def read_record_again(self) -> None:
        """Give the lines of the record again, except the first."""
        lines = self.record[1:]
        self._again.extend(reversed(lines))
        self.number -= len(lines)

    def read_rest(self) -> str:
        """Read all that is left."""
        text = self._read(None)
        return self._without_mark(text) if self.number == 0 else text

    def estimate(self, num_read: int) -> int | None:
        """Estimate the number of rows: a share of the bytes is about the same share of the rows."""
        if self._share_read is None:
            return None
        return int(num_read / max(self._share_read(), 1e-9))

    def _read(self, limit: int | None) -> str:
        try:
            return self._text.read() if limit is None else self._text.readline(limit)
        except (OSError, EOFError, UnicodeError, zlib.error) as error:
            raise InputError(f"{self.name}: cannot be read to its end: {error}") from error

    def _without_mark(self, text: str) -> str:
        if text.startswith(_UTF16_MARKS):
            raise InputError(
                f"{self.name}: the file is UTF-16, not {self.encoding}; convert it "
                f"(iconv -t UTF-8), or {self.reading.remedy('encoding', 'utf-16')}"
            )
        return text.removeprefix("\ufeff")


class LinesReader(TableReader):
    """A reader of lines: the abstract base of all formats but Parquet."""

    def __init__(self, lines: Lines) -> None:
        self.name = lines.name
        self.reading = lines.reading
        self._lines = lines

    def _read_lines(self) -> Iterator[str | BadRow]:
        """Give every line, or a bad row in the place of one that is too long."""
        while True:
            try:
                yield next(self._lines)
            except StopIteration:
                return
            except LineTooLongError as error:
                yield BadRow(self._lines.number, str(error))

    def estimate_rows(self, num_read: int) -> int | None:
        return self._lines.estimate(num_read)
