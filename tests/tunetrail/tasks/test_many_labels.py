"""Whatever the number of labels and the length of their names: bounded figures, tables, memory."""

import json
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, DatasetDict
from toys import CLASSIFY, canonical

from tunetrail.evaluation.statistics import bootstrap, row_scores
from tunetrail.tasks import base
from tunetrail.tasks.metrics.classification import classification
from tunetrail.tasks.metrics.labels import list_confusions
from tunetrail.tasks.plots import (
    plot_confusion_matrix,
    plot_scores_by_group,
    plot_scores_by_label,
)
from tunetrail.tracking.run_log import RunLog

LONG = "label {}\n😀 $x_{{ <b>|" + "a long name " * 40


def draw_labels(num_labels: int, num_rows: int) -> tuple[list[str], pd.Series, pd.Series]:
    draw, names = np.random.default_rng(0), [LONG.format(n) for n in range(num_labels)]
    targets = draw.choice(names, num_rows)
    predictions = np.where(draw.random(num_rows) < 0.5, targets, draw.choice(names, num_rows))
    return names, pd.Series(targets), pd.Series(predictions)


class Pictures(RunLog):
    """Keeps what would be written."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def content(self, content: bytes, path: str) -> None:
        self.sizes.append(len(content))
        width, height = (int.from_bytes(content[i : i + 4]) for i in (16, 20))
        assert width * height < 2700 * 2700, path


@pytest.mark.parametrize("num_labels", [pytest.param(77, marks=pytest.mark.slow), 5000])
def test_figures_of_many_labels_with_long_names_are_readable_and_small(num_labels: int) -> None:
    names, targets, predictions = draw_labels(num_labels, 10_000)
    scores = pd.DataFrame({"label": names, "rows": 2, "precision": 0.5, "recall": 0.4, "f1": 0.3})
    groups = pd.DataFrame({"f1": 0.5, "exact_match": 0.4, "group": targets})
    log = Pictures()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matrix = plot_confusion_matrix(targets, predictions, names, split="validation")
        assert len(matrix.axes[0].get_xticklabels()) == 20
        counts = sum(int(text.get_text().split("\n")[0]) for text in matrix.axes[0].texts)
        assert counts == 10_000
        log.figure(matrix, "confusion_matrix.png")
        log.figure(plot_scores_by_label(scores, count="rows", split="validation"), "by_label.png")
        log.figure(plot_scores_by_group(groups, title="label", split="validation"), "group.png")
    assert max(log.sizes) < 1_500_000


def test_the_largest_confusions_are_a_table() -> None:
    found = list_confusions([*"aaabbc"], [*"abbcbc"], count="rows")
    assert found.to_dict("list") == {
        "target": ["a", "b"],
        "prediction": ["b", "c"],
        "rows": [2, 1],
        "share": [2 / 3, 1 / 2],
    }
    _, targets, predictions = draw_labels(400, 5_000)
    assert len(list_confusions(targets, predictions, count="rows")) == 200


def test_statistics_of_many_labels_stay_small_and_score_the_same() -> None:
    """Of 1,000 labels and 2,000 rows, in megabytes; a float for each number would take 48."""
    draw = np.random.default_rng(0)
    truth, chosen = draw.integers(1000, size=(2, 2000))
    chosen = np.where(draw.random(2000) < 0.5, truth, chosen)
    tracemalloc.start()
    rows = classification.statistics(truth, chosen, 1000)
    scores = row_scores(rows, classification.score, "macro_f1")
    interval = bootstrap(rows[:200], classification.score, seed=0)["accuracy"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300e6
    assert rows.dtype == np.int8
    as_floats = row_scores(rows.astype(float), classification.score, "macro_f1")
    assert scores.tolist() == as_floats.tolist()
    accuracy = (truth == chosen)[:200].mean()
    assert interval.low == pytest.approx(accuracy - 0.07, abs=0.02)
    assert interval.high == pytest.approx(accuracy + 0.07, abs=0.02)


def test_a_table_with_too_many_probabilities_has_the_largest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"label {n}" for n in range(30)]
    rows = canonical(
        DatasetDict({"train": Dataset.from_dict({"text": [*"abcd"] * 15, "label": names * 2})})
    )["train"]
    encoded = Dataset.from_dict({"index": range(60)})
    logits = np.random.default_rng(0).normal(size=(60, 30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = CLASSIFY.tabulate(rows, encoded, logits)
        assert sum(name.startswith("probability_") for name in whole) == 30
        monkeypatch.setattr("tunetrail.tasks.sequence_classification.MOST_CELLS", 1000)
        monkeypatch.setattr("tunetrail.tasks.text_classification.MOST_CELLS", 1000)
        table = CLASSIFY.tabulate(rows, encoded, logits)
    assert table.columns.tolist() == [
        "row", "text", "target", "prediction", "confidence", "probabilities",
    ]  # fmt: skip
    best, *others = json.loads(table["probabilities"][0]).items()
    assert best == (table["prediction"][0], round(table["confidence"][0], 6))
    assert len(others) == 4
    assert [one.key for one in CLASSIFY.baselines(rows, rows)] == ["majority", "linear"]
    assert base.MOST_CELLS == 5_000_000
