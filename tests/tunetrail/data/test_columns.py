"""Columns, splits and subsets come out as the config says, or the reason comes in one line."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from tunetrail.data.columns import canonical_columns, carve_splits, require_text, take_subsets
from tunetrail.data.duplicates import normalise
from tunetrail.errors import InputError

Row = tuple[str | None, str | None]
MakeSplits = Callable[..., DatasetDict]


def canonical(label_names: list[Any] | None = None, **labels: list[Any]) -> DatasetDict:
    """Splits with these labels, made canonical."""
    rows = {
        split: Dataset.from_dict({"text": [f"text {i}" for i in range(len(ls))], "label": ls})
        for split, ls in labels.items()
    }
    return canonical_columns(
        DatasetDict(rows), text_column="text", label_column="label", label_names=label_names
    )


def spelled(part: Dataset) -> list[str | None]:
    names = part.features["label"].names
    return [None if code is None else names[code] for code in part["label"][:]]


def shares(part: Dataset) -> dict[int, float]:
    return {label: n / len(part) for label, n in sorted(Counter(part["label"][:]).items())}


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
    assert train.features == Features(
        {"text": Value("string"), "label": ClassLabel(names=names), "row": Value("int64")}
    )
    assert train["label"][:] == codes


def test_a_class_label_keeps_its_names_and_minus_one_is_no_label() -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["z", "a", "q"])})
    part = Dataset.from_dict({"text": list("abc"), "label": [1, 0, -1]}, features=features)
    train = canonical_columns(
        DatasetDict({"train": part}), text_column="text", label_column="label", label_names=None
    )["train"]
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
    train = canonical_columns(
        DatasetDict({"train": part}), text_column="label", label_column="stars", label_names=None
    )["train"]
    assert train[:] == {"text": ["words", "other"], "label": [0, 1], "row": [0, 1]}


def test_columns_may_be_the_wrong_way_round() -> None:
    part = Dataset.from_dict({"text": ["a", "b"], "label": ["one", "two"]})
    train = canonical_columns(
        DatasetDict({"train": part}), text_column="label", label_column="text", label_names=None
    )["train"]
    assert train["text"][:] == ["one", "two"]


@pytest.mark.parametrize(
    ("label_names", "splits", "message"),
    [
        (None, {"train": ["a"] * 3}, r"train has the single label 'a'.*set data\.label_column"),
        (None, {"train": [None, ""]}, r"train has no labels"),
        (None, {"train": ["a", "b"], "test": []}, r"test has no rows"),
        (None, {"train": [0.5, 1.0]}, r"label_column=label: 0\.5 in train row 0 is no class"),
        (None, {"train": [[1], [2]]}, r"label_column=label of train holds list; labels must be"),
        (
            None,
            {"train": ["a", "b"], "validation": ["a", "c"]},
            r"'c' in validation row 1 is not among the labels \(a, b\); .*data\.label_names",
        ),
        (["a", "b"], {"train": ["a", "c"]}, r"'c' in train row 1 is not among the labels \(a, b\)"),
        (["a", "b"], {"train": [0, 2]}, r"'2' in train row 1 is not among the labels \(a, b\)"),
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
    ("text_column", "label_column", "message"),
    [
        (
            "txt",
            "label",
            r"no column 'txt' in train \(found: text, label, n\); .*text_column",
        ),
        ("text", "y", r"no column 'y' in train \(found: text, label, n\); .*label_column"),
        ("n", "label", r"data\.text_column=n of train holds int64, not text"),
        ("text", "text", r"data\.text_column and data\.label_column are both 'text'"),
    ],
)
def test_columns_that_cannot_be_used_are_refused(
    text_column: str, label_column: str, message: str
) -> None:
    part = Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"], "n": [1, 2]})
    with pytest.raises(InputError, match=message):
        canonical_columns(
            DatasetDict({"train": part}),
            text_column=text_column,
            label_column=label_column,
            label_names=None,
        )


# --- rows without text or label


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("a", "x"), ("", "y"), (" \n", "x")],
            r"2 rows with an empty text \(1, 2, counted",
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


# --- carving


def test_the_splits_of_the_tweets_have_their_sizes_and_label_shares(
    tweets: DatasetDict, carved: DatasetDict
) -> None:
    assert list(carved) == ["train", "validation", "test"]
    assert {name: len(part) for name, part in carved.items()} == {
        "train": 22_894,
        "validation": 7_632,
        "test": 7_632,
    }
    whole = shares(tweets["train"])
    for part in carved.values():
        assert shares(part) == pytest.approx(whole, abs=1e-3)


def test_every_row_lands_in_one_split(tweets: DatasetDict, carved: DatasetDict) -> None:
    rows = [row for part in carved.values() for row in part["row"][:]]
    assert sorted(rows) == list(range(len(tweets["train"])))
    for part in carved.values():
        numbers = np.asarray(part["row"][:])
        assert (np.diff(numbers) > 0).all(), "rows keep their order"
    row = carved["test"][5]
    assert tweets["train"][row["row"]] == row


def test_copies_of_a_text_stay_in_one_split(carved: DatasetDict) -> None:
    keys = [{normalise(text) for text in part["text"][:]} for part in carved.values()]
    assert sum(len(k) for k in keys) == len(set.union(*keys)) == 38_158 - 2_400


def test_the_same_seed_carves_the_same_and_another_seed_another(some_tweets: DatasetDict) -> None:
    def test_rows(seed: int) -> list[int]:
        splits = carve_splits(some_tweets, validation_fraction=0.2, test_fraction=0.2, seed=seed)
        return list(splits["test"]["row"][:])

    assert test_rows(42) == test_rows(42)
    assert test_rows(42) != test_rows(43)


def test_test_rows_do_not_depend_on_the_validation_fraction(some_tweets: DatasetDict) -> None:
    one = carve_splits(some_tweets, validation_fraction=0.2, test_fraction=0.2, seed=42)
    other = carve_splits(some_tweets, validation_fraction=0.05, test_fraction=0.2, seed=42)
    assert one["test"]["row"][:] == other["test"]["row"][:]
    size = len(some_tweets["train"])
    assert len(one["validation"]) == pytest.approx(0.2 * size, abs=3)
    assert len(other["validation"]) == pytest.approx(0.05 * size, abs=3)


def test_only_missing_splits_are_carved(make_splits: MakeSplits) -> None:
    rows = [(f"text {'abcdefghij'[i]}", "xy"[i % 2]) for i in range(10)]
    dataset = make_splits(train=rows, validation=[("v", "x")])
    carved = carve_splits(dataset, validation_fraction=0.2, test_fraction=0.4, seed=0)
    assert carved["validation"]["text"][:] == ["v"]
    assert (len(carved["train"]), len(carved["test"])) == (6, 4)
    assert carve_splits(dataset, validation_fraction=0.2, test_fraction=None, seed=0) is dataset


def test_the_rarest_label_stands_in_every_split(make_splits: MakeSplits) -> None:
    rows = [(f"word{i} a", "common") for i in range(97)] + [
        (f"word{i} b", "rare") for i in range(3)
    ]
    for seed in range(20):
        carved = carve_splits(
            make_splits(train=rows), validation_fraction=0.1, test_fraction=0.1, seed=seed
        )
        assert [spelled(part).count("rare") for part in carved.values()] == [1, 1, 1]


def test_labels_with_many_copies_only_still_stand_in_every_split(
    make_splits: MakeSplits,
) -> None:
    copies = [(text, "copied") for text in ("a", "b", "c") for _ in range(8)]
    rows = [*copies, *((f"word{i} d", "single") for i in range(40))]
    carved = carve_splits(
        make_splits(train=rows), validation_fraction=0.1, test_fraction=0.1, seed=1
    )
    assert [spelled(part).count("copied") for part in carved.values()] == [8, 8, 8]


def test_too_few_texts_of_a_label_are_refused(make_splits: MakeSplits) -> None:
    rows = [(f"word{i}", "common") for i in range(20)] + [
        ("Same text", "rare"),
        ("same text!", "rare"),
    ]
    with pytest.raises(
        InputError,
        match=r"label 'rare' has 1 different text in train, and train, validation need one each",
    ):
        carve_splits(make_splits(train=rows), validation_fraction=0.2, test_fraction=None, seed=0)


@pytest.mark.parametrize(
    ("validation_fraction", "test_fraction", "message"),
    [
        (None, 0.2, r"no validation split \(found: train\); set data\.validation_fraction=0\.2"),
        (0, None, r"data\.validation_fraction=0: must be a number between 0 and 1"),
        (1.0, None, r"data\.validation_fraction=1\.0: must be"),
        (0.2, -0.1, r"data\.test_fraction=-0\.1: must be"),
        ("a fifth", None, r"data\.validation_fraction=a fifth: must be"),
        (True, None, r"data\.validation_fraction=True: must be"),
        (float("nan"), None, r"data\.validation_fraction=nan: must be"),
        (0.6, 0.4, r"leave no rows to train on; their sum must be below 1"),
    ],
)
def test_fractions_that_cannot_be_carved_are_refused(
    make_splits: MakeSplits,
    validation_fraction: Any,
    test_fraction: Any,
    message: str,
) -> None:
    dataset = make_splits(train=[("a", "x"), ("b", "y")] * 5)
    with pytest.raises(InputError, match=message):
        carve_splits(
            dataset, validation_fraction=validation_fraction, test_fraction=test_fraction, seed=0
        )


# --- subsets


def test_a_stratified_subset_keeps_the_shares_and_is_mixed(carved: DatasetDict) -> None:
    sizes = {"train": 1000, "validation": 500, "test": None}
    taken = take_subsets(carved, sizes=sizes, method="stratified", seed=42)
    assert [len(part) for part in taken.values()] == [1000, 500, 7632]
    for name in ("train", "validation"):
        rounding = 1 / len(taken[name])
        assert shares(taken[name]) == pytest.approx(shares(carved[name]), abs=rounding)
    first = Counter(taken["train"]["label"][:100])
    assert set(first) == {0, 1, 2}
    again = take_subsets(carved, sizes=sizes, method="stratified", seed=42)
    assert again["train"]["row"][:] == taken["train"]["row"][:]
    other = take_subsets(carved, sizes=sizes, method="stratified", seed=1)
    assert other["train"]["row"][:] != taken["train"]["row"][:]


def test_a_split_does_not_depend_on_the_size_of_another(carved: DatasetDict) -> None:
    small = take_subsets(carved, sizes={"train": 10, "test": 50}, method="stratified", seed=0)
    large = take_subsets(carved, sizes={"train": 900, "test": 50}, method="stratified", seed=0)
    assert small["test"]["row"][:] == large["test"]["row"][:]


def test_shuffled_is_the_classic_recipe(carved: DatasetDict) -> None:
    taken = take_subsets(carved, sizes={"train": 1000}, method="shuffled", seed=42)
    classic = carved["train"].shuffle(seed=42).select(range(1000))
    assert taken["train"][:] == classic[:]


@pytest.mark.parametrize("size", [3, 7, 10, 50, 99, 100])
def test_small_subsets_have_every_label_and_the_size_asked_for(
    make_splits: MakeSplits, size: int
) -> None:
    rows = [
        (f"text {i}", "common" if i < 96 else "rare" if i < 98 else "rarer") for i in range(100)
    ]
    part = take_subsets(
        make_splits(train=rows), sizes={"train": size}, method="stratified", seed=0
    )["train"]
    assert len(set(part["row"][:])) == size
    assert len(set(part["label"][:])) == 3


@pytest.mark.parametrize(
    ("sizes", "method", "message"),
    [
        ({"train": 5000}, "stratified", r"data\.num_train=5000: train has 6 rows; ask for at most"),
        ({"train": 0}, "stratified", r"data\.num_train=0: must be a whole number of 1 or more"),
        ({"train": -3}, "shuffled", r"data\.num_train=-3: must be"),
        ({"train": 2.0}, "shuffled", r"data\.num_train=2\.0: must be"),
        ({"train": True}, "shuffled", r"data\.num_train=True: must be"),
        ({"train": "many"}, "shuffled", r"data\.num_train=many: must be"),
        ({"test": 3}, "stratified", r"data\.num_test=3: there is no test split; .*test_fraction"),
        ({"train": 1}, "stratified", r"data\.num_train=1: train has 2 labels and each needs a row"),
        ({"train": 1}, "shuffled", r"train has the single label .*raise data\.num_train"),
        ({"train": 3}, "random", r"data\.subset=random: must be stratified or shuffled"),
    ],
)
def test_sizes_that_cannot_be_met_are_refused(
    make_splits: MakeSplits, sizes: dict[str, Any], method: str, message: str
) -> None:
    dataset = make_splits(train=[("a", "x"), ("b", "y")] * 3)
    with pytest.raises(InputError, match=message) as raised:
        take_subsets(dataset, sizes=sizes, method=method, seed=0)
    assert not re.search(r"\n", str(raised.value))
