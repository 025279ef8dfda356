"""Predictions of a model on a split."""

import pandas as pd
from datasets import Dataset

from tunetrail.evaluation.outcome import SplitOutcome, choose_examples
from tunetrail.tasks.token_classification import TokenClassification

TAG = TokenClassification(max_length=8, tag_scheme="iob2", main_metric="f1")


def chosen(*predictions: str) -> list[int]:
    """Choose among rows with these predictions; the split holds them in the reverse order."""
    rows = list(range(len(predictions)))
    table = pd.DataFrame({"row": rows, "prediction": predictions})
    split = Dataset.from_dict({"row": rows[::-1]})
    places = choose_examples(SplitOutcome(TAG, split, pd.NA, table))
    return [split["row"][place] for place in places]


def test_examples_are_rows_whose_answers_differ() -> None:
    assert chosen(*["O O"] * 20, "O B-person", "B-person O", "B-place") == [0, 20, 22, 1]
    assert chosen("B-a", "B-b", "B-c", "B-d", "B-e") == [0, 1, 2, 3]


def test_a_model_that_answers_all_rows_alike_still_answers_two() -> None:
    assert chosen("O", "O O", "O") == [0, 1]
    assert chosen("O") == [0]
