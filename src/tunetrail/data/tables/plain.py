"""Plain texts: one a line, or the arguments of a command. They come out as a table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from tunetrail.data.tables.delimited import DelimitedWriter
from tunetrail.data.tables.lines import LinesReader
from tunetrail.data.tables.rows import UNDECODABLE, BadRow, Row, TableReader, is_encodable, to_json

COLUMN = "text"
_TEXT_WIDTH = 60


class LineReader(LinesReader):
    """Read a text a line; an empty line is an empty text."""

    header = [COLUMN]  # noqa: RUF012

    def __iter__(self) -> Iterator[Row | BadRow]:
        for line in self._read_lines():
            if isinstance(line, BadRow):
                yield line
            else:
                text = line.rstrip("\r\n")
                yield _build_row(self._lines.number, text, self._lines.encoding)

    def build_writer(self, file: IO[str], columns: Mapping[str, str]) -> DelimitedWriter:
        return DelimitedWriter(file, [COLUMN, *columns], delimiter="\t")


class ArgumentReader(TableReader):
    """Read the texts of a command line."""

    name = "TEXT"
    unit = "text"
    header = [COLUMN]  # noqa: RUF012

    def __init__(self, texts: Sequence[str], *, for_screen: bool) -> None:
        self._texts = texts
        self._for_screen = for_screen

    def __iter__(self) -> Iterator[Row | BadRow]:
        for number, text in enumerate(self._texts, start=1):
            yield _build_row(number, text, "UTF-8")

    def build_writer(
        self, file: IO[str], columns: Mapping[str, str]
    ) -> "DelimitedWriter | ScreenWriter":
        if self._for_screen:
            return ScreenWriter(file, columns)
        return DelimitedWriter(file, [COLUMN, *columns], delimiter="\t")


def _build_row(number: int, text: str, encoding: str) -> Row | BadRow:
    if not is_encodable(text):
        return BadRow(number, f"{UNDECODABLE} {encoding}")
    return Row(number, {COLUMN: text}, [text])


class ScreenWriter:
    """Write a few answers for a person, in columns, the text last."""

    def __init__(self, file: IO[str], columns: Mapping[str, str]) -> None:
        self._file = file
        self._types = [*columns.values()]
        self._lines = [[*(name.replace("probability_", "") for name in columns), COLUMN]]

    def write(self, rows: Sequence[Row], answers: Sequence[Sequence[Any]]) -> None:
        for row, answer in zip(rows, answers, strict=True):
            text = " ".join(row.values[COLUMN].split())
            text = text if len(text) <= _TEXT_WIDTH else f"{text[: _TEXT_WIDTH - 1]}…"
            cells = [_show(value, kind) for value, kind in zip(answer, self._types, strict=True)]
            self._lines.append([*cells, text])

    def close(self) -> None:
        *widths, _ = [max(map(len, column)) for column in zip(*self._lines, strict=True)]
        for *cells, text in self._lines:
            padded = [
                cell.rjust(width) if kind == "float" else cell.ljust(width)
                for cell, width, kind in zip(cells, widths, self._types, strict=True)
            ]
            self._file.write("  ".join([*padded, text]) + "\n")


def _show(value: Any, kind: str) -> str:
    if kind == "float":
        return f"{value:.4f}"
    return to_json(value) if kind == "json" else str(value)
