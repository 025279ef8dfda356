"""Any number of labels for each text: rows, scores, and what is served."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from sklearn.metrics import accuracy_score, f1_score, hamming_loss, precision_recall_fscore_support
from toys import ROOT, make_sets, write_sets

from tunetrail.data.columns import require_text
from tunetrail.data.sources import load_files
from tunetrail.data.splits import split_off
from tunetrail.errors import InputError
from tunetrail.served.text_classification import sigmoid
from tunetrail.tasks.metrics.multi_label import multi_label
from tunetrail.tasks.multi_label_classification import MultiLabelClassification

TASK = MultiLabelClassification(
    max_length=32, padding="longest", main_metric="micro_f1", threshold=0.4
)
COLUMNS = {"text": "text", "labels": "labels"}
Train = Callable[..., Any]


def canonical(
    labels: list[Any], names: list[Any] | None = None, feature: Any = None, **splits: list[Any]
) -> DatasetDict:
    parts = {}
    for split, found in {"train": labels, **splits}.items():
        rows: dict[str, list[Any]] = {"text": [f"text {n}" for n in range(len(found))]}
        rows["labels"] = found
        features = feature and Features({"text": Value("string"), "labels": feature})
        parts[split] = Dataset.from_dict(rows, features=features)
    return TASK.canonicalise(DatasetDict(parts), COLUMNS, label_names=names)


def draw(num_rows: int, num_labels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = (rng.random((num_rows, num_labels)) < 0.3).astype(float)
    logits = rng.normal(size=(num_rows, num_labels)) + targets
    targets[:, 0] = 0  # a label that no row has
    return targets, logits


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    targets, logits = draw(70, 5, seed)
    names = list("abcde")
    rows = canonical([[names[i] for i in np.flatnonzero(row)] for row in targets], names)["train"]
    order = np.random.default_rng(seed).permutation(70)
    encoded = Dataset.from_dict({"index": order})
    statistics = TASK.statistics(rows, encoded, logits[order])
    predicted = 1 / (1 + np.exp(-logits)) >= 0.4
    found = TASK.score(statistics.sum(axis=0))
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {
            "micro_f1": f1_score(targets, predicted, average="micro"),
            "macro_f1": f1_score(targets, predicted, average="macro", zero_division=0),
            "exact_match": accuracy_score(targets, predicted),
            "hamming_loss": hamming_loss(targets, predicted),
        }
    )
    metric = evaluate.load(str(ROOT / "src/tunetrail/tasks/metrics/multi_label"))
    assert metric.compute(predictions=predicted.astype(int), references=targets.astype(int)) == (
        pytest.approx({name: float(value) for name, value in found.items()})
    )
    table = TASK.break_down(rows, statistics.sum(axis=0))
    expected = precision_recall_fscore_support(targets, predicted, zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "rows"), expected, strict=True):
        assert table[name].to_numpy() == pytest.approx(values)
    # Sums over any rows score as those rows do, which intervals and paired tests need.
    some = TASK.score(statistics[order[:9]].sum(axis=0))
    assert float(some["micro_f1"]) == pytest.approx(
        f1_score(targets[order[:9]], predicted[order[:9]], average="micro")
    )


def test_chance_scores_what_it_does_on_average() -> None:
    targets, _ = draw(40, 4, 0)
    shares = np.array([0.1, 0.5, 0.2, 0.9])
    expected = multi_label.statistics(targets, np.tile(shares, (40, 1))).sum(axis=0)
    rng = np.random.default_rng(0)
    drawn = [
        multi_label.statistics(targets, (rng.random((40, 4)) < shares).astype(float)).sum(axis=0)
        for _ in range(3000)
    ]
    assert np.mean(drawn, axis=0) == pytest.approx(expected, abs=0.5)


def test_baselines_and_table_know_rows_without_a_label() -> None:
    rows = canonical([["b", "a"], ["a", "b"], [], ["a"]])["train"]
    *baselines, linear = TASK.baselines(rows, rows)
    assert [one.name for one in baselines] == [
        "the most frequent labels (a, b)", "no label at all", "chance by the labels' shares",
    ]  # fmt: skip
    assert linear.key == "linear"
    scored = {one.name: TASK.score(one.statistics.sum(axis=0)) for one in baselines}
    assert float(scored["no label at all"]["exact_match"]) == 0.25
    assert float(scored["the most frequent labels (a, b)"]["exact_match"]) == 0.5
    logits = np.array([[2.0, 2.0], [2.0, -2.0], [-2.0, -2.0], [-0.3, -0.5]])
    table = TASK.tabulate(rows, Dataset.from_dict({"index": [0, 1, 2, 3]}), logits)
    assert table["target"].tolist() == ["a, b", "a, b", "", "a"]
    # The threshold is 0.4: sigmoid(-0.3) = 0.43, sigmoid(-0.5) = 0.38.
    assert table["prediction"].tolist() == ["a, b", "a", "", "a"]
    assert TASK.answers(table)["labels"].tolist() == ['["a", "b"]', '["a"]', "[]", '["a"]']


def test_sigmoid_has_no_overflow() -> None:
    assert sigmoid(np.array([-2000.0, -1.0, 0.0, 2000.0])) == pytest.approx([0, 0.26894142, 0.5, 1])


def test_labels_are_read_in_every_form() -> None:
    wanted = canonical([["10", "9"], [], ["9"]])["train"]
    assert wanted.features["answers"].feature.names == ["9", "10"]
    assert wanted["target"][:] == ["9, 10", "", "9"]
    numbers = canonical([[10, 9], [], [9]])["train"]
    assert numbers.to_dict() == wanted.to_dict()
    coded = canonical([[1, 0], [], [0]], feature=List(ClassLabel(names=["9", "10"])))["train"]
    assert coded.to_dict() == wanted.to_dict()
    placed = canonical([[1, 0], [], [0]], names=["9", "10"])["train"]
    assert placed.to_dict() == wanted.to_dict()


def test_a_csv_with_a_separator_is_read_as_lists(tmp_path: Path) -> None:
    rows = make_sets(30)
    lists = load_files(train=str(write_sets(tmp_path / "a.jsonl", rows)))
    lines = ["text,labels", *(f"{text},{labels.replace('|', ' ; ')}" for text, labels in rows)]
    (tmp_path / "a.csv").write_text("\n".join(lines), "utf-8")
    split = load_files(train=str(tmp_path / "a.csv"), list_column="labels", list_separator=";")
    assert split["train"].to_dict() == lists["train"].to_dict()
    assert [] in split["train"]["labels"][:]
    with pytest.raises(InputError, match=r"^data\.label_separator=;: .*there is no such column"):
        load_files(train=str(tmp_path / "a.csv"), list_column="tags", list_separator=";")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([["a"], "b"], "train row 1 holds 'b' and no list of labels"),
        (["a|b", "b"], "train row 0 holds 'a|b' and no list of labels"),
        ([["a"], ["b", " "]], "train row 1 has an empty name among its labels"),
        ([["a"], ["b", None]], "train row 1 has an empty name among its labels"),
        ([["a"], [1.5]], "train row 1 has 1.5 among its labels"),
        ([["a"], ["b", 1]], "train row 1 (counted from 0) holds 1, no text as others do"),
        ([[1], [2, 1], ["b"]], "train row 2 (counted from 0) holds 'b', no number as others do"),
        ([["a"], ["b", "b"]], "train row 1 names a label twice"),
        ([["a"], ["a"]], "train has a, and two labels or more are needed"),
        ([[], []], "train has no label, and two labels or more are needed"),
    ],
)
def test_rows_that_are_no_sets_of_labels_are_named(
    labels: list[Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.json"
    import json

    path.write_text(json.dumps([{"text": "x", "labels": found} for found in labels]), "utf-8")
    rows = load_files(train=str(path))
    with pytest.raises(InputError) as caught:
        TASK.canonicalise(rows, COLUMNS, label_names=None)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_that_train_lacks_and_a_missing_list_are_named() -> None:
    with pytest.raises(InputError, match=r"validation row 1 has the label 'c', which is not among"):
        canonical([["a"], ["b"]], validation=[["a"], ["c"]])
    with pytest.raises(InputError, match=r"^train: 1 row with no label \(2, counted from 0\)"):
        require_text(canonical([["a"], ["b"], None]))
    with pytest.raises(InputError, match="all rows of train have the same labels"):
        TASK.require_learnable(canonical([["a", "b"], ["b", "a"]])["train"])
    with pytest.raises(InputError, match=r"task\.threshold=1: "):
        MultiLabelClassification(
            max_length=3, padding="longest", main_metric="micro_f1", threshold=1
        )


def test_every_split_gets_its_share_of_the_rarest_labels() -> None:
    labels = [["common", "rare"][: 1 + (n % 10 == 0)] if n % 3 else [] for n in range(600)]
    rows = canonical(labels)
    assert rows["train"].features["stratum"].names == ["common", "no label", "rare"]
    split = split_off(rows, validation_fraction=0.25, test_fraction=None, seed=0)
    parts = {name: [*map(tuple, part["label_set"])] for name, part in split.items()}
    for labels_of_row in ((0, 1), (0,), ()):
        share = parts["validation"].count(labels_of_row) / (
            parts["train"].count(labels_of_row) + parts["validation"].count(labels_of_row)
        )
        assert share == pytest.approx(0.25, abs=0.01), labels_of_row
