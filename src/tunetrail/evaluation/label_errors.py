"""Labels that the trained model thinks wrong, on a split that it has not learnt from."""

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

from tunetrail.data.quality.judging import judge, judge_sets
from tunetrail.data.quality.suspects import TRAINED, Judgement, SuspectReport
from tunetrail.evaluation.outcome import SplitOutcome
from tunetrail.tasks.base import Array

_PREFIX = "probability_"


def find_label_errors(outcome: SplitOutcome, *, split: str) -> SuspectReport:
    """Judge the labels of a split by the probabilities that the model gives them."""
    rows, table = outcome.rows, outcome.table
    names = rows.features["answers"].feature.names
    shares = _read_probabilities(table, names)
    if shares is None:
        return SuspectReport((), (f"{split}: the predictions of this task hold no probabilities",))
    order = np.argsort(rows["row"], kind="stable")
    answers = rows.select(order)["answers"][:]
    if all(len(codes) == 1 for codes in answers):
        found = judge(np.asarray([code for (code,) in answers]), shares)
        if found is None:
            note = (
                f"the model does no better than the most frequent label of {split}: it judges none"
            )
            return SuspectReport((), (note,))
    else:
        found = judge_sets(answers, shares)
    quality, is_suspect = found
    one = Judgement(
        model=TRAINED,
        split=split,
        rows=table["row"].to_numpy(),
        texts=rows.select(order)["text"][:],
        labels=table["target"].tolist(),
        suggested=table["prediction"].tolist(),
        quality=quality,
        is_suspect=is_suspect,
        num_rows=len(rows),
    )
    return SuspectReport((one,), ())


def _read_probabilities(table: pd.DataFrame, names: Sequence[str]) -> Array | None:
    """Return the probability of each label, shape (rows, labels); None if the table has none.

    With very many labels a table has those of the most probable ones alone: of others it is 0.
    """
    columns = [f"{_PREFIX}{name}" for name in names]
    if names and {*columns} <= {*table}:
        found: Array = table[columns].to_numpy(dtype=float)
        return found
    if "probabilities" not in table:
        return None
    codes = {name: code for code, name in enumerate(names)}
    shares = np.zeros((len(table), len(names)))
    for row, text in zip(shares, table["probabilities"], strict=True):
        for name, share in json.loads(text).items():
            row[codes[name]] = share
    return shares
