"""CSV and TSV: fields between separators, quoted where they hold one, or a line end."""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from tunetrail.data.tables.joined import JoinedRows
from tunetrail.data.tables.lines import Lines, LinesReader, LineTooLongError
from tunetrail.data.tables.rows import UNDECODABLE, BadRow, Row, is_encodable, to_json
from tunetrail.errors import InputError

# A quote that is never closed makes the rest of a file one field: how much of it is looked at.
_MAX_FIELD_CHARACTERS = 1 << 20
# One before a quote or another one, or alone.
_BACKSLASH = re.compile(r'\\(["\\])|\\')
_DELIMITER_MARK = re.compile(r'sep=([^"\\\w])', re.IGNORECASE)
# Looked for in a header of one column.
_DELIMITERS = (";", "\t", "|", ",")


class DelimitedReader(LinesReader):
    """Read a header, then rows; every value is text, as it was written.

    A record that cannot be read costs its first line alone: the lines after it, which an
    unclosed quote would swallow, are read again by themselves. A line of nothing but white space
    is passed over, and so is ``sep=;`` before the header, which names the delimiter where no other
    is set. Columns with the same name are told apart by their places.

    Raises:
        InputError: the header cannot be read, or another delimiter stands in it.

    """

    header: list[str]

    def __init__(self, lines: Lines, *, delimiter: str) -> None:
        super().__init__(lines)
        csv.field_size_limit(_MAX_FIELD_CHARACTERS)
        self._dialect: dict[str, Any] = {"delimiter": lines.reading.delimiter or delimiter}
        if lines.reading.escaped_quotes:
            self._dialect["escapechar"] = "\\"
            written: Iterable[str] = map(_keep_backslashes, lines)
        else:
            written = lines
        self._records = csv.reader(written, strict=True, **self._dialect)
        self._written_header = self._read_header()
        # Excel's own first line names the delimiter.
        line = self._dialect["delimiter"].join(self._written_header)
        self._is_marked = (mark := _DELIMITER_MARK.fullmatch(line)) is not None
        if mark is not None:
            self._dialect["delimiter"] = self.reading.delimiter or mark[1]
            self._records = csv.reader(written, strict=True, **self._dialect)
            self._written_header = self._read_header()
        if len(self._written_header) == 1 and self.reading.delimiter is None:
            self._require_no_other(self._written_header[0])
        self.header = [
            name if self._written_header.count(name) == 1 else f"{name} (column {place})"
            for place, name in enumerate(self._written_header, start=1)
        ]
        self._joined = JoinedRows(self.header)

    def _read_header(self) -> list[str]:
        try:
            header = next(filter(None, self._records))
        except StopIteration:
            raise InputError(
                f"{self.name}: the file is empty; its first line must name the columns"
            ) from None
        except (csv.Error, LineTooLongError) as error:
            raise InputError(f"{self.name}: its header cannot be read: {error}") from error
        if not is_encodable("".join(header)):
            raise InputError(
                f"{self.name}: its header is not {self._lines.encoding}; convert the file "
                f"(iconv -t UTF-8), or {self.reading.remedy('encoding', 'cp1252')} or another"
            )
        return header

    def _require_no_other(self, header: str) -> None:
        """Refuse a single column whose name holds a delimiter, unless its own one is set."""
        other = next((one for one in _DELIMITERS if one in header), None)
        if other is None:
            return
        name, value = ("format", "tsv") if other == "\t" else ("delimiter", other)
        own = self._dialect["delimiter"]
        raise InputError(
            f"{self.name}: its header is one column, {header!r}; {self.reading.remedy(name, value)}"
            f" (where it is one name, {self.reading.remedy('delimiter', own)})"
        )

    def __iter__(self) -> Iterator[Row | BadRow]:
        places = {name: self.header.index(name) for name in self.header}
        while True:
            number = self._lines.begin_record()
            fields: list[str] = []
            try:
                fields = next(self._records)
            except StopIteration:
                return
            except LineTooLongError as error:
                cause: str | None = str(error)
            except csv.Error as error:
                cause = self._describe(error)
            else:
                if len(fields) < 2 and not "".join(fields).strip():
                    continue
                cause = self._find_fault(fields)
            if cause is None:
                self._note(number, fields)
                values = {name: fields[place] for name, place in places.items()}
                yield Row(number, values, fields)
                continue
            yield BadRow(number, cause)
            if len(fields) != len(self.header):
                self._lines.read_record_again()

    def _describe(self, error: csv.Error) -> str:
        if str(error).startswith("field larger"):
            return (
                f"a field has more than {_MAX_FIELD_CHARACTERS:,} characters; shorten it, or close "
                f"the quote that opens it{self._find_escape()}"
            )
        return f"its quotes do not pair up ({error}){self._find_escape()}"

    def _find_escape(self) -> str:
        is_unread = not self.reading.escaped_quotes and any('\\"' in x for x in self._lines.record)
        if not is_unread:
            return ""
        return f'; where \\" is a quote, {self.reading.remedy("escaped_quotes", "true")}'

    def _note(self, number: int, fields: list[str]) -> None:
        self._joined.add(fields)
        lines = self._lines.record
        if len(lines) > 1 and len(self.header) > 1:
            bare = (line.replace('"', "") for line in lines)
            rows = [*filter(None, csv.reader(bare, **self._dialect))]
            if len(rows) > 1 and all(len(row) == len(self.header) for row in rows):
                self._joined.note(number, self._lines.number, fields, rows)

    def find_joined(self) -> list[BadRow]:
        return self._joined.find()

    def _find_fault(self, fields: list[str]) -> str | None:
        if len(fields) != len(self.header):
            return (
                f"{len(fields)} fields where the header has {len(self.header)} (a text that holds "
                'the separator needs "quotes")'
            )
        if not is_encodable("".join(fields)):
            return f"{UNDECODABLE} {self._lines.encoding}"
        return None

    def build_writer(self, file: IO[str], columns: Mapping[str, str]) -> "DelimitedWriter":
        if self._is_marked:
            file.write(f"sep={self._dialect['delimiter']}\n")
        return DelimitedWriter(file, [*self._written_header, *columns], **self._dialect)


def _keep_backslashes(line: str) -> str:
    """Double backslashes that escape nothing: ``csv`` would drop them."""
    if "\\" not in line:
        return line
    return _BACKSLASH.sub(lambda found: found[0] if found[1] else "\\\\", line)


class DelimitedWriter:
    """Write the fields of the rows, and the answers after them."""

    def __init__(self, file: IO[str], header: Sequence[str], **dialect: Any) -> None:
        self._writer = csv.writer(file, lineterminator="\n", **dialect)
        self._writer.writerow(header)

    def write(self, rows: Sequence[Row], answers: Sequence[Sequence[Any]]) -> None:
        self._writer.writerows(
            [*row.kept, *map(_to_cell, answer)] for row, answer in zip(rows, answers, strict=True)
        )

    def close(self) -> None:
        pass


def _to_cell(value: object) -> str:
    return to_json(value) if isinstance(value, list | dict) else str(value)
