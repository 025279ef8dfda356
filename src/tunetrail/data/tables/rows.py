"""What a table is made of, whatever file it is in."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

import pyarrow as pa

from tunetrail.data.tables.reading import DEFAULT
from tunetrail.errors import InputError

# A window is what predict holds in memory at once: this many rows, or fewer long ones.
WINDOW_ROWS = 4096
WINDOW_CHARACTERS = 8_000_000
_NUM_NAMED = 3
# Begins the cause of a bad row that another encoding may mend; the name of the encoding follows.
UNDECODABLE = "bytes that are not"


@dataclass(frozen=True, slots=True)
class Row:
    """A row: column -> value. ``kept`` is what the writer of its format writes again.

    ``number`` is that of the line where it begins, or of the row where there are no lines, from 1.
    """

    number: int
    values: Mapping[str, Any]
    kept: Any = None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used, and why."""

    number: int
    cause: str


class TableWriter(Protocol):
    """A table being written: the rows as they were, and the columns of the answers after them."""

    def write(self, rows: Sequence[Row], answers: Sequence[Sequence[Any]]) -> None:
        """Write rows, each with one value for each column of the answers."""

    def close(self) -> None:
        """Write what belongs at the end. Whoever opened the file closes it."""


class TableReader(ABC):
    """An open table. Iterating gives its rows in their order."""

    name: str  # of the file, in messages
    unit = "line"  # what the rows' numbers count
    input_column = "text"  # what a model reads where nobody names a column
    header: list[str] | None = None  # None: every row has names of its own
    reading = DEFAULT  # the settings, for remedies

    @abstractmethod
    def __iter__(self) -> Iterator[Row | BadRow]: ...

    @abstractmethod
    def build_writer(self, file: IO[Any], columns: Mapping[str, str]) -> TableWriter:
        """Build the writer for answers to this table.

        Args:
            columns: name of an answer's column -> its type: "string", "float", "integer", or "json"
                for a list or an object.

        """

    def type_of(self, column: str) -> str:
        """Return "text", "tokens" (texts), "messages" (with role and content), or another type."""
        del column
        return "text"

    def estimate_rows(self, num_read: int) -> int | None:
        """Estimate the number of rows from those read so far; None: unknown."""
        del num_read
        return None

    def find_joined(self) -> list[BadRow]:
        """Find, after all rows were read, those that seem to be several."""
        return []

    def read_all(self) -> pa.Table:
        """Read all rows and columns; a column that a row lacks is null there.

        Raises:
            InputError: rows cannot be read, or are several. It names the first of them.

        """
        columns: dict[str, list[Any]] = {}
        bad = []
        count = 0
        for row in self:
            if isinstance(row, BadRow):
                bad.append(row)
                continue
            for name, value in row.values.items():
                column = columns.setdefault(name, [])
                column.extend([None] * (count - len(column)))
                column.append(value)
            count += 1
        bad = bad or self.find_joined()
        if bad:
            named = "; ".join(f"{self.unit} {row.number}: {row.cause}" for row in bad[:_NUM_NAMED])
            more = f"; {len(bad) - _NUM_NAMED} more" if len(bad) > _NUM_NAMED else ""
            mendable = any(row.cause.startswith(UNDECODABLE) for row in bad)
            others = f", or {self.reading.remedy('encoding', 'cp1252')} or another"
            remedy = f"fix the file{others if mendable else ''}"
            raise InputError(f"{self.name}: {named}{more}; {remedy}")
        for column in columns.values():
            column.extend([None] * (count - len(column)))
        try:
            return pa.table({name: _build_array(values) for name, values in columns.items()})
        except UnicodeEncodeError as error:
            raise InputError(f"{self.name}: {error}; fix the file") from error


def _build_array(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        # Values of several types. ``datasets`` gives them back as they were.
        return pa.array(map(json.dumps, values), pa.json_())


def is_encodable(text: str) -> bool:
    """Whether a text can be written as UTF-8: undecodable bytes were read as lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def is_token(text: str) -> bool:
    """Whether a text can be a token: not empty, without the space that joins tokens to a text."""
    return bool(text.strip()) and " " not in text


def to_json(value: object) -> str:
    """Write a value as JSON; a 32-bit number as the shortest that is the same in 32 bits."""
    return json.dumps(value, ensure_ascii=False, default=lambda number: float(str(number)))


def split_windows(
    rows: Iterable[Row | BadRow], *, columns: Iterable[str]
) -> Iterator[list[Row | BadRow]]:
    """Gather rows into windows that fit into memory, by the size of their values in ``columns``."""
    columns = [*columns]
    window: list[Row | BadRow] = []
    num_characters = 0
    for row in rows:
        window.append(row)
        if isinstance(row, Row):
            num_characters += sum(_count_characters(row.values[column]) for column in columns)
        if len(window) >= WINDOW_ROWS or num_characters >= WINDOW_CHARACTERS:
            yield window
            window, num_characters = [], 0
    if window:
        yield window


def _count_characters(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return sum(map(_count_characters, value.values() if isinstance(value, dict) else value))
