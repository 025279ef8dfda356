"""Columns are as the config says, or the error is one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import toys
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from tunetrail.data.columns import require_text
from tunetrail.data.sources import load_files
from tunetrail.errors import InputError

Row = tuple[str | None, str | None]
MakeSplits = Callable[..., DatasetDict]


def canonical(label_names: list[Any] | None = None, **labels: list[Any]) -> DatasetDict:
    """Splits with these labels, made canonical."""
    rows = {
        split: Dataset.from_dict({"text": [f"text {i}" for i in range(len(ls))], "label": ls})
        for split, ls in labels.items()
    }
    return toys.canonical(DatasetDict(rows), names=label_names)


def spelled(part: Dataset) -> list[str | None]:
    names = part.features["label"].names
    return [None if code is None else names[code] for code in part["label"][:]]


# --- canonical columns


@pytest.mark.parametrize(
    ("labels", "names", "codes"),
    [
        (["pos", "neg", "pos"], ["neg", "pos"], [1, 0, 1]),
        ([1, 0, 2], ["0", "1", "2"], [1, 0, 2]),
        ([10, 9, 2], ["2", "9", "10"], [2, 1, 0]),
        (["10", "9", "2"], ["2", "9", "10"], [2, 1, 0]),
        ([True, False, True], ["False", "True"], [1, 0, 1]),
        ([1.0, None, 0.0], ["0", "1"], [1, None, 0]),
        (["1.0", "", "0"], ["0", "1"], [1, None, 0]),
        (["01", "1", "01"], ["01", "1"], [0, 1, 0]),
        (["a", None, "b"], ["a", "b"], [0, None, 1]),
        ([-1, 1, -1], ["-1", "1"], [0, 1, 0]),
    ],
)
def test_labels_of_any_type_become_sorted_names(
    labels: list[Any], names: list[str], codes: list[int | None]
) -> None:
    train = canonical(train=labels)["train"]
    assert train.features["label"] == train.features["stratum"] == ClassLabel(names=names)
    assert train["target"][:] == [None if code is None else names[code] for code in codes]
    assert train["label"][:] == codes


def test_a_class_label_keeps_its_names_and_minus_one_is_no_label() -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["z", "a", "q"])})
    part = Dataset.from_dict({"text": list("abc"), "label": [1, 0, -1]}, features=features)
    train = toys.canonical(DatasetDict({"train": part}), "text", "label")["train"]
    assert train.features["label"].names == ["z", "a", "q"]
    assert train["label"][:] == [1, 0, None]


@pytest.mark.parametrize(
    ("label_names", "labels", "names", "codes"),
    [
        (["pos", "neg"], ["neg", "pos"], ["pos", "neg"], [1, 0]),
        (["bad", "good"], [0, 1], ["bad", "good"], [0, 1]),
        (["bad", "good"], ["1.0", "0.0"], ["bad", "good"], [1, 0]),
        ([1, 2, 3], [3, 1], ["1", "2", "3"], [2, 0]),
        ([1, 0], [0, 1], ["1", "0"], [1, 0]),
        # Labels of their own, where a person names them.
        (["us", "US"], ["US", "us"], ["us", "US"], [1, 0]),
        (["a", "b", "never seen"], ["a", "b"], ["a", "b", "never seen"], [0, 1]),
    ],
)
def test_label_names_give_the_order_or_name_the_ids(
    label_names: list[Any], labels: list[Any], names: list[str], codes: list[int]
) -> None:
    train = canonical(label_names, train=labels)["train"]
    assert train.features["label"].names == names
    assert train["label"][:] == codes


def test_splits_that_spell_numbers_differently_agree() -> None:
    dataset = canonical(train=[0, 1, 1], validation=[1.0, None, 0.0], test=["1", "0", "0"])
    assert spelled(dataset["validation"]) == ["1", None, "0"]
    assert spelled(dataset["test"]) == ["1", "0", "0"]


def test_rows_keep_their_number_and_other_columns_go() -> None:
    part = Dataset.from_dict(
        {"row": ["x", "y"], "label": ["words", "other"], "text": [7, 8], "stars": [1, 5]}
    )
    train = toys.canonical(DatasetDict({"train": part}), "label", "stars")["train"]
    assert train[:] == {
        "text": ["words", "other"], "target": ["1", "5"], "stratum": [0, 1], "row": [0, 1],
        "answers": [[0], [1]], "group": [None, None], "label": [0, 1],
    }  # fmt: skip


def test_columns_may_be_the_wrong_way_round() -> None:
    part = Dataset.from_dict({"text": ["a", "b"], "label": ["one", "two"]})
    train = toys.canonical(DatasetDict({"train": part}), "label", "text")["train"]
    assert train["text"][:] == ["one", "two"]


@pytest.mark.parametrize(
    ("label_names", "splits", "message"),
    [
        (None, {"train": ["a"] * 3}, r"train has the single label 'a'.*set data\.columns\.label"),
        (None, {"train": [None, ""]}, r"train has no labels"),
        (None, {"train": ["a", "b"], "test": []}, r"test has no rows"),
        (None, {"train": [0.5, 1.0]}, r"columns\.label=label: 0\.5 in train row 0 is no class"),
        (None, {"train": [[1], [2]]}, r"columns\.label=label of train holds list; labels must be"),
        (
            None,
            {"train": ["a", "b"], "validation": ["a", "c"]},
            r"'c' in validation row 1 is not among the labels \(a, b\); .*data\.label_names",
        ),
        (["a", "b"], {"train": ["a", "c"]}, r"'c' in train row 1 is not among the labels \(a, b\)"),
        (
            ["a", "b"],
            {"train": [1, 2]},
            r"labels \(a, b; numbers are their places, counted from 0\)",
        ),
        (
            None,
            {"train": ["neutral", "neutral ", "bad", "neutral"], "test": ["Neutral"]},
            r"label: 'Neutral' \(1\), 'neutral' \(2\), 'neutral ' \(1\) differ .*label_names$",
        ),
        (None, {"train": ["a b", "a  b", "c"]}, r"'a  b' \(1\), 'a b' \(1\) differ only"),
        (
            None,
            {"train": ["yes", "\ufeffyes", "no"]},
            r"'yes' \(1\), '\\ufeffyes' \(1\) differ only",
        ),
        (None, {"train": ["cafe\u0301", "caf\xe9", "no"]}, r"differ only"),
        *(
            (
                None,
                {"train": [f"ne{sign}utral", "neutral", "bad"]},
                r"'neutral' \(1\).* differ only",
            )
            for sign in "\u200b\u200d\xad\ufeff\u2060\u034f\u180e\ufe0f\U000e0100\x07"
        ),
        *(
            (None, {"train": [f"a{sign}b", "a b", "c"]}, r"'a b' \(1\).* differ only")
            for sign in ("\xa0", "\u3000", "\u2028", "\t", "\u2800", " \u200b", "\u200b\u2009")
        ),
        (None, {"train": ["e\u200b\u0301", "\xe9", "no"]}, r"differ only"),
        (["a"], {"train": ["a", "b"]}, r"data\.label_names=\['a'\]: must be two or more names"),
        (["a", "a"], {"train": ["a", "b"]}, r"data\.label_names=.*each of them once"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(
    label_names: list[str] | None, splits: dict[str, list[Any]], message: str
) -> None:
    with pytest.raises(InputError, match=message) as raised:
        canonical(label_names, **splits)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["x", "y", 1, "x"],
            r"^data\.columns\.label=label: train row 2 \(counted from 0\) holds 1, .* around it$",
        ),
        (["a", None, "b", True], r"train row 3 .* holds True, no text"),
        (["a", "b", 0.0, None], r"train row 2 .* holds 0\.0, no text"),
        (["a", 1], r"train row 1 .* holds 1, no text"),
        ([0, 1, "n/a", 1], r"train row 2 .* holds 'n/a', no number .* in data\.label_names"),
        ([True, False, "no"], r"train row 2 .* holds 'no', no boolean"),
        ([1, 0, True, 1], r"train row 2 .* holds True, no number"),
        ([1.5, "a", "b"], r"train row 0 .* holds 1\.5, no text"),
    ],
)
def test_a_label_of_another_type_than_the_rest_is_refused(
    tmp_path: Path, labels: list[Any], message: str
) -> None:
    path = tmp_path / "a.jsonl"

    def read(names: list[Any] | None, labels: list[Any]) -> list[int]:
        lines = [json.dumps({"text": "a day", "label": label}) for label in labels]
        path.write_text("\n".join(lines))
        return toys.canonical(load_files(train=str(path)), names=names)["train"]["label"][:]

    with pytest.raises(InputError, match=message):
        read(None, labels)
    # Quotes around a number change nothing, and names say what is meant.
    assert read(None, [1, "0", "1.0", 0]) == [1, 0, 1, 0]
    assert read(["x", 1], [1, "x", "1"]) == [1, 0, 1]


@pytest.mark.parametrize(
    ("text_column", "label_column", "message"),
    [
        (
            "txt",
            "label",
            r"no column 'txt' in train \(found: text, label, n, mixed\); .*columns\.text",
        ),
        ("text", "y", r"no column 'y' in train \(found: text, label, n, mixed\); .*columns\.label"),
        ("n", "label", r"data\.columns\.text=n of train holds int64, not text"),
        (
            "mixed",
            "label",
            r"text=mixed: train row 1 \(counted from 0\) holds 5, ",
        ),
        ("text", "text", r"data\.columns\.text and data\.columns\.label are both 'text'"),
    ],
)
def test_columns_that_cannot_be_used_are_refused(
    text_column: str, label_column: str, message: str
) -> None:
    mixed = pa.array(['"a"', "5"], pa.json_())
    table = pa.table({"text": ["a", "b"], "label": ["x", "y"], "n": [1, 2], "mixed": mixed})
    part = Dataset(table)
    with pytest.raises(InputError, match=message):
        toys.canonical(DatasetDict({"train": part}), text_column, label_column)


# --- rows without text or label


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [
                ("a", "x"),
                ("", "y"),
                (" \n", "x"),
                ("\u200b\ufeff \xad", "y"),
                ("\u3164", "x"),
            ],
            r"4 rows with an empty text \(1, 2, 3, 4, counted",
        ),
        (
            [(None, "x"), ("b", "y")],
            r"train: 1 row with an empty text \(0, .*quality=clean",
        ),
        ([("a", "x"), ("b", None), ("c", "y")], r"train: 1 row with no label \(1, "),
    ],
)
def test_rows_without_text_or_label_are_refused_by_number(
    make_splits: MakeSplits, rows: list[Row], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        require_text(make_splits(train=rows))


def test_many_faulty_rows_are_not_all_listed(make_splits: MakeSplits) -> None:
    dataset = make_splits(train=[("", "x")] * 30 + [("a", "y")])
    with pytest.raises(InputError, match=r"30 rows .*\(0, 1, .*, 9, … 20 more, counted"):
        require_text(dataset)
