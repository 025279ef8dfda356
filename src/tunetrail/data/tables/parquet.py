"""Parquet: columns in row groups, read and written a batch at a time."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tunetrail.data.tables.rows import (
    WINDOW_CHARACTERS,
    WINDOW_ROWS,
    Row,
    TableReader,
    to_json,
)
from tunetrail.errors import InputError

_TYPES = {"string": pa.string(), "float": pa.float32(), "integer": pa.int64(), "json": pa.string()}


class ParquetReader(TableReader):
    """Read batches of rows, or all columns at once with their types.

    Raises:
        InputError: it is no Parquet, or has a name of a column twice.

    """

    unit = "row"

    def __init__(self, path: Path, *, name: str) -> None:
        self.name = name
        try:
            # Pages are read as they come: a row group may be as large as the file.
            self._file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{name}: no Parquet file that can be read: {error}") from error
        self._schema = self._file.schema_arrow
        self.header = self._schema.names
        if twice := sorted({name for name in self.header if self.header.count(name) > 1}):
            raise InputError(f"{name}: two columns are called {twice[0]!r}; rename one of them")

    def __iter__(self) -> Iterator[Row]:
        number = 0
        try:
            for batch in self._file.iter_batches(batch_size=self._batch_size()):
                for index in range(batch.num_rows):
                    number += 1
                    yield Row(number, _BatchRow(batch, index), (batch, index))
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self.name}: cannot be read to its end: {error}") from error

    def _batch_size(self) -> int:
        metadata = self._file.metadata
        groups = range(metadata.num_row_groups)
        num_bytes: int = sum(metadata.row_group(group).total_byte_size for group in groups)
        fitting: int = WINDOW_CHARACTERS * metadata.num_rows // max(num_bytes, 1)
        return max(min(WINDOW_ROWS, fitting), 1)

    def read_all(self) -> pa.Table:
        try:
            table = self._file.read()
            table.validate(full=True)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self.name}: {str(error).splitlines()[0]}; fix the file") from error
        for index, field in enumerate(table.schema):
            if pa.types.is_dictionary(field.type):
                plain = table.column(index).cast(field.type.value_type)
                table = table.set_column(index, field.name, plain)
        return table

    def type_of(self, column: str) -> str:
        kind = self._schema.field(column).type
        if _is_text(kind):
            return "text"
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            return str(kind)
        if _is_text(kind.value_type):
            return "tokens"
        is_object = pa.types.is_struct(kind.value_type)
        names = {field.name for field in kind.value_type} if is_object else set()
        return "messages" if {"role", "content"} <= names else str(kind)

    def estimate_rows(self, num_read: int) -> int | None:
        del num_read
        return int(self._file.metadata.num_rows)

    def build_writer(self, file: IO[bytes], columns: Mapping[str, str]) -> "ParquetWriter":
        return ParquetWriter(file, self._schema, columns)


class _BatchRow(Mapping[str, Any]):
    """A row of a batch, of which a value is read when it is asked for."""

    def __init__(self, batch: pa.RecordBatch, index: int) -> None:
        self._batch = batch
        self._index = index

    def __getitem__(self, name: str) -> Any:
        return self._batch.column(name)[self._index].as_py()

    def __iter__(self) -> Iterator[str]:
        return iter(self._batch.schema.names)

    def __len__(self) -> int:
        return int(self._batch.num_columns)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


class ParquetWriter:
    """Write batches with the answers as further columns; the types of the others stay."""

    def __init__(self, file: IO[bytes], schema: pa.Schema, columns: Mapping[str, str]) -> None:
        self._columns = columns
        self._schema = schema
        for name, kind in columns.items():
            self._schema = self._schema.append(pa.field(name, _TYPES[kind]))
        self._writer = pq.ParquetWriter(file, self._schema)

    def write(self, rows: Sequence[Row], answers: Sequence[Sequence[Any]]) -> None:
        batches = [list(group) for _, group in groupby(rows, lambda row: id(row.kept[0]))]
        taken = [group[0].kept[0].take([row.kept[1] for row in group]) for group in batches]
        columns = pa.Table.from_batches(taken).columns
        for kind, values in zip(self._columns.values(), zip(*answers, strict=True), strict=True):
            written = map(to_json, values) if kind == "json" else values
            columns.append(pa.array(list(written), _TYPES[kind]))
        self._writer.write_table(pa.table(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()
