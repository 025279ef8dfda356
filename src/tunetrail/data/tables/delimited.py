"""CSV and TSV: fields between separators, quoted where they hold one, or a line end."""

import csv
from collections.abc import Iterator, Sequence
from typing import IO

from tunetrail.data.tables.lines import Lines, LineTooLongError
from tunetrail.data.tables.rows import (
    Answers,
    BadRow,
    Row,
    find_fault,
    is_encodable,
)
from tunetrail.errors import InputError

# A quote that is never closed makes the rest of a file one field: how much of it is looked at.
_MAX_FIELD_CHARACTERS = 1 << 20


class DelimitedReader:
    """Read a header, then rows.

    A record that cannot be read costs its first line alone: the lines after it, which an
    unclosed quote would swallow, are read again by themselves.

    Raises:
        InputError: the header cannot be read, or does not name the text column once.

    """

    unit = "line"

    def __init__(self, lines: Lines, *, name: str, delimiter: str, text_column: str) -> None:
        csv.field_size_limit(_MAX_FIELD_CHARACTERS)
        self._lines = _Noted(lines)
        self._records = csv.reader(self._lines, delimiter=delimiter, strict=True)
        self._column = text_column
        self.header = self._read_header(name)
        if self.header.count(text_column) != 1:
            found = ", ".join(self.header)
            how_often = "no column" if text_column not in self.header else "more than one column"
            raise InputError(
                f"{how_often} {text_column!r} in {name} (found: {found}); give --text-column"
            )
        self._index = self.header.index(text_column)

    def _read_header(self, name: str) -> list[str]:
        try:
            header = next(filter(None, self._records))
        except StopIteration:
            raise InputError(f"{name} is empty; its first line must name the columns") from None
        except (csv.Error, LineTooLongError) as error:
            raise InputError(f"{name}: its header cannot be read: {error}") from error
        if not is_encodable("".join(header)):
            raise InputError(f"{name}: its header is not UTF-8; convert the file (iconv -t UTF-8)")
        return header

    def __iter__(self) -> Iterator[Row | BadRow]:
        while True:
            self._lines.begin()
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
                if not fields:
                    continue  # an empty line
                cause = self._find_fault(fields)
            number = self._lines.first_number
            if cause is None:
                yield Row(number, fields[self._index], fields)
                continue
            yield BadRow(number, cause)
            if len(fields) != len(self.header):
                self._lines.give_back_all_but_first()

    def _find_fault(self, fields: list[str]) -> str | None:
        if len(fields) != len(self.header):
            return f"{len(fields)} fields where the header has {len(self.header)}"
        if not is_encodable("".join(fields)):
            return "bytes that are not UTF-8"
        return find_fault(fields[self._index], self._column)


class _Noted:
    """Lines for a csv reader, with a note of those that went into the present record."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._taken: list[str] = []
        self.first_number = 1

    def __iter__(self) -> "_Noted":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._taken.append(line)
        return line

    def begin(self) -> None:
        self._taken.clear()
        self.first_number = self._lines.number + 1

    def give_back_all_but_first(self) -> None:
        self._lines.give_back(self._taken[1:])


class DelimitedWriter:
    """Write a header, then all columns of the rows and the answers after them."""

    def __init__(
        self, file: IO[str], *, header: Sequence[str], delimiter: str, added: Sequence[str]
    ) -> None:
        self._writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        self._writer.writerow([*header, *added])

    def write(self, rows: Sequence[Row], answers: Answers) -> None:
        self._writer.writerows(
            [*row.kept, prediction, *map(str, numbers)]
            for row, prediction, numbers in zip(
                rows, answers.predictions(), answers.numbers(), strict=True
            )
        )

    def close(self) -> None:
        pass
