"""What MLflow's server answers for one of these models: a table that fits its signature, or 400.

The server itself drops columns that a model does not read, guesses types, and sends stack traces.
For each request it looks up ``invocations`` among the names of its module, so what
:func:`take_over` puts there reads the request instead. Other models are answered as before.
"""

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

_SERVER = "mlflow.pyfunc.scoring_server"
_JSON = "application/json"
_SPLIT = "dataframe_split"
_FORMATS = ("inputs", "instances", "dataframe_records", _SPLIT)

Records = list[dict[Any, Any]]


def take_over(find_columns: Callable[[Any], Sequence[str] | None]) -> None:
    """Answer the requests to the server of this process, if it is one.

    Args:
        find_columns: names the columns that a loaded model reads; None for one of another kind.

    """
    server: Any = sys.modules.get(_SERVER)
    if server is None or server.invocations.__module__ == __name__:
        return
    theirs = server.invocations

    def invocations(data: bytes, content_type: str | None, model: Any, schema: Any) -> Any:
        columns = find_columns(model)
        if columns is None:
            return theirs(data, content_type, model, schema)
        try:
            table = read_table(data, content_type, columns)
        except ValueError as error:
            from mlflow.exceptions import MlflowException

            raise MlflowException.invalid_parameter_value(str(error)) from None
        result = io.StringIO()
        server.predictions_to_json(model.predict(table), result)
        return server.InvocationsResponse(result.getvalue(), 200, _JSON)

    server.invocations = invocations


def read_table(body: bytes, content_type: str | None, columns: Sequence[str]) -> pd.DataFrame:
    """Read a request: a table with these columns, and no others.

    Raises:
        ValueError: it is none; the message is one sentence.

    """
    if content_type is None:
        raise ValueError(f"the request has no Content-Type; send one of {', '.join(_KINDS)}")
    kind, _, options = content_type.partition(";")
    kind = kind.strip().lower()
    if kind not in _KINDS or options.strip().lower() not in ("", "charset=utf-8"):
        known = ", ".join(_KINDS)
        raise ValueError(f"Content-Type: {content_type} cannot be read; send one of {known}")
    records = _read_json(body, columns) if kind == _JSON else _READERS[kind](body)
    for number, row in enumerate(records):
        if missing := [name for name in columns if name not in row]:
            found = ", ".join(map(str, row)) or "nothing"
            raise ValueError(f"row {number} has no {missing[0]!r} (found: {found})")
        if extra := [name for name in row if name not in columns]:
            raise ValueError(
                f"row {number} has {extra[0]!r}, which the model does not read; it reads "
                f"{', '.join(columns)}"
            )
    return pd.DataFrame(records, columns=list(columns), dtype=object)


def _read_json(body: bytes, columns: Sequence[str]) -> Records:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the body is no JSON ({error})") from None
    if not isinstance(given, dict) or len(given) != 1 or not given.keys() <= {*_FORMATS}:
        found = ", ".join(given) if isinstance(given, dict) else type(given).__name__
        raise ValueError(
            f"the body must be an object with one of {', '.join(_FORMATS)} and nothing else "
            f"(found: {found or 'nothing'})"
        )
    ((form, table),) = given.items()
    if form == _SPLIT:
        return _read_split(table)
    if isinstance(table, dict):
        return _read_columns(table, form)
    rows = table if isinstance(table, list) else [table]
    if form != "dataframe_records" and len(columns) == 1:
        # A single column needs no name.
        rows = [row if isinstance(row, dict) else {columns[0]: row} for row in rows]
    if wrong := [number for number, row in enumerate(rows) if not isinstance(row, dict)]:
        raise ValueError(f"row {wrong[0]} of {form} is no object with {', '.join(columns)}")
    return rows


def _read_split(table: Any) -> Records:
    if not isinstance(table, dict) or not {"columns", "data"} <= table.keys():
        raise ValueError(f"{_SPLIT} must be an object with columns and data")
    names, rows = table["columns"], table["data"]
    if not all(isinstance(part, list) for part in (names, rows)):
        raise ValueError(f"columns and data of {_SPLIT} must be lists")
    return _name_cells(names, rows)


def _read_columns(table: Mapping[str, Any], form: str) -> Records:
    """Read an object of columns; one of single values is a row."""
    if not any(isinstance(values, list) for values in table.values()):
        return [dict(table)]
    lengths = {len(values) if isinstance(values, list) else -1 for values in table.values()}
    if len(lengths) > 1:
        raise ValueError(f"the columns of {form} are not lists of the same length")
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def _read_csv(body: bytes) -> Records:
    try:
        text = io.StringIO(body.decode("utf-8-sig"), newline="")
        lines = [cells for cells in csv.reader(text, strict=True) if cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"the body is no CSV in UTF-8 ({error})") from None
    if not lines:
        raise ValueError("the body is no CSV: it has no header")
    return _name_cells(lines[0], lines[1:])


def _read_parquet(body: bytes) -> Records:
    try:
        # Arrow's types keep null and lists as they are.
        table = pd.read_parquet(io.BytesIO(body), dtype_backend="pyarrow")
        records: Records = table.to_dict("records")
    except Exception:  # noqa: BLE001 - a faulty file ends in errors of many types
        raise ValueError("the body is no Parquet file") from None
    return records


def _name_cells(names: Sequence[Any], rows: Sequence[Any]) -> Records:
    if len(set(map(str, names))) < len(names):
        raise ValueError(f"two columns have the same name ({', '.join(map(str, names))})")
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            raise ValueError(f"row {number} has not one value for each of {len(names)} columns")
    return [dict(zip(map(str, names), row, strict=True)) for row in rows]


# Of tables, in which every column has its name.
_READERS: dict[str, Callable[[bytes], Records]] = {
    "text/csv": _read_csv,
    "application/x-parquet": _read_parquet,
}
_KINDS = (_JSON, *_READERS)
