"""What of a table a model can read, and why the rest cannot be read."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tunetrail.data.tables.rows import BadRow, Row, TableReader, is_token
from tunetrail.errors import InputError
from tunetrail.served.base import find_fault_of_text
from tunetrail.served.text2text_generation import find_fault_of_turns

_WORDS = {"text": "text", "tokens": "list of tokens", "messages": "list of messages"}


@dataclass(frozen=True)
class InputColumn:
    """A column of a table that a model reads.

    ``kinds`` is what it may hold: "text", "tokens" (a list of texts), or both; ``option`` names
    another one.
    """

    name: str
    kinds: Collection[str]
    option: str


def name_columns(
    inputs: Mapping[str, Collection[str]], named: Mapping[str, str], *, default: str
) -> tuple[InputColumn, ...]:
    """Find the columns of a table that a model reads.

    Args:
        inputs: name of what the model reads -> what it may hold.
        named: the same name -> the column of the table.
        default: the column of ``text`` where none is named. Others have the model's own names.

    Raises:
        InputError: the model reads nothing of that name, or one column is named twice.

    """
    if unknown := sorted(named.keys() - inputs.keys()):
        raise InputError(
            f"the model reads {', '.join(inputs)} and no {unknown[0]!r}; give "
            f"{_option(next(iter(inputs)))}"
        )
    columns = {name: default if name == "text" else name for name in inputs} | {**named}
    for name, column in columns.items():
        if list(columns.values()).count(column) > 1:
            raise InputError(f"two columns are both {column!r}; give {_option(name)}")
    return tuple(InputColumn(columns[name], kinds, _option(name)) for name, kinds in inputs.items())


def _option(name: str) -> str:
    return "--text-column" if name == "text" else f"--column {name}=NAME"


def require_columns(
    reader: TableReader, columns: Iterable[InputColumn], *, added: Collection[str]
) -> None:
    """Check the columns of a table, where it has the same in every row.

    Args:
        columns: those that the model reads.
        added: names of the columns that the answers will have.

    Raises:
        InputError: there is no such column, it holds something else, or a name is taken.

    """
    if reader.header is None:
        return
    for found in columns:
        column = found.name
        if column not in reader.header:
            raise InputError(
                f"{reader.name}: no column {column!r} (found: {', '.join(reader.header)}); give "
                f"{found.option}"
            )
        if (kind := reader.type_of(column)) not in found.kinds:
            raise InputError(
                f"{reader.name}: column {column!r} holds {_WORDS.get(kind, kind)}, no "
                f"{_name(found.kinds)}; give {found.option}"
            )
    _require_free(reader.header, added, name=reader.name)


def read_inputs(
    reader: TableReader, columns: Iterable[InputColumn], *, added: Collection[str]
) -> Iterator[Row | BadRow]:
    """Give the rows of a table; one of which the model cannot read a column is a bad row.

    Raises:
        InputError: the first row has a column already that the answers will have.

    """
    is_first = True
    for row in reader:
        if isinstance(row, BadRow):
            yield row
            continue
        if is_first and reader.header is None:
            _require_free(row.values, added, name=reader.name)
        is_first = False
        faults = (
            _find_fault(row, column.name, column.kinds, () if reader.header else added)
            for column in columns
        )
        cause = next((fault for fault in faults if fault is not None), None)
        yield row if cause is None else BadRow(row.number, cause)


def _require_free(present: Iterable[str], added: Collection[str], *, name: str) -> None:
    if clash := sorted(set(present) & set(added)):
        raise InputError(
            f"{name}: there is a column {clash[0]!r} already, as the answers have one; give them "
            "other names, such as --prefix model_"
        )


def _find_fault(
    row: Row, column: str, kinds: Collection[str], added: Collection[str]
) -> str | None:
    """Say why a row cannot be answered; None where it can."""
    try:
        value = row.values[column]
    except KeyError:
        return f"no key {column!r} (found: {', '.join([*row.values][:10]) or 'nothing'})"
    except UnicodeDecodeError:
        return "bytes that are not UTF-8"
    if clash := sorted(set(added) & row.values.keys()):
        return f"has a key {clash[0]!r} already"
    return _find_fault_of_value(value, column, kinds)


def _find_fault_of_value(value: Any, column: str, kinds: Collection[str]) -> str | None:
    if value is None:
        return f"no value in {column!r}"
    if isinstance(value, list) and "tokens" in kinds:
        return _find_fault_of_tokens(value, column)
    if isinstance(value, list) and "messages" in kinds:
        return find_fault_of_turns(value)
    if not isinstance(value, str) or "text" not in kinds:
        return f"the value of {column!r} is no {_name(kinds)} but {type(value).__name__}"
    return _find_fault_of_text(value)


def _find_fault_of_tokens(tokens: list[Any], column: str) -> str | None:
    for token in tokens:
        if not isinstance(token, str):
            return f"the list in {column!r} holds {type(token).__name__}, not only text"
        if not is_token(token):
            return f"the token {token!r} is empty or holds a space"
        if fault := _find_fault_of_text(token):
            return fault
    return None if tokens else "the list of tokens is empty"


def _find_fault_of_text(text: str) -> str | None:
    if fault := find_fault_of_text(text):
        return fault
    return "the text holds a NUL character" if "\0" in text else None


def _name(kinds: Collection[str]) -> str:
    return " or ".join(_WORDS[kind] for kind in kinds)
