"""Plain texts: a line each, or the arguments of a command. They come out as a table."""

from collections.abc import Iterable, Iterator, Sequence
from typing import IO

from tunetrail.data.tables.lines import Lines, LineTooLongError
from tunetrail.data.tables.rows import Answers, BadRow, Row, find_fault, is_encodable

COLUMN = "text"
_TEXT_WIDTH = 60


class LineReader:
    """Read a text a line. An empty line is a bad row: answers would slip past their texts."""

    unit = "line"

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def __iter__(self) -> Iterator[Row | BadRow]:
        while True:
            try:
                text = next(self._lines).rstrip("\r\n")
            except StopIteration:
                return
            except LineTooLongError as error:
                yield BadRow(self._lines.number, str(error))
                continue
            yield _build_row(self._lines.number, text)


class ArgumentReader:
    """Read the texts of a command line."""

    unit = "text"

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts

    def __iter__(self) -> Iterator[Row | BadRow]:
        for number, text in enumerate(self._texts, start=1):
            yield _build_row(number, text)


def _build_row(number: int, text: str) -> Row | BadRow:
    fault = find_fault(text, COLUMN) if is_encodable(text) else "bytes that are not UTF-8"
    return Row(number, text, [text]) if fault is None else BadRow(number, fault)


class ScreenWriter:
    """Write a few answers for a person, in columns, the text last."""

    def __init__(self, file: IO[str], *, added: Sequence[str]) -> None:
        self._file = file
        self._lines = [[*(name.replace("probability_", "") for name in added), COLUMN]]

    def write(self, rows: Sequence[Row], answers: Answers) -> None:
        for row, prediction, numbers in zip(
            rows, answers.predictions(), answers.numbers(), strict=True
        ):
            text = " ".join(row.text.split())
            text = text if len(text) <= _TEXT_WIDTH else f"{text[: _TEXT_WIDTH - 1]}…"
            self._lines.append([prediction, *(f"{number:.4f}" for number in numbers), text])

    def close(self) -> None:
        *widths, _ = [max(map(len, column)) for column in zip(*self._lines, strict=True)]
        for prediction, *numbers, text in self._lines:
            cells = [prediction.ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)]
            self._file.write("  ".join([*cells, text]) + "\n")
