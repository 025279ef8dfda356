"""CoNLL and IOB files: a token a line with its tag, an empty line after each sentence."""

from collections.abc import Iterator, Mapping
from typing import IO

from tunetrail.data.tables.json_objects import JsonWriter
from tunetrail.data.tables.lines import Lines, LinesReader, LineTooLongError
from tunetrail.data.tables.rows import BadRow, Row, is_encodable


class ConllReader(LinesReader):
    """Read a sentence a row: ``tokens`` are the first column, ``tags`` the last.

    Columns are separated by tabs, in a line without tabs by white space. A file of one column has
    tokens alone. A line of nothing but white space and a ``-DOCSTART-`` line separate sentences.
    A bad line costs its sentence.
    """

    input_column = "tokens"

    def __init__(self, lines: Lines) -> None:
        super().__init__(lines)
        self.header = ["tokens", "tags"]
        self._num_columns = 0  # as the first line has them

    def __iter__(self) -> Iterator[Row | BadRow]:
        while (row := self._read_sentence()) is not None:
            yield row

    def _read_sentence(self) -> Row | BadRow | None:
        start, bad = 0, None
        rows: list[list[str]] = []
        try:
            for line in self._lines:
                if not line.strip() or line.startswith("-DOCSTART-"):
                    if rows:
                        break
                    continue
                start = start or self._lines.number
                rows.append(line.rstrip("\r\n").split("\t") if "\t" in line else line.split())
                cause = self._find_fault(rows[-1])
                bad = bad or (cause and BadRow(self._lines.number, cause))
        except LineTooLongError as error:
            return BadRow(self._lines.number, str(error))
        if bad or not rows:
            return bad or None
        values = {"tokens": [row[0] for row in rows]}
        return Row(
            start,
            values if self._num_columns == 1 else values | {"tags": [row[-1] for row in rows]},
        )

    def _find_fault(self, fields: list[str]) -> str | None:
        self._num_columns = self._num_columns or len(fields)
        if len(fields) != self._num_columns:
            return f"{len(fields)} columns where the first line has {self._num_columns}"
        if not is_encodable("".join(fields)):
            return f"bytes that are not {self._lines.encoding}"
        return None if fields[0].strip() and fields[-1].strip() else "an empty token or tag"

    def type_of(self, column: str) -> str:
        del column
        return "tokens"

    def build_writer(self, file: IO[str], columns: Mapping[str, str]) -> JsonWriter:
        return JsonWriter(file, columns, as_list=False)
