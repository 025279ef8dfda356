"""Answer a table window by window, so that memory does not grow with it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import torch
from tqdm.auto import tqdm

from tunetrail.data.tables.rows import BadRow, Row, TableReader, split_windows
from tunetrail.errors import InputError
from tunetrail.served.base import ServedModel
from tunetrail.serving.inputs import name_columns, read_inputs, require_columns

# Further bad rows are counted, not named.
_NUM_NAMED = 20


@dataclass(frozen=True)
class PredictionReport:
    """How many rows there were, and the first of those that have no answer.

    Joined ones have an answer, but seem to be several rows.
    """

    num_rows: int
    num_bad: int
    named: tuple[BadRow, ...]
    num_joined: int
    joined: tuple[BadRow, ...]


def predict_table(
    reader: TableReader,
    file: IO[Any],
    model: ServedModel,
    *,
    column_names: Mapping[str, str],
    prefix: str,
    show_progress: bool,
) -> PredictionReport:
    """Answer every row and write it in its place; bad rows are left out and reported.

    Args:
        column_names: what the model reads -> the column of the table, where that is another name.
        prefix: is put before the names of the answers' columns.

    Raises:
        InputError: the table lacks a column that the model reads, it has one of the answers' names
            already, it breaks off, or a single input does not fit into the GPU's memory.

    """
    added = {prefix + name: kind for name, kind in model.columns.items()}
    columns = name_columns(model.inputs, column_names, default=reader.input_column)
    require_columns(reader, columns, added=added)
    inputs = read_inputs(reader, columns, added=added)
    names = [column.name for column in columns]
    writer = reader.build_writer(file, added)
    num_rows, num_bad = 0, 0
    named: list[BadRow] = []
    with tqdm(
        desc="predicting",
        unit="row",
        dynamic_ncols=True,
        disable=not show_progress,
        # On a terminal a living bar; in a log file a line now and then. Short work has none.
        mininterval=0.1 if sys.stderr.isatty() else 10.0,
        delay=1.0 if sys.stderr.isatty() else 10.0,
    ) as bar:
        for window in split_windows(inputs, columns=names):
            good = [row for row in window if isinstance(row, Row)]
            answers = _answer(model, [_read(row, names) for row in good])
            answered = [(row, a) for row, a in zip(good, answers, strict=True) if a is not None]
            if answered:
                rows, found = zip(*answered, strict=True)
                writer.write(rows, [[answer[name] for name in model.columns] for answer in found])
            bad = [row for row in window if isinstance(row, BadRow)] + [
                BadRow(row.number, model.no_answer)
                for row, answer in zip(good, answers, strict=True)
                if answer is None
            ]
            num_rows += len(window)
            num_bad += len(bad)
            named += sorted(bad, key=lambda row: row.number)[: _NUM_NAMED - len(named)]
            bar.total = reader.estimate_rows(num_rows)
            bar.update(len(window))
        bar.total = num_rows
    writer.close()
    joined = reader.find_joined()
    return PredictionReport(
        num_rows, num_bad, tuple(named), len(joined), tuple(joined[:_NUM_NAMED])
    )


def _read(row: Row, names: list[str]) -> Any:
    values = tuple(row.values[name] for name in names)
    return values if len(values) > 1 else values[0]


def _answer(model: ServedModel, inputs: list[Any]) -> list[dict[str, Any] | None]:
    try:
        return model.answer(inputs)
    except torch.OutOfMemoryError as error:
        raise InputError(
            "a single text does not fit into the GPU's memory; free it, or use --device cpu"
        ) from error
