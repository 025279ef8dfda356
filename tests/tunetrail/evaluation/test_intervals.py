"""Metrics and their intervals from the statistics of rows."""

from statistics import NormalDist

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_fscore_support

from tunetrail.evaluation.statistics import bootstrap, row_scores, standard_error
from tunetrail.tasks.metrics.classification.classification import score, statistics


def draw_rows(num_rows: int, share: float, *, labels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ``labels`` of four labels, and predictions that are right for ``share`` of them."""
    draw = np.random.default_rng(num_rows)
    truth = draw.integers(labels, size=num_rows)
    other = (truth + 1 + draw.integers(2, size=num_rows)) % 3
    return truth, np.where(np.arange(num_rows) < share * num_rows, truth, other)


@pytest.mark.parametrize("labels", [1, 3])
def test_sums_score_as_scikit_learn_does(labels: int) -> None:
    """Also with labels that no row has, and predictions that no label has."""
    truth, chosen = draw_rows(50, 0.7, labels=labels)
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, chosen, labels=range(4), average="macro", zero_division=0.0
    )
    found = score(statistics(truth, chosen, 4).sum(axis=0))
    assert found == pytest.approx(
        {
            "accuracy": (truth == chosen).mean(),
            "macro_f1": f1,
            "macro_precision": precision,
            "macro_recall": recall,
        }
    )


@pytest.mark.parametrize(("num_rows", "share"), [(200, 0.7), (1000, 0.9)])
def test_the_interval_of_accuracy_is_near_wilson_s(num_rows: int, share: float) -> None:
    rows = statistics(*draw_rows(num_rows, share), 4)
    found = bootstrap(rows, score, seed=1)["accuracy"]
    z = NormalDist().inv_cdf(0.975)
    middle = (share + z**2 / (2 * num_rows)) / (1 + z**2 / num_rows)
    half = z / (1 + z**2 / num_rows)
    half *= (share * (1 - share) / num_rows + z**2 / (4 * num_rows**2)) ** 0.5
    assert found.low == pytest.approx(middle - half, abs=0.008)
    assert found.high == pytest.approx(middle + half, abs=0.008)


def test_resamples_of_kinds_are_resamples_of_rows() -> None:
    """The same interval of macro F1 as from rows drawn one by one."""
    truth, chosen = draw_rows(120, 0.75)
    quick = bootstrap(statistics(truth, chosen, 4), score, seed=0)["macro_f1"]
    draw = np.random.default_rng(1)
    slow = []
    for _ in range(1000):
        picked = draw.integers(120, size=120)
        slow.append(f1_score(truth[picked], chosen[picked], labels=range(4), average="macro",
                             zero_division=0.0))  # fmt: skip
    low, high = np.percentile(slow, [2.5, 97.5])
    assert quick.low == pytest.approx(low, abs=0.015)
    assert quick.high == pytest.approx(high, abs=0.015)


def test_a_row_scores_what_it_is_worth_to_the_metric() -> None:
    truth, chosen = draw_rows(400, 0.75)
    rows = statistics(truth, chosen, 4)
    accuracy = row_scores(rows, score, "accuracy")
    assert accuracy.tolist() == (truth == chosen).tolist()
    assert standard_error(accuracy) == pytest.approx((0.75 * 0.25 / 400) ** 0.5)
    macro_f1 = row_scores(rows, score, "macro_f1")
    assert macro_f1.mean() == pytest.approx(float(score(rows.sum(axis=0))["macro_f1"]), abs=0.002)
    interval = bootstrap(rows, score, seed=0)["macro_f1"]
    assert 2 * 1.96 * standard_error(macro_f1) == pytest.approx(
        interval.high - interval.low, rel=0.1
    )
