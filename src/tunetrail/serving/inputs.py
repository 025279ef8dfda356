"""What of a table a model can read, and why the rest cannot be read."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from tunetrail.data.tables.rows import BadRow, Row, TableReader, is_encodable, is_token
from tunetrail.errors import InputError
from tunetrail.served.text2text_generation import find_fault_of_turns

_WORDS = {"text": "text", "tokens": "list of tokens", "messages": "list of messages"}


def require_columns(
    reader: TableReader, column: str, *, kinds: Collection[str], added: Collection[str]
) -> None:
    """Check the columns of a table, where it has the same in every row.

    Args:
        kinds: what the model reads: "text", "tokens" (a list of texts), "messages" (a list of
            role and content), or several of them.
        added: names of the columns that the answers will have.

    Raises:
        InputError: there is no such column, it holds something else, or a name is taken.

    """
    if reader.header is None:
        return
    if reader.header.count(column) != 1:
        how_often = "no column" if column not in reader.header else "more than one column"
        found = ", ".join(reader.header)
        raise InputError(
            f"{reader.name}: {how_often} {column!r} (found: {found}); give --text-column"
        )
    if (kind := reader.type_of(column)) not in kinds:
        raise InputError(
            f"{reader.name}: column {column!r} holds {_WORDS.get(kind, kind)}, no "
            f"{_name(kinds)}; give --text-column"
        )
    _require_free(reader.header, added, name=reader.name)


def read_inputs(
    reader: TableReader, column: str, *, kinds: Collection[str], added: Collection[str]
) -> Iterator[Row | BadRow]:
    """Give the rows of a table; one whose ``column`` the model cannot read is a bad row.

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
        cause = _find_fault(row, column, kinds, () if reader.header else added)
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
    if not text.strip():
        return "the text is empty"
    if "\0" in text:
        return "the text holds a NUL character"
    return None if is_encodable(text) else "the text holds half a surrogate pair"


def _name(kinds: Collection[str]) -> str:
    return " or ".join(_WORDS[kind] for kind in kinds)
