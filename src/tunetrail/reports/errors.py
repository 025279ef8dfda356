"""What a model gets wrong: what it takes for what, each label by itself, and the worst rows."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tunetrail.evaluation.outcome import SplitOutcome
from tunetrail.templates import begin_sentence
from tunetrail.templates.sections import Section, Table

_MOST_CONFUSIONS, _MOST_LABELS, _MOST_WORST = 15, 30, 15
# Columns of predictions that say nothing of one row, or too much.
_NOT_SHOWN = ("probabilities", "score", "start", "end")
# What says how sure a model was, the surer of two wrong rows being worse.
_SURE = "confidence"


def describe_errors(outcome: SplitOutcome, figures: Mapping[str, Figure]) -> list[Section]:
    """Describe the errors on validation.

    Args:
        outcome: predictions beside their rows.
        figures: name of an artifact -> figure; those of the task are shown.

    """
    task = outcome.task
    by_label = task.break_down(outcome.rows, outcome.statistics.sum(axis=0))
    confusions = task.confusions(outcome.table)
    own = [
        (path.rpartition("/")[2].removesuffix(".png").replace("_", " "), path, figure)
        for path, figure in figures.items()
        if path not in ("figures/learning_curves.png", "figures/calibration.png")
    ]
    found = []
    if len(confusions) or own:
        sentence = (
            "What is taken for what on validation, the most frequent first."
            if len(confusions)
            else "How the model does on validation."
        )
        files = [path for _, path, _ in own]
        if len(confusions):
            files.append("tables/confusions_validation.csv")
        found.append(
            Section(
                "Errors",
                sentence,
                tables=[_lay_out(confusions, _MOST_CONFUSIONS)] if len(confusions) else (),
                figures=[(f"{begin_sentence(name)}.", figure) for name, _, figure in own],
                files=files,
            )
        )
    if len(by_label):
        found.append(_describe_labels(by_label))
    if (worst := _find_worst(outcome)) is not None:
        found.append(worst)
    return found


def _describe_labels(by_label: pd.DataFrame) -> Section:
    """Show each label; of many those with the lowest F1."""
    shown = by_label
    sentence = "Each label by itself, on validation."
    if len(by_label) > _MOST_LABELS:
        shown = by_label.sort_values("f1", kind="stable").head(_MOST_LABELS)
        sentence = (
            f"The {_MOST_LABELS} of {len(by_label):,} labels with the lowest F1 on validation."
        )
    return Section(
        "Scores by label",
        sentence,
        tables=[_lay_out(shown, _MOST_LABELS)],
        files=["tables/by_label_validation.csv"],
    )


def _find_worst(outcome: SplitOutcome) -> Section | None:
    """Show the rows that cost most of the main metric; of equal ones those it was surest of."""
    task, table = outcome.task, outcome.table
    cost = -task.metrics[task.main_metric].sign * np.asarray(table["score"], dtype=float)
    sure = np.asarray(table[_SURE]) if _SURE in table else np.zeros(len(table))
    is_wrong = np.ones(len(table), dtype=bool)
    if {"target", "prediction"} <= {*table}:
        is_wrong = np.asarray(table["target"].astype(str) != table["prediction"].astype(str))
    is_wrong = is_wrong & np.isfinite(cost)
    order = np.lexsort((-sure, -cost))
    worst = table.iloc[order[is_wrong[order]][:_MOST_WORST]]
    if worst.empty:
        return None
    # A model that says nothing of a column, such as a language model of a target, has it empty.
    names = [
        name
        for name in worst
        if name not in _NOT_SHOWN
        and not str(name).startswith("probability_")
        and not worst[name].isna().all()
    ]
    metric = task.main_metric.replace("_", " ")
    how = "wrong, the surest first" if _SURE in table else f"that cost most of {metric}"
    return Section(
        "Worst rows",
        f"{len(worst):,} of {int(is_wrong.sum()):,} rows of validation {how}.",
        tables=[_lay_out(worst[names], _MOST_WORST)],
        files=["predictions/validation.parquet"],
    )


def _lay_out(frame: pd.DataFrame, most: int) -> Table:
    rows = frame.head(most).itertuples(index=False, name=None)
    shown = [[f"{v:.4f}" if isinstance(v, float) else v for v in row] for row in rows]
    return Table([str(name).replace("_", " ") for name in frame], shown)
