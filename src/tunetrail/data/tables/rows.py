"""What a table is made of, whatever kind of file it stands in."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

# A window is what is held in memory at once: this many rows, or fewer long ones.
WINDOW_ROWS = 4096
WINDOW_CHARACTERS = 8_000_000


@dataclass(frozen=True)
class Row:
    """A row with a text; ``kept`` is what the writer of its kind makes the rest of it from.

    ``number`` is that of the line it begins in, or of the row where there are no lines, from 1.
    """

    number: int
    text: str
    kept: Any


@dataclass(frozen=True)
class BadRow:
    """A row that has no answer, and why."""

    number: int
    cause: str


@dataclass(frozen=True)
class Answers:
    """Probabilities for a sequence of rows, shape (rows, labels), float32."""

    label_names: Sequence[str]
    probabilities: np.ndarray

    def predictions(self) -> list[str]:
        """Name the most probable label of each row."""
        return [self.label_names[index] for index in self.probabilities.argmax(axis=-1)]

    def numbers(self) -> np.ndarray:
        """Return the confidence and the probabilities, shape (rows, 1 + labels)."""
        return np.column_stack([self.probabilities.max(axis=-1), self.probabilities])


class TableReader(Protocol):
    """An open table. Iterating gives its rows in their order."""

    unit: str  # what the rows' numbers count

    def __iter__(self) -> Iterator[Row | BadRow]: ...


class TableWriter(Protocol):
    """A table being written, of the kind of the one that is read."""

    def write(self, rows: Sequence[Row], answers: Answers) -> None:
        """Write rows with their answers beside them."""

    def close(self) -> None:
        """Write what belongs at the end; the file itself is closed by who opened it."""


def answer_columns(label_names: Sequence[str], *, prefix: str) -> list[str]:
    """Name the columns of the answers as in the predictions of a run, after a prefix."""
    names = ["prediction", "confidence", *(f"probability_{name}" for name in label_names)]
    return [prefix + name for name in names]


def find_fault(value: object, column: str) -> str | None:
    """Say why a value cannot be classified; None where it can."""
    if value is None:
        return f"no value in {column!r}"
    if not isinstance(value, str):
        return f"the value of {column!r} is no text but {type(value).__name__}"
    if not value.strip():
        return "the text is empty"
    if "\0" in value:
        return "the text holds a NUL character"
    if not is_encodable(value):
        return "the text holds half a surrogate pair"
    return None


def is_encodable(text: str) -> bool:
    """Whether a text can be written as UTF-8: undecodable bytes were read as lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def split_windows(rows: Iterable[Row | BadRow]) -> Iterator[list[Row | BadRow]]:
    """Gather rows into windows that fit into memory."""
    window: list[Row | BadRow] = []
    num_characters = 0
    for row in rows:
        window.append(row)
        num_characters += len(row.text) if isinstance(row, Row) else 0
        if len(window) >= WINDOW_ROWS or num_characters >= WINDOW_CHARACTERS:
            yield window
            window, num_characters = [], 0
    if window:
        yield window
