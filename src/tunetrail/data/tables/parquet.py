"""Parquet: columns in row groups, read and written a batch at a time."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from tunetrail.data.tables.rows import (
    WINDOW_CHARACTERS,
    WINDOW_ROWS,
    Answers,
    BadRow,
    Row,
    find_fault,
)
from tunetrail.errors import InputError


class ParquetReader:
    """Read batches of rows.

    Raises:
        InputError: it is no Parquet, or has no column of texts of that name.

    """

    unit = "row"

    def __init__(self, path: Path, *, name: str, text_column: str) -> None:
        self._name = name
        self._column = text_column
        try:
            # Pages are read as they come: a row group may be as large as the file.
            self._file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{name} is no Parquet file that can be read: {error}") from error
        self.schema = self._file.schema_arrow
        self.num_rows: int = self._file.metadata.num_rows
        names = self.schema.names
        if names.count(text_column) != 1:
            how_often = "no column" if text_column not in names else "more than one column"
            raise InputError(
                f"{how_often} {text_column!r} in {name} (found: {', '.join(names)}); give "
                "--text-column"
            )
        if not _is_text(self.schema.field(text_column).type):
            raise InputError(
                f"column {text_column!r} of {name} holds {self.schema.field(text_column).type}, "
                "no texts; give --text-column"
            )

    def __iter__(self) -> Iterator[Row | BadRow]:
        start = 1
        try:
            for batch in self._file.iter_batches(batch_size=self._batch_size()):
                for index, value in enumerate(batch.column(self._column)):
                    yield self._build_row(start + index, value, batch, index)
                start += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self._name} cannot be read to its end: {error}") from error

    def _batch_size(self) -> int:
        metadata = self._file.metadata
        groups = range(metadata.num_row_groups)
        num_bytes: int = sum(metadata.row_group(group).total_byte_size for group in groups)
        fitting = WINDOW_CHARACTERS * self.num_rows // max(num_bytes, 1)
        return max(min(WINDOW_ROWS, fitting), 1)

    def _build_row(
        self, number: int, value: pa.Scalar, batch: pa.RecordBatch, index: int
    ) -> Row | BadRow:
        try:
            text = value.as_py()
        except UnicodeDecodeError:
            return BadRow(number, "bytes that are not UTF-8")
        fault = find_fault(text, self._column)
        return Row(number, text, (batch, index)) if fault is None else BadRow(number, fault)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


class ParquetWriter:
    """Write batches with the answers as further columns; the types of the others stay."""

    def __init__(self, file: IO[bytes], *, schema: pa.Schema, added: Sequence[str]) -> None:
        prediction, *numbers = added
        self._schema = schema.append(pa.field(prediction, pa.string()))
        for name in numbers:
            self._schema = self._schema.append(pa.field(name, pa.float32()))
        self._writer = pq.ParquetWriter(file, self._schema)

    def write(self, rows: Sequence[Row], answers: Answers) -> None:
        batches = [list(group) for _, group in groupby(rows, lambda row: id(row.kept[0]))]
        taken = [group[0].kept[0].take([row.kept[1] for row in group]) for group in batches]
        table = pa.Table.from_batches(taken)
        columns = [pa.array(answers.predictions(), pa.string())]
        columns += [pa.array(column, pa.float32()) for column in answers.numbers().T]
        self._writer.write_table(pa.table([*table.columns, *columns], schema=self._schema))

    def close(self) -> None:
        self._writer.close()
