"""The winner against the default config and the baselines, on the same rows."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tunetrail.evaluation.statistics import PairedTest, compare_rows
from tunetrail.studies.finals.conclusion import DEFAULT, Comparison
from tunetrail.studies.finals.finalists import FinalsResult
from tunetrail.studies.finals.record import WinnerRecord
from tunetrail.tracking.store import RunSummary, read_table


def compare_winner(
    record: WinnerRecord, found: FinalsResult, test_rows: pd.DataFrame | None
) -> list[Comparison]:
    """Compare with the default config on validation, and with the baselines on both splits."""
    tables = _validation_tables(record, record.own)
    comparisons = []
    default = found.default
    if default is None:
        record.notes.append(f"{DEFAULT}: it is not among the finalists")
    elif default is not found.winner:
        others = _validation_tables(record, record.runs.list_repeats(default.final))
        if (result := compare_tables(record, tables, others)) is None:
            record.notes.append(f"{DEFAULT}: it was measured on other rows")
        else:
            comparisons.append(Comparison(DEFAULT, "validation", result))
    if test_rows is not None:
        comparisons += _against_baselines(record, [test_rows], "test")
    return comparisons + _against_baselines(record, tables, "validation")


def _validation_tables(record: WinnerRecord, runs: Sequence[RunSummary]) -> list[pd.DataFrame]:
    path = "predictions/validation.parquet"
    return [read_table(uri=record.terms.uri, run_id=run.run_id, path=path) for run in runs]


def compare_tables(
    record: WinnerRecord, ones: Sequence[pd.DataFrame], others: Sequence[pd.DataFrame]
) -> PairedTest | None:
    """Compare tables of predictions seed by seed; None if their rows are not the same."""
    tables = [*ones, *others]
    if len(ones) != len(others) or not all(_same_rows(tables[0], table) for table in tables):
        return None
    scores = [np.stack([record.recorded.task.row_scores(t) for t in ts]) for ts in (ones, others)]
    return compare_rows(*scores, seed=record.recorded.seed)


def _same_rows(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    return bool(one["row"].equals(other["row"]) and one["text"].equals(other["text"]))


def _against_baselines(
    record: WinnerRecord, tables: Sequence[pd.DataFrame], split: str
) -> list[Comparison]:
    if record.data is None:
        return []
    task = record.recorded.task
    scores = np.stack([task.row_scores(table) for table in tables])
    baselines = task.baseline_scores(record.data.dataset["train"], tables[0])
    return [
        Comparison(name, split, compare_rows(scores, of_baseline, seed=record.recorded.seed))
        for name, of_baseline in baselines.items()
    ]
