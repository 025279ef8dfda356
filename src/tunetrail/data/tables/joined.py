"""Records of several lines that are several rows: two stray quotes have joined them.

Such a record is valid. But each of its lines would be a row by itself, and its values are those of
other rows, as a label is, or follow them, as a number of the row does.
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tunetrail.data.tables.rows import BadRow

# What is remembered: values of a column, if none is longer, and records.
_MOST_VALUES, _LONGEST_VALUE, _MOST_RECORDS = 100_000, 100, 10_000
# The share of different values from which on they are ids.
_MOSTLY = 0.9
# A number, also one with the letters of a hash.
_NUMBER = re.compile(r"[0-9a-f]*\d[0-9a-f]*", re.IGNORECASE)


@dataclass(frozen=True)
class _Record:
    """Lines of a file, and by column what each of them has there."""

    first: int
    last: int
    values: dict[int, list[str]]


class JoinedRows:
    """Finds them among the records of a table, in memory that does not grow with it."""

    def __init__(self, header: Sequence[str]) -> None:
        self._header = header
        # Place of a column -> how often it has each value. Columns of texts are left out.
        self._columns: dict[int, Counter[str]] = {n: Counter() for n in range(len(header))}
        self._records: list[_Record] = []

    def add(self, fields: Sequence[str]) -> None:
        """Add a record."""
        for place, values in [*self._columns.items()]:
            value = fields[place]
            if len(value) > _LONGEST_VALUE:
                del self._columns[place]
            elif value in values or len(values) < _MOST_VALUES:
                values[value] += 1

    def note(self, first: int, last: int, fields: Sequence[str], rows: Sequence[list[str]]) -> None:
        """Note a record of several lines, and what each of them would be as a row."""
        if len(self._records) < _MOST_RECORDS:
            values = {place: [row[place] for row in rows] for place in self._columns}
            # Its own value is that of a line, or the quote stands in this column.
            values = {n: found for n, found in values.items() if fields[n] and fields[n] in found}
            self._records.append(_Record(first, last, values))

    def find(self) -> list[BadRow]:
        """Find the records that are several rows, after all were added."""
        if not self._records:
            return []
        columns = {
            place: _Column(self._header[place], values) for place, values in self._columns.items()
        }
        causes = (
            (record, columns[place].find_cause(values))
            for record in self._records
            for place, values in record.values.items()
            if place in columns
        )
        found = {
            record.first: f"a quote opens there and closes in line {record.last}, and all of these "
            f"lines would be rows, {cause} (close it, or double it where it is a sign of the text)"
            for record, cause in causes
            if cause is not None
        }
        return [BadRow(number, cause) for number, cause in found.items()]


class _Column:
    def __init__(self, name: str, counts: Counter[str]) -> None:
        self._name = name
        self._counts = counts
        is_numbered = all(map(_NUMBER.search, counts))
        self._are_ids = is_numbered and len(counts) > _MOSTLY * counts.total()
        self._forms = {_NUMBER.sub("0", value) for value in counts} if self._are_ids else set()
        self._numbers = _read_ascending([*counts]) if self._are_ids else []
        lengths = [*map(len, counts)]
        self._lengths = range(min(lengths, default=0), max(lengths, default=0) + 1)

    def find_cause(self, lines: list[str]) -> str | None:
        """Say why lines with these values are rows; None where they are not."""
        values = [value for value in lines if value.strip()]
        if len(values) > 1 and (self._follow(values) if self._are_ids else self._are_known(values)):
            return f"with {values[0]!r} as {self._name!r}"
        return None

    def _are_known(self, values: list[str]) -> bool:
        return {*values} <= self._counts.keys()

    def _follow(self, values: list[str]) -> bool:
        """Whether these are further ids: in a numbered list of a text there are some of others."""
        if len({*values}) < len(values) or len({*values} & self._counts.keys()) > 1:
            return False
        if self._numbers:
            # They fill the gap between the record's own and the next, in steps as elsewhere.
            numbers = _read_ascending(values)
            if not numbers or max(_steps(numbers)) > 2 * max(_steps(self._numbers), default=1):
                return False
            start = bisect_left(self._numbers, numbers[0])
            return bisect_right(self._numbers, numbers[-1]) - start <= 1
        forms = {_NUMBER.sub("0", value) for value in values}
        return forms <= self._forms and all(len(value) in self._lengths for value in values)


def _read_ascending(values: list[str]) -> list[int]:
    """Read whole numbers in ascending order; none where they are not."""
    numbers = [*map(int, values)] if all(map(str.isdecimal, values)) else []
    return numbers if numbers == sorted(numbers) else []


def _steps(numbers: list[int]) -> list[int]:
    return [after - before for before, after in pairwise(numbers)]
