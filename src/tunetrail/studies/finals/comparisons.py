"""The winner against the default config and the baselines, on the same rows."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from tunetrail.errors import InputError, OutageError
from tunetrail.evaluation.baselines import measure_baselines
from tunetrail.evaluation.power import measure_power
from tunetrail.evaluation.statistics import PairedTest, compare_rows
from tunetrail.evaluation.tuning import UNTUNED
from tunetrail.studies.finals.conclusion import DEFAULT, WinnerComparison
from tunetrail.studies.finals.finalists import FinalsResult
from tunetrail.studies.finals.record import WinnerRecord
from tunetrail.studies.finals.worth import Worth, list_pairs, mean_seconds
from tunetrail.tracking.artifacts import read_table
from tunetrail.tracking.run_log import UNTUNED_ROWS, RunSummary


def compare_winner(
    record: WinnerRecord,
    found: FinalsResult,
    worths: Sequence[Worth],
    test_rows: pd.DataFrame | None,
) -> list[WinnerComparison]:
    """Compare with the default config on validation, and with the baselines on both splits.

    Args:
        worths: pairs that were compared before.

    """
    tables = _validation_tables(record, record.own)
    comparisons = []
    if found.default is None:
        record.notes.append(f"{DEFAULT}: it is not among the finalists")
    known = [(DEFAULT, found.default), *((one.name, one) for one in found.references)]
    for name, one in known:
        if one is None or one is found.winner:
            continue
        measured = (w.result for w in worths if w.finalist is found.winner and w.against is one)
        if (result := next(measured, None)) is None:
            others = _validation_tables(record, record.list_runs(one))
            result = compare_tables(record, tables, others)
        if result is None:
            record.notes.append(
                f"{name}: it was measured on other rows, or the store lacks a run of it"
            )
        else:
            comparisons.append(WinnerComparison(name, "validation", result))
    comparisons += _against_untuned(record, tables)
    if test_rows is not None:
        comparisons += _against_baselines(record, [test_rows], "test")
    return comparisons + _against_baselines(record, tables, "validation")


def measure_worth(record: WinnerRecord, found: FinalsResult) -> list[Worth]:
    """Measure what the search was worth, in score and in seconds of a training."""
    worths = []
    for finalist, known in list_pairs(found):
        runs = [record.list_runs(one) for one in (finalist, known)]
        tables = [_validation_tables(record, each) for each in runs]
        if (result := compare_tables(record, *tables)) is None:
            continue
        scores = [np.stack([table["score"] for table in each]) for each in tables]
        mine, theirs = (mean_seconds(each) for each in runs)
        worths.append(
            Worth(
                finalist=finalist,
                against=known,
                result=result,
                power=measure_power(*scores),
                seconds=None if mine is None or theirs is None else (mine, theirs),
            )
        )
    return worths


def _against_untuned(
    record: WinnerRecord, tables: Sequence[pd.DataFrame]
) -> list[WinnerComparison]:
    """Compare with the winner's model before training, if its runs have measured it."""
    try:
        untuned = _validation_tables(record, record.own, path=UNTUNED_ROWS)
    except OutageError:
        raise
    except InputError:
        return []
    result = compare_tables(record, tables, untuned)
    return [] if result is None else [WinnerComparison(UNTUNED, "validation", result)]


def _validation_tables(
    record: WinnerRecord, runs: Sequence[RunSummary], path: str = "predictions/validation.parquet"
) -> list[pd.DataFrame]:
    return [read_table(uri=record.terms.uri, run_id=run.run_id, path=path) for run in runs]


def compare_tables(
    record: WinnerRecord, ones: Sequence[pd.DataFrame], others: Sequence[pd.DataFrame]
) -> PairedTest | None:
    """Compare tables of predictions seed by seed; None if their rows are not the same."""
    tables = [*ones, *others]
    if len(ones) != len(others) or not all(_same_rows(tables[0], table) for table in tables):
        return None
    scores = [record.metric.sign * np.stack([t["score"] for t in ts]) for ts in (ones, others)]
    return compare_rows(*scores, seed=record.recorded.seed)


def _same_rows(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    columns = ["row", "text", "target"]
    # Tables of an older version have no scores.
    return "score" in one and "score" in other and one[columns].equals(other[columns])


def _against_baselines(
    record: WinnerRecord, tables: Sequence[pd.DataFrame], split: str
) -> list[WinnerComparison]:
    if record.data is None:
        return []
    task = record.recorded.task
    rows, sign = record.data.dataset[split], record.metric.sign
    scores = sign * np.stack([table["score"] for table in tables])
    measures_all = bool(OmegaConf.select(record.recorded.cfg, "diagnostics.baselines"))
    found = measure_baselines(
        task, record.data.dataset["train"], rows, untuned=None, measures_all=measures_all
    )
    seed = record.recorded.seed
    # The best comes first: it is the one that a winner has to beat.
    return [
        WinnerComparison(
            f"{one.name}, the best baseline," if one is found.best else one.name,
            split,
            compare_rows(scores, sign * one.rows, seed=seed),
        )
        for one in sorted(found.scored, key=lambda one: -sign * one.score)
    ]
