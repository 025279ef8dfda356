"""JSON: an object in each line, or a list of objects."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from tunetrail.data.tables.lines import LinesReader, LineTooLongError
from tunetrail.data.tables.rows import BadRow, Row, is_encodable, to_json
from tunetrail.errors import InputError

_scan = json.JSONDecoder().raw_decode
_skip_space = re.compile(r"\s*").match


class JsonLinesReader(LinesReader):
    """Read an object a line; empty lines are passed over."""

    def __iter__(self) -> Iterator[Row | BadRow]:
        while True:
            try:
                line = next(self._lines).strip()
                if line:
                    yield _build_row(self._lines.number, line, json.loads(line))
            except StopIteration:
                return
            except LineTooLongError as error:
                yield BadRow(self._lines.number, str(error))
            except (ValueError, RecursionError) as error:
                yield BadRow(self._lines.number, _describe(error))

    def build_writer(self, file: IO[str], columns: Mapping[str, str]) -> "JsonWriter":
        return JsonWriter(file, columns, as_list=False)


class JsonReader(LinesReader):
    """Read a list of objects, ``{"data": [...]}``, or objects one after the other.

    The whole file is held in memory.

    Raises:
        InputError: by iterating, where it is no JSON.

    """

    def __iter__(self) -> Iterator[Row | BadRow]:
        text = self._lines.read_rest()
        number, counted = 1, 0
        try:
            for start, end, value in _find_values(text):
                number += text.count("\n", counted, start)
                counted = start
                yield _build_row(number, text[start:end], value)
        except json.JSONDecodeError as error:
            raise InputError(f"{self.name}: line {error.lineno}: {_describe(error)}") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.name}: {_describe(error)}") from error

    def build_writer(self, file: IO[str], columns: Mapping[str, str]) -> "JsonWriter":
        return JsonWriter(file, columns, as_list=True)


def _find_values(text: str) -> Iterator[tuple[int, int, Any]]:
    """Give start, end and value of each row."""
    at, is_inner = _after_space(text, 0), False
    if text[at : at + 1] == "{":
        first, end = _scan(text, at)
        is_inner = end == len(text.rstrip()) and isinstance(first.get("data"), list)
        at = _find_data(text, at) if is_inner else at
    if text[at : at + 1] != "[":
        while at < len(text):
            value, end = _scan(text, at)
            yield at, end, value
            at = _after_space(text, end)
        return
    at = _after_space(text, at + 1)
    while text[at : at + 1] != "]":
        value, end = _scan(text, at)
        yield at, end, value
        at = _after_space(text, end)
        at = at if text[at : at + 1] == "]" else _after(",", text, at)
    if not is_inner and at + 1 < len(text.rstrip()):
        raise json.JSONDecodeError("Extra data", text, at + 1)


def _find_data(text: str, at: int) -> int:
    """Return where the list under the key "data" of the object at ``at`` begins."""
    while True:
        key, end = _scan(text, _after_space(text, at + 1))
        start = _after(":", text, _after_space(text, end))
        if key == "data":
            return start
        at = _after_space(text, _scan(text, start)[1])


def _after_space(text: str, at: int) -> int:
    found = _skip_space(text, at)
    return found.end() if found else at


def _after(sign: str, text: str, at: int) -> int:
    if text[at : at + 1] != sign:
        raise json.JSONDecodeError(f"Expecting '{sign}'", text, at)
    return _after_space(text, at + 1)


def _build_row(number: int, text: str, value: object) -> Row | BadRow:
    if not is_encodable(text):
        return BadRow(number, "bytes that are not UTF-8")
    if not isinstance(value, dict):
        return BadRow(number, f"no JSON object but {type(value).__name__}")
    # The text is kept: 1.10 and 1e400 come out as they went in.
    return Row(number, value, text)


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
