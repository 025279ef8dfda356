"""Splits and subsets are as the config says, or the error is one line."""

import itertools
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from tunetrail.data.duplicates import normalise
from tunetrail.data.leakage import check_leakage
from tunetrail.data.splits import draw_per_label, split_off, take_subsets
from tunetrail.errors import InputError

Row = tuple[str | None, str | None]
MakeSplits = Callable[..., DatasetDict]


def spelled(part: Dataset) -> list[str | None]:
    names = part.features["stratum"].names
    return [None if code is None else names[code] for code in part["stratum"][:]]


def shares(part: Dataset) -> dict[int, float]:
    return {label: n / len(part) for label, n in sorted(Counter(part["stratum"][:]).items())}


# --- splits off train


def test_the_splits_of_the_tweets_have_their_sizes_and_label_shares(
    tweets: DatasetDict, split_tweets: DatasetDict
) -> None:
    assert list(split_tweets) == ["train", "validation", "test"]
    assert {name: len(part) for name, part in split_tweets.items()} == {
        "train": 22_894,
        "validation": 7_632,
        "test": 7_632,
    }
    whole = shares(tweets["train"])
    for part in split_tweets.values():
        assert shares(part) == pytest.approx(whole, abs=1e-3)


def test_every_row_lands_in_one_split(tweets: DatasetDict, split_tweets: DatasetDict) -> None:
    rows = [row for part in split_tweets.values() for row in part["row"][:]]
    assert sorted(rows) == list(range(len(tweets["train"])))
    for part in split_tweets.values():
        numbers = np.asarray(part["row"][:])
        assert (np.diff(numbers) > 0).all(), "rows keep their order"
    row = split_tweets["test"][5]
    assert tweets["train"][row["row"]] == row


def test_duplicates_of_a_text_stay_in_one_split(split_tweets: DatasetDict) -> None:
    keys = [{normalise(text) for text in part["text"][:]} for part in split_tweets.values()]
    assert sum(len(k) for k in keys) == len(set.union(*keys)) == 38_158 - 2_400


def test_near_duplicates_stay_in_one_split_where_that_is_asked_for(make_splits: MakeSplits) -> None:
    pairs = enumerate(itertools.product("bcdfgh", repeat=2))
    rows = [(f"{one * 6} {other * 7}", "ab"[n % 2]) for n, (one, other) in pairs]
    near = [(f"the story number {n} of the old house by the river", "ab"[n % 2]) for n in range(12)]
    dataset = make_splits(train=[*rows, *near])
    for seed in range(5):
        fractions = {"validation_fraction": 0.25, "test_fraction": 0.25, "seed": seed}
        assert check_leakage(split_off(dataset, **fractions)).problems > 0
        splits = split_off(dataset, **fractions, keep_near_together=True)
        assert check_leakage(splits).problems == 0
        assert min(len(part) for part in splits.values()) > 5


def test_the_same_seed_splits_the_same_and_another_seed_another(some_tweets: DatasetDict) -> None:
    def test_rows(seed: int) -> list[int]:
        splits = split_off(some_tweets, validation_fraction=0.2, test_fraction=0.2, seed=seed)
        return list(splits["test"]["row"][:])

    assert test_rows(42) == test_rows(42)
    assert test_rows(42) != test_rows(43)


def test_test_rows_do_not_depend_on_the_validation_fraction(some_tweets: DatasetDict) -> None:
    one = split_off(some_tweets, validation_fraction=0.2, test_fraction=0.2, seed=42)
    other = split_off(some_tweets, validation_fraction=0.05, test_fraction=0.2, seed=42)
    assert one["test"]["row"][:] == other["test"]["row"][:]
    size = len(some_tweets["train"])
    assert len(one["validation"]) == pytest.approx(0.2 * size, abs=3)
    assert len(other["validation"]) == pytest.approx(0.05 * size, abs=3)


def test_only_missing_splits_are_split_off(make_splits: MakeSplits) -> None:
    rows = [(f"text {'abcdefghij'[i]}", "xy"[i % 2]) for i in range(10)]
    dataset = make_splits(train=rows, validation=[("v", "x")])
    splits = split_off(dataset, validation_fraction=0.2, test_fraction=0.4, seed=0)
    assert splits["validation"]["text"][:] == ["v"]
    assert (len(splits["train"]), len(splits["test"])) == (6, 4)
    assert split_off(dataset, validation_fraction=0.2, test_fraction=None, seed=0) is dataset


def test_the_rarest_label_is_in_every_split(make_splits: MakeSplits) -> None:
    rows = [(f"word{i} a", "common") for i in range(97)] + [
        (f"word{i} b", "rare") for i in range(3)
    ]
    for seed in range(20):
        splits = split_off(
            make_splits(train=rows), validation_fraction=0.1, test_fraction=0.1, seed=seed
        )
        assert [spelled(part).count("rare") for part in splits.values()] == [1, 1, 1]


def test_labels_with_many_duplicates_are_in_every_split(
    make_splits: MakeSplits,
) -> None:
    duplicates = [(text, "copied") for text in ("a", "b", "c") for _ in range(8)]
    rows = [*duplicates, *((f"word{i} d", "single") for i in range(40))]
    splits = split_off(make_splits(train=rows), validation_fraction=0.1, test_fraction=0.1, seed=1)
    assert [spelled(part).count("copied") for part in splits.values()] == [8, 8, 8]


def test_too_few_texts_of_a_label_are_refused(make_splits: MakeSplits) -> None:
    rows = [(f"word{i}", "common") for i in range(20)] + [
        ("Same text", "rare"),
        ("same text!", "rare"),
    ]
    with pytest.raises(
        InputError,
        match=r"label 'rare' has 1 different text in train, and train, validation need one each",
    ):
        split_off(make_splits(train=rows), validation_fraction=0.2, test_fraction=None, seed=0)


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
def test_fractions_that_cannot_be_met_are_refused(
    make_splits: MakeSplits,
    validation_fraction: Any,
    test_fraction: Any,
    message: str,
) -> None:
    dataset = make_splits(train=[("a", "x"), ("b", "y")] * 5)
    with pytest.raises(InputError, match=message):
        split_off(
            dataset, validation_fraction=validation_fraction, test_fraction=test_fraction, seed=0
        )


# --- subsets


def test_a_stratified_subset_keeps_the_shares_and_is_mixed(split_tweets: DatasetDict) -> None:
    sizes = {"train": 1000, "validation": 500, "test": None}
    taken = take_subsets(split_tweets, sizes=sizes, method="stratified", seed=42)
    assert [len(part) for part in taken.values()] == [1000, 500, 7632]
    for name in ("train", "validation"):
        rounding = 1 / len(taken[name])
        assert shares(taken[name]) == pytest.approx(shares(split_tweets[name]), abs=rounding)
    first = Counter(taken["train"]["stratum"][:100])
    assert set(first) == {0, 1, 2}
    again = take_subsets(split_tweets, sizes=sizes, method="stratified", seed=42)
    assert again["train"]["row"][:] == taken["train"]["row"][:]
    other = take_subsets(split_tweets, sizes=sizes, method="stratified", seed=1)
    assert other["train"]["row"][:] != taken["train"]["row"][:]


def test_a_split_does_not_depend_on_the_size_of_another(split_tweets: DatasetDict) -> None:
    small, large = (
        take_subsets(split_tweets, sizes={"train": size, "test": 50}, method="stratified", seed=0)
        for size in (10, 900)
    )
    large = take_subsets(
        split_tweets, sizes={"train": 900, "test": 50}, method="stratified", seed=0
    )
    assert small["test"]["row"][:] == large["test"]["row"][:]


def test_shuffled_is_the_classic_recipe(split_tweets: DatasetDict) -> None:
    taken = take_subsets(split_tweets, sizes={"train": 1000}, method="shuffled", seed=42)
    classic = split_tweets["train"].shuffle(seed=42).select(range(1000))
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
    assert len(set(part["stratum"][:])) == 3


@pytest.mark.parametrize(
    ("sizes", "method", "message"),
    [
        ({"train": 5000}, "stratified", r"data\.num_train=5000: train has 6 rows; ask for fewer"),
        ({"train": 0}, "stratified", r"data\.num_train=0: must be a whole number of 1 or more"),
        ({"train": -3}, "shuffled", r"data\.num_train=-3: must be"),
        ({"train": 2.0}, "shuffled", r"data\.num_train=2\.0: must be"),
        ({"train": True}, "shuffled", r"data\.num_train=True: must be"),
        ({"train": "many"}, "shuffled", r"data\.num_train=many: must be"),
        ({"test": 3}, "stratified", r"data\.num_test=3: there is no test split; .*test_fraction"),
        ({"train": 1}, "stratified", r"data\.num_train=1: train has 2 labels and each needs a row"),
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


# --- few-shot


def test_as_many_rows_of_each_label_are_drawn_and_more_hold_those_of_fewer(
    make_splits: MakeSplits,
) -> None:
    rows = [(f"text {i}", "common" if i % 3 else "rare") for i in range(60)]
    train = make_splits(train=rows)["train"]
    drawn = {k: draw_per_label(train, k, seed=7) for k in (1, 2, 8)}
    for k, part in drawn.items():
        assert Counter(spelled(part)) == {"common": k, "rare": k}
    numbers = {k: set(part["row"][:]) for k, part in drawn.items()}
    assert numbers[1] < numbers[2] < numbers[8]
    assert draw_per_label(train, 8, seed=7)["row"][:] == drawn[8]["row"][:]
    assert set(draw_per_label(train, 8, seed=8)["row"][:]) != numbers[8]
    # the labels come in no order
    assert len({tuple(spelled(draw_per_label(train, 8, seed=seed))) for seed in range(3)}) == 3


@pytest.mark.parametrize(
    ("per_label", "seed", "message"),
    [
        (0, 1, "data.per_label=0: must be a whole number of 1 or more, or null"),
        (1.5, 1, "data.per_label=1.5: must be a whole number"),
        (True, 1, "data.per_label=True: must be a whole number"),
        (3, 1, "data.per_label=3: train has 2 rows of 'y'; ask for fewer, raise data.num_train"),
        (2, "x", "data.per_label_seed=x: must be a whole number of 0 or more"),
        (2, None, "data.per_label_seed=None: must be a whole number of 0 or more"),
    ],
)
def test_draws_that_cannot_be_made_are_refused(
    make_splits: MakeSplits, per_label: Any, seed: Any, message: str
) -> None:
    train = make_splits(train=[("a", "x"), ("b", "x"), ("c", "x"), ("d", "y"), ("e", "y")])["train"]
    with pytest.raises(InputError) as raised:
        draw_per_label(train, per_label, seed=seed)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("strata", [Value("null"), ClassLabel(names=["all"])], ids=["none", "one"])
def test_rows_without_labels_have_none_to_draw_from(strata: Any) -> None:
    stratum = [0, 0] if isinstance(strata, ClassLabel) else [None, None]
    features = Features({"text": Value("string"), "stratum": strata})
    train = Dataset.from_dict({"text": ["a", "b"], "stratum": stratum}, features=features)
    with pytest.raises(InputError, match=r"data\.per_label=1: the rows of train have no labels"):
        draw_per_label(train, 1, seed=0)
