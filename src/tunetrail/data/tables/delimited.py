"""CSV and TSV: fields between separators, quoted where they hold one, or a line end."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from tunetrail.data.tables.lines import Lines, LinesReader, LineTooLongError
from tunetrail.data.tables.rows import UNDECODABLE, BadRow, Row, is_encodable, to_json
from tunetrail.errors import InputError

# A quote that is never closed makes the rest of a file one field: how much of it is looked at.
_MAX_FIELD_CHARACTERS = 1 << 20


class DelimitedReader(LinesReader):
    """Read a header, then rows; every value is text, as it was written.

    A record that cannot be read costs its first line alone: the lines after it, which an
    unclosed quote would swallow, are read again by themselves. A line of nothing but white space
    is passed over. Of columns with the same name the first is read.

    Raises:
        InputError: the header cannot be read.

    """

    header: list[str]

    def __init__(self, lines: Lines, *, delimiter: str) -> None:
        super().__init__(lines)
        csv.field_size_limit(_MAX_FIELD_CHARACTERS)
        self._delimiter = delimiter
        self._records = csv.reader(lines, delimiter=delimiter, strict=True)
        self.header = self._read_header()

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
                "(iconv -t UTF-8), or set data.encoding"
            )
        return header

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
                cause = f"its quotes do not pair up ({error})"
            else:
                if len(fields) < 2 and not "".join(fields).strip():
                    continue
                cause = self._find_fault(fields)
            if cause is None:
                values = {name: fields[place] for name, place in places.items()}
                yield Row(number, values, fields)
                continue
            yield BadRow(number, cause)
            if len(fields) != len(self.header):
                self._lines.read_record_again()

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
        return DelimitedWriter(file, [*self.header, *columns], delimiter=self._delimiter)


class DelimitedWriter:
    """Write the fields of the rows, and the answers after them."""

    def __init__(self, file: IO[str], header: Sequence[str], *, delimiter: str) -> None:
        self._writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        self._writer.writerow(header)

    def write(self, rows: Sequence[Row], answers: Sequence[Sequence[Any]]) -> None:
        self._writer.writerows(
            [*row.kept, *map(_to_cell, answer)] for row, answer in zip(rows, answers, strict=True)
        )

    def close(self) -> None:
        pass


def _to_cell(value: object) -> str:
    return to_json(value) if isinstance(value, list | dict) else str(value)
