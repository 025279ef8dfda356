"""The local metric gives the numbers of the textbook, without a network."""

from pathlib import Path

import evaluate
import pytest

from tunetrail.tasks.metrics.classification import classification


def test_scores_of_a_hand_made_case() -> None:
    metric = evaluate.load(str(Path(classification.__file__)), keep_in_memory=True)
    scores = metric.compute(
        predictions=[0, 0, 1, 1, 1, 0], references=[0, 0, 0, 1, 1, 2], num_labels=3
    )
    assert scores["accuracy"] == pytest.approx(4 / 6)
    # precision 2/3, 2/3, 0 and recall 2/3, 1, 0: the class never predicted counts as 0.
    assert scores["macro_precision"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert scores["macro_recall"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 0.8 + 0) / 3)
