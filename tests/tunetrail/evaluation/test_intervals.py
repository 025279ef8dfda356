"""The intervals of a score: against the metric itself, and against a formula."""

from statistics import NormalDist

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features
from transformers import EvalPrediction

from tunetrail.evaluation.statistics import percentile_interval
from tunetrail.tasks.text_classification import TextClassification, _score_counts

TASK = TextClassification(max_length=8, padding="longest", main_metric="accuracy")
NAMES = ["a", "b", "c", "d"]


def draw_rows(num_rows: int, share: float, *, labels: int = 3) -> tuple[Dataset, np.ndarray]:
    """Rows of ``labels`` of the four labels, and logits that are right for ``share`` of them."""
    draw = np.random.default_rng(num_rows)
    truth = draw.integers(labels, size=num_rows)
    other = (truth + 1 + draw.integers(2, size=num_rows)) % 3
    chosen = np.where(np.arange(num_rows) < share * num_rows, truth, other)
    features = Features({"label": ClassLabel(names=NAMES)})
    return Dataset.from_dict({"label": truth}, features=features), np.eye(4)[chosen]


@pytest.mark.parametrize("labels", [1, 3])
def test_counts_score_as_the_metric_does(labels: int) -> None:
    """Also where a label has no rows and is never predicted."""
    rows, logits = draw_rows(60, 0.6, labels=labels)
    compute = TASK.build_metrics(rows)
    expected = compute(EvalPrediction(predictions=logits, label_ids=np.asarray(rows["label"])))
    counts = np.zeros((1, 4, 4), dtype=int)
    np.add.at(counts, (0, rows["label"], logits.argmax(axis=1)), 1)
    found = {name: float(values[0]) for name, values in _score_counts(counts).items()}
    assert found == pytest.approx(expected)
    assert set(found) == set(TASK.metric_names)


@pytest.mark.parametrize(("num_rows", "share"), [(200, 0.7), (1000, 0.9)])
def test_the_interval_of_accuracy_is_near_wilson_s(num_rows: int, share: float) -> None:
    rows, logits = draw_rows(num_rows, share)
    samples = TASK.resample_metrics(rows, logits, num_resamples=20_000, seed=1)
    found = percentile_interval(samples["accuracy"])
    z = NormalDist().inv_cdf(0.975)
    middle = (share + z**2 / (2 * num_rows)) / (1 + z**2 / num_rows)
    half = z / (1 + z**2 / num_rows)
    half *= (share * (1 - share) / num_rows + z**2 / (4 * num_rows**2)) ** 0.5
    assert found.low == pytest.approx(middle - half, abs=0.006)
    assert found.high == pytest.approx(middle + half, abs=0.006)


def test_resamples_of_counts_are_resamples_of_rows() -> None:
    """The same spread of macro F1 as from rows drawn one by one."""
    rows, logits = draw_rows(120, 0.75)
    quick = TASK.resample_metrics(rows, logits, num_resamples=4000, seed=0)["macro_f1"]
    labels, chosen, draw = (
        np.asarray(rows["label"]),
        logits.argmax(axis=1),
        np.random.default_rng(1),
    )
    counts = np.zeros((4000, 4, 4), dtype=int)
    for resample in range(4000):
        picked = draw.integers(120, size=120)
        np.add.at(counts[resample], (labels[picked], chosen[picked]), 1)
    slow = _score_counts(counts)["macro_f1"]
    assert quick.mean() == pytest.approx(slow.mean(), abs=0.003)
    assert quick.std() == pytest.approx(slow.std(), rel=0.06)
