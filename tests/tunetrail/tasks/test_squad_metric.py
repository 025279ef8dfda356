"""Exact match and F1 of answers, by hand."""

import evaluate
import numpy as np
import pytest
from toys import ROOT

from tunetrail.tasks.metrics.squad import squad


def test_texts_are_normalised_as_squad_does() -> None:
    assert squad.normalise_answer("The  Cat, an old-time\ndog; a theme!") == "cat oldtime dog theme"


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("The Eiffel Tower.", ["eiffel tower"], 1, 1),
        ("the cat sat", ["cat sat down"], 0, 2 * 2 / (2 + 3)),
        # The best over the right answers.
        ("in the year 1999", ["May 1999", "1999"], 0, 2 / (3 + 1)),
        # A word counts as often as it is there.
        ("no no no", ["no"], 0, 2 / (3 + 1)),
        ("", [], 1, 1),
        ("a cat", [], 0, 0),
        ("", ["a cat"], 0, 0),
        # Nothing is left of either.
        ("the", ["a"], 1, 1),
    ],
)
def test_scores_of_one_row(prediction: str, answers: list[str], exact: int, f1: float) -> None:
    assert squad.exact_match(prediction, answers) == exact
    assert squad.token_f1(prediction, answers) == pytest.approx(f1)
    metric = evaluate.load(str(ROOT / "src/tunetrail/tasks/metrics/squad"))
    assert metric.compute(predictions=[prediction], references=[answers]) == pytest.approx(
        {"exact_match": exact, "f1": f1}
    )


def test_sums_score_rows_with_and_without_an_answer() -> None:
    rows = squad.statistics(["cat", "", "dog", "x"], [["cat"], [], ["a dog ran"], []])
    found = {name: float(value) for name, value in squad.score(rows.sum(axis=0)).items()}
    assert found == pytest.approx({"exact_match": 2 / 4, "f1": (1 + 1 + 2 / 3 + 0) / 4})
    answered, none = squad.split(rows.sum(axis=0))
    assert answered == pytest.approx(np.array([2, 1, 1 + 2 / 3]))
    assert none == pytest.approx(np.array([2, 1, 1]))
