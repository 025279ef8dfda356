"""A model against its baselines, on the same rows."""

import time
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from toys import CLASSIFY, canonical, make_rows

from tunetrail.data import linear
from tunetrail.evaluation.baselines import (
    Baselines,
    BaselinesReport,
    Reference,
    compare_with_baselines,
    measure_baselines,
)
from tunetrail.evaluation.outcome import SplitOutcome, scores_by_row
from tunetrail.tasks.base import Metric


def rows_of(number: int, *, seed: int, noise: float = 0.0) -> Dataset:
    texts, labels = zip(*make_rows(number, seed=seed, noise=noise), strict=True)
    rows = DatasetDict({"train": Dataset.from_dict({"text": [*texts], "label": [*labels]})})
    return canonical(rows)["train"]


def outcome_of(rows: Dataset, right: float) -> SplitOutcome:
    """A model that has this share of the rows right."""
    labels = np.asarray(rows["label"])
    is_right = np.random.default_rng(0).permutation(len(rows)) < right * len(rows)
    logits = np.eye(3)[np.where(is_right, labels, (labels + 1) % 3)]
    encoded = Dataset.from_dict({"index": range(len(rows))})
    statistics = CLASSIFY.statistics(rows, encoded, logits)
    table = CLASSIFY.tabulate(rows, encoded, logits)
    table["score"] = scores_by_row(CLASSIFY, rows, statistics)
    return SplitOutcome(CLASSIFY, rows, statistics, table)


def compare(model: float, *, num_rows: int = 300, num_choices: int = 1) -> BaselinesReport:
    rows = rows_of(num_rows, seed=2, noise=0.4)
    found = measure_baselines(
        CLASSIFY, rows_of(300, seed=1, noise=0.4), rows, untuned=None, measures_all=True
    )
    return compare_with_baselines(outcome_of(rows, model), found, num_choices=num_choices, seed=0)


def test_every_baseline_is_scored_and_the_best_one_decides() -> None:
    report = compare(0.6)
    assert {one.key for one in report.compared} == {"linear", "majority", "chance"}
    best = report.compared[0]
    assert best.key == "linear"
    assert 0.6 < best.score < 0.9
    assert best.interval is not None
    assert best.interval.low < best.score < best.interval.high
    majority = next(one for one in report.compared if one.key == "majority")
    assert majority.gain is not None
    assert majority.gain.is_better
    assert not report.beats_best
    assert report.line().startswith("no better than a linear model of words, the best of 3")
    assert compare(0.99).beats_best
    metrics = report.metrics()
    assert metrics["baselines/linear"] == best.score
    assert metrics["baselines/above_best"] == pytest.approx(0.6 - best.score)
    assert metrics["baselines/above_best_high"] < 0
    assert "a linear model of words" in report.to_markdown()
    assert len(report.section().tables[0].rows) == 4


def test_a_gain_of_the_best_of_many_evaluations_must_be_larger() -> None:
    """Each of them may have been the lucky one."""
    one, many = (compare(0.79, num_choices=number).compared[0].gain for number in (1, 30))
    assert one is not None
    assert many is not None
    assert one.difference == many.difference
    assert many.interval.low < one.interval.low
    assert many.p_value == min(1.0, 30 * one.p_value)


def test_few_rows_that_are_all_right_prove_nothing() -> None:
    for number, beats in ((3, False), (30, True)):
        rows = rows_of(number, seed=2)
        statistics = outcome_of(rows, 0.5).statistics
        weak = Reference("x", "x", 0.5, np.arange(number) % 2.0, statistics)
        found = Baselines(Metric(), (weak,))
        report = compare_with_baselines(outcome_of(rows, 1.0), found, num_choices=1, seed=0)
        assert report.beats_best is beats


def test_without_the_key_only_the_first_is_measured() -> None:
    rows = rows_of(60, seed=2)
    untuned = outcome_of(rows, 0.3).statistics
    found = measure_baselines(CLASSIFY, rows, rows, untuned=untuned, measures_all=False)
    assert [one.key for one in found.scored] == ["majority"]
    found = measure_baselines(CLASSIFY, rows, rows, untuned=untuned, measures_all=True)
    assert [one.key for one in found.scored] == ["majority", "chance", "linear", "untuned"]


@pytest.mark.parametrize(
    ("texts", "labels", "note"),
    [
        (["", " ", "", " "], [0, 1, 0, 1], "left out: empty vocabulary"),
        (["a b", "b c", "a", "c"], [0, 0, 0, 1], ""),
        (["a " * 1_000_000, "b", "c", "d"], [0, 1, 2, 1], ""),
        (["🎉", "ไทย", "\u200b", "x"], [0, 1, 2, 0], ""),
    ],
    ids=["no word", "one row of a label", "a megabyte", "no Latin letters"],
)
def test_whatever_the_texts_the_linear_model_is_fitted_or_left_out(
    texts: list[str], labels: list[int], note: str
) -> None:
    start = time.perf_counter()
    rows = Dataset.from_dict({"text": texts, "label": labels})
    rows = rows.cast(
        canonical(DatasetDict({"train": Dataset.from_dict({"text": [*"abc"], "label": [*"abc"]})}))[
            "train"
        ]
        .select_columns(["text", "label"])
        .features
    )
    *_, found = CLASSIFY.baselines(rows, rows)
    assert found.key == "linear"
    assert found.note.startswith(note)
    assert (found.statistics is None) is bool(note)
    assert time.perf_counter() - start < 2


def test_pairs_are_told_by_the_words_that_they_share() -> None:
    """Neither text alone says anything of the label."""
    draw = np.random.default_rng(0)
    words = [f"word{i}" for i in range(200)]
    texts, codes = [], []
    for number in range(400):
        first = draw.choice(words, size=6)
        second = draw.permutation(first) if number % 2 else draw.choice(words, size=6)
        texts.append((" ".join(first), " ".join(second)))
        codes.append(number % 2)
    model = linear.fit_linear(texts[:300], codes[:300])
    assert (linear.choose_labels(model, texts[300:]) == codes[300:]).mean() > 0.95
    joined = [" | ".join(pair) for pair in texts]
    alone = linear.fit_linear(joined[:300], codes[:300])
    assert (linear.choose_labels(alone, joined[300:]) == codes[300:]).mean() < 0.7


def test_sets_of_labels_are_learnt_label_by_label_without_a_random_number() -> None:
    draw = np.random.default_rng(0)
    targets = (draw.random((300, 4)) < 0.4).astype(np.int8)
    targets[:, 3] = 0  # a label that no text has
    texts = [" ".join(["a", *(f"w{c}" for c in np.flatnonzero(row))]) for row in targets]
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the one that libraries draw from
    found = linear.fit_predict_sets(texts[:200], targets[:200], texts[200:], threshold=0.5)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002 - as above
    assert (found == targets[200:]).mean() > 0.95
    assert not found[:, 3].any()


def test_how_much_is_read_is_bounded() -> None:
    texts: Any = ["x" * 100] * 200_000
    assert len(linear.choose_rows(texts, num_labels=3)) == 30_000
    assert len(linear.choose_rows(texts[:20_000], num_labels=400)) == 12_500
    assert len(linear.choose_rows(texts[:20_000], num_labels=400, of_sets=True)) == 1_250
    assert len(linear.choose_rows(["y" * 1_000_000] * 10, num_labels=2)) == 10
