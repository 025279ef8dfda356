"""JSON: an object in each line, or a list of objects."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from tunetrail.data.tables.lines import LinesReader
from tunetrail.data.tables.rows import UNDECODABLE, BadRow, Row, is_encodable, to_json
from tunetrail.data.tables.squad import flatten, is_squad
from tunetrail.errors import InputError


class JsonLinesReader(LinesReader):
    """Read an object a line; empty lines are passed over."""

    def __iter__(self) -> Iterator[Row | BadRow]:
        for line in self._read_lines():
            if isinstance(line, BadRow):
                yield line
            elif text := line.strip():
                yield self._parse(self._lines.number, text)

    def _parse(self, number: int, line: str) -> Row | BadRow:
        try:
            # The line is kept: 1.10 and 1e400 come out as they went in.
            return self._build_row(number, _load(line), line)
        except (ValueError, RecursionError) as error:
            return BadRow(number, _describe(error))

    def _build_row(self, number: int, value: object, text: str) -> Row | BadRow:
        if not is_encodable(text):
            return BadRow(number, f"{UNDECODABLE} {self._lines.encoding}")
        if not isinstance(value, dict):
            return BadRow(number, f"no JSON object but {type(value).__name__}")
        return Row(number, value, text)

    def build_writer(self, file: IO[str], columns: Mapping[str, str]) -> "JsonWriter":
        return JsonWriter(file, columns, as_list=False)


class JsonReader(JsonLinesReader):
    """Read a list of objects or ``{"data": [...]}``, else JSON lines; all of it is held in memory.

    Of a file in SQuAD's form, articles with paragraphs, a row is a question.

    Raises:
        InputError: by iterating, where it is no JSON.

    """

    unit = "row"

    def __iter__(self) -> Iterator[Row | BadRow]:
        text = self._lines.read_rest()
        try:
            whole = _load(text) if text.strip() else []
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":
                raise InputError(f"{self.name}: line {error.lineno}: {_describe(error)}") from error
            self.unit = "line"
            lines = enumerate(map(str.strip, io.StringIO(text)), start=1)
            yield from (self._parse(number, line) for number, line in lines if line)
            return
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.name}: {_describe(error)}") from error
        if isinstance(whole, dict) and isinstance(whole.get("data"), list):
            whole = whole["data"]
            if is_squad(whole):
                # A row is a question.
                whole = list(flatten(whole))
        is_clean = is_encodable(text)
        for number, value in enumerate(whole if isinstance(whole, list) else [whole], start=1):
            yield self._build_row(number, value, "" if is_clean else to_json(value))

    def build_writer(self, file: IO[str], columns: Mapping[str, str]) -> "JsonWriter":
        return JsonWriter(file, columns, as_list=True)


def _load(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_build_object)


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def _describe(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"no JSON: {error.msg} at column {error.colno}"
    return f"no JSON that can be read: {error}"


class JsonWriter:
    """Write each object again with the answers as further keys, in a list or one a line."""

    def __init__(self, file: IO[str], columns: Mapping[str, str], *, as_list: bool) -> None:
        self._file = file
        self._columns = list(columns)
        self._as_list = as_list
        self._before = "[\n" if as_list else ""

    def write(self, rows: Sequence[Row], answers: Sequence[Sequence[Any]]) -> None:
        for row, answer in zip(rows, answers, strict=True):
            text = row.kept or to_json(row.values)
            added = to_json(dict(zip(self._columns, answer, strict=True)))
            self._file.write(f"{self._before}{text[:-1]}, {added[1:]}")
            if self._as_list:
                self._before = ",\n"
            else:
                self._file.write("\n")

    def close(self) -> None:
        if self._as_list:
            self._file.write("\n]\n" if self._before == ",\n" else "[]\n")
