"""Predictions of a model on a split, row by row."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from datasets import Dataset

from tunetrail.evaluation.statistics import row_scores, standard_error
from tunetrail.tasks.base import Array, Task
from tunetrail.training.tokens import Split

# Rows of a split that stand for all of it where answers are compared.
_MOST_EXAMPLES = 4


@dataclass(frozen=True)
class SplitOutcome:
    """Predictions beside their rows.

    ``statistics`` has the order of ``rows``, shape (rows, statistics). ``table`` has one line a
    row, sorted by ``row``; its column ``score`` is what the row contributes to the main metric.
    """

    task: Task
    rows: Dataset
    statistics: Array
    table: pd.DataFrame

    @property
    def noise(self) -> float:
        """The standard error of the main metric."""
        return standard_error(self.scores)

    @property
    def scores(self) -> Array:
        """What each row contributes to the main metric, in the order of the table."""
        return np.asarray(self.table["score"])


def choose_examples(outcome: SplitOutcome) -> list[int]:
    """Return the places in ``rows`` of a few whose answers differ: each has a word that is new.

    An answer that most rows have, such as no entity, says little of a model. A row of which the
    tokenizer makes no token has no answer.
    """
    answers = outcome.task.answers(outcome.table).iloc[:, 0]
    answers = answers.set_axis(outcome.table["row"]).dropna().astype(str)
    seen: set[str] = set()
    chosen = []
    for row, answer in answers.items():
        if not seen.issuperset(answer.split()):
            seen.update(answer.split())
            chosen.append(row)
    # A model may give all rows the same answer; two show that it answers a batch.
    chosen = [*dict.fromkeys([*chosen[:_MOST_EXAMPLES], *answers.index[:2]])]
    places = {row: place for place, row in enumerate(outcome.rows["row"])}
    return [places[row] for row in chosen[:_MOST_EXAMPLES]]


def examine(task: Task, split: Split, outputs: Array) -> SplitOutcome:
    """Put the outputs that the task kept beside their rows, and score each row."""
    statistics = task.statistics(split.rows, split.encoded, outputs)
    table = task.tabulate(split.rows, split.encoded, outputs)
    table["score"] = scores_by_row(task, split.rows, statistics)
    return SplitOutcome(task, split.rows, statistics, table)


def scores_by_row(task: Task, rows: Dataset, statistics: Array) -> Array:
    """Return what each row contributes to the main metric, sorted by ``row`` as tables are."""
    order = np.argsort(rows["row"], kind="stable")
    return row_scores(statistics, task.score, task.main_metric)[order]
