"""CoNLL and IOB files: a token a line with its tag, an empty line after each sentence."""

from collections.abc import Iterator, Mapping
from typing import IO

from tunetrail.data.tables.json_objects import JsonWriter
from tunetrail.data.tables.lines import Lines, LinesReader
from tunetrail.data.tables.rows import UNDECODABLE, BadRow, Row, is_encodable


class ConllReader(LinesReader):
    """Read a sentence a row: ``tokens`` are the first column, ``tags`` the last.

    Columns are separated by tabs, in a line without tabs by white space. A file of one column has
    tokens alone. A line of nothing but white space and a ``-DOCSTART-`` line separate sentences.
    A bad line costs its sentence.
    """

    input_column = "tokens"
    header: list[str]

    def __init__(self, lines: Lines) -> None:
        super().__init__(lines)
        self.header = ["tokens", "tags"]
        # What the first line has, and its number.
        self._num_columns = self._first = 0

    def __iter__(self) -> Iterator[Row | BadRow]:
        while (row := self._read_sentence()) is not None:
            yield row

    def _read_sentence(self) -> Row | BadRow | None:
        start, bad = 0, None
        rows: list[list[str]] = []
        for line in self._read_lines():
            if isinstance(line, BadRow):
                bad = bad or line
            elif line.strip() and not line.startswith("-DOCSTART-"):
                start = start or self._lines.number
                rows.append(line.rstrip("\r\n").split("\t") if "\t" in line else line.split())
                cause = self._find_fault(rows[-1])
                bad = bad or (BadRow(self._lines.number, cause) if cause else None)
            elif rows:
                break
        if bad or not rows:
            return bad
        values = {"tokens": [row[0] for row in rows], "tags": [row[-1] for row in rows]}
        return Row(start, {name: values[name] for name in self.header})

    def _find_fault(self, fields: list[str]) -> str | None:
        if not self._num_columns:
            self._num_columns, self._first = len(fields), self._lines.number
            del self.header[len(fields) :]  # in a file of tokens alone there are no tags
        if len(fields) != self._num_columns:
            return (
                f"the number of columns is {len(fields)}, and {self._num_columns} in line "
                f"{self._first}, the first"
            )
        if not is_encodable("".join(fields)):
            return f"{UNDECODABLE} {self._lines.encoding}"
        return None if fields[0].strip() and fields[-1].strip() else "an empty token or tag"

    def type_of(self, column: str) -> str:
        del column
        return "tokens"

    def build_writer(self, file: IO[str], columns: Mapping[str, str]) -> JsonWriter:
        return JsonWriter(file, columns, as_list=False)
