"""JSON lines: an object in each line."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, NoReturn

from tunetrail.data.tables.lines import Lines, LineTooLongError
from tunetrail.data.tables.rows import Answers, BadRow, Row, find_fault, is_encodable
from tunetrail.errors import InputError


class JsonLinesReader:
    """Read objects; empty lines are passed over.

    Raises:
        InputError: the first object has a key already that an answer is to have.

    """

    unit = "line"

    def __init__(self, lines: Lines, *, name: str, text_column: str, added: Sequence[str]) -> None:
        self._lines = lines
        self._name = name
        self._column = text_column
        self._added = set(added)

    def __iter__(self) -> Iterator[Row | BadRow]:
        is_first = True
        while True:
            try:
                line = next(self._lines)
                if not line.strip():
                    continue
                values = _load_object(line)
            except StopIteration:
                return
            except (LineTooLongError, ValueError) as error:
                yield BadRow(self._lines.number, str(error))
                continue
            if is_first:
                require_free_names(values, self._added, name=self._name)
                is_first = False
            if (fault := self._find_fault(values)) is not None:
                yield BadRow(self._lines.number, fault)
            else:
                # The line itself is kept: 1.10 and 1e400 come out as they went in.
                yield Row(self._lines.number, values[self._column], line.strip())

    def _find_fault(self, values: dict[str, Any]) -> str | None:
        if self._column not in values:
            found = ", ".join(list(values)[:10]) or "nothing"
            return f"no key {self._column!r} (found: {found})"
        if clash := sorted(self._added & set(values)):
            return f"has a key {clash[0]!r} already"
        return find_fault(values[self._column], self._column)


def _load_object(line: str) -> dict[str, Any]:
    """Read a line.

    Raises:
        ValueError: it holds no JSON object; the message says why.

    """
    if not is_encodable(line):
        raise ValueError("bytes that are not UTF-8")
    try:
        values = json.loads(line, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON that can be read: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"no JSON object but {type(values).__name__}")  # noqa: TRY004 - of a line
    return values


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not of JSON")


def require_free_names(present: Iterable[str], added: Iterable[str], *, name: str) -> None:
    """Check that no column has the name of one that is to be added.

    Raises:
        InputError: one has.

    """
    if clash := sorted(set(added) & set(present)):
        raise InputError(
            f"{name} has a column {clash[0]!r} already, which the answers are to have; "
            "give them other names, as with --prefix model_"
        )


class JsonLinesWriter:
    """Write each line again with the answers as further keys."""

    def __init__(self, file: IO[str], *, added: Sequence[str]) -> None:
        self._file = file
        self._columns = added

    def write(self, rows: Sequence[Row], answers: Answers) -> None:
        for row, prediction, numbers in zip(
            rows, answers.predictions(), answers.numbers(), strict=True
        ):
            # The shortest number that is the same in 32 bits.
            values = [prediction, *(float(str(number)) for number in numbers)]
            added = json.dumps(dict(zip(self._columns, values, strict=True)), ensure_ascii=False)
            self._file.write(f"{row.kept[:-1]}, {added[1:]}\n")

    def close(self) -> None:
        pass
