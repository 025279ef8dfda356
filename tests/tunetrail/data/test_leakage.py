"""Rows that are in two splits are found, exact or not, and dropped from the right one."""

import json
import time
from collections.abc import Callable

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Value

from tunetrail.data.columns import canonical_split
from tunetrail.data.leakage import check_leakage, drop_leaks
from tunetrail.data.near import SAME_WORDS
from tunetrail.data.splits import take_subsets
from tunetrail.errors import InputError

Row = tuple[str | None, str | None]
MakeSplits = Callable[..., DatasetDict]

TRAIN: list[Row] = [
    ("The battery died after two days of normal use", "neg"),  # 0
    ("I would buy this phone again any time", "pos"),  # 1
    ("Screen is bright and the sound is loud enough for me", "pos"),  # 2
    ("Nothing to see here", "neg"),  # 3
    ("I would buy this phone again any time", "pos"),  # 4 copy of 1
]
TEST: list[Row] = [
    ("A completely different sentence about trains", "neg"),  # 0
    ("I would buy this phone again any time", "pos"),  # 1 exact: train 1
    ("the battery died after two days of normal use!!", "pos"),  # 2 normalised: train 0, label
    ("Screen is bright and the sound is loud enough for us", "pos"),  # 3 near: train 2
    ("Nothing works in here any more, sadly", "neg"),  # 4
]


def test_exact_normalised_and_near_duplicates_are_distinguished(make_splits: MakeSplits) -> None:
    (pair,) = check_leakage(make_splits(train=TRAIN, test=TEST)).pairs
    assert (pair.source, pair.held_out, pair.num_rows) == ("train", "test", 5)
    assert (pair.num_exact, pair.num_normalised, pair.num_near) == (1, 1, 1)
    assert pair.num_leaked == 3
    assert pair.share == pytest.approx(0.6)
    assert pair.num_other_label == 1
    shown = [(x.kind, x.held_out_row, x.source_row) for x in pair.examples]
    assert shown == [("exact", 1, 1), ("normalised", 2, 0), ("near", 3, 2)]
    near = pair.examples[2]
    assert SAME_WORDS <= near.similarity < 1
    assert (near.held_out_text, near.source_text) == (TEST[3][0], TRAIN[2][0])


def test_each_pair_of_splits_is_compared(make_splits: MakeSplits) -> None:
    dataset = make_splits(
        train=[("one thing", "a"), ("another", "b")],
        validation=[("one thing", "a"), ("shared by the held-out", "b")],
        test=[("shared by the held-out", "b"), ("new", "a")],
    )
    report = check_leakage(dataset)
    assert [(p.source, p.held_out, p.num_leaked) for p in report.pairs] == [
        ("train", "validation", 1),
        ("train", "test", 0),
        ("validation", "test", 1),
    ]
    assert report.problems == 2


def test_the_best_match_is_the_one_that_is_shown(make_splits: MakeSplits) -> None:
    words = "the quick brown fox jumps over the lazy dog near the river bank today"
    dataset = make_splits(
        train=[(f"{words} and again tonight", "a"), (f"{words} and", "b"), ("other", "a")],
        validation=[(f"{words} or", "b")],
    )
    (pair,) = check_leakage(dataset).pairs
    assert [(x.source_row, x.source_label) for x in pair.examples] == [(1, "b")]
    assert pair.num_other_label == 0


def test_the_report_reads_well(make_splits: MakeSplits) -> None:
    report = check_leakage(make_splits(train=TRAIN, test=TEST))
    assert report.summary() == ("3 of 5 test rows are in train too (1 exact, 1 normalised, 1 near)")
    page = report.to_markdown()
    assert "| test | train | 5 | 1 | 1 | 1 | 60.0% | 1 |" in page
    assert "| exact | 1.00 | 1: I would buy this phone again any time | pos | 1: I would" in page
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["problems"] == 3
    assert plain["pairs"][0]["share"] == pytest.approx(0.6)
    assert len(plain["pairs"][0]["examples"]) == 3


def test_splits_without_common_rows_have_no_problems(make_splits: MakeSplits) -> None:
    dataset = make_splits(train=TRAIN, validation=[TEST[0], TEST[4]])
    report = check_leakage(dataset)
    assert report.problems == 0
    assert report.summary() == "no row is in two splits"
    same, cleaning = drop_leaks(dataset)
    assert {name: len(part) for name, part in same.items()} == {"train": 5, "validation": 2}
    assert cleaning.summary() == "no row was in two splits"


def test_leaks_are_dropped_from_the_split_that_is_not_held_out(make_splits: MakeSplits) -> None:
    validation: list[Row] = [("Nothing to see HERE", "neg"), TEST[0], ("good", "pos")]
    dataset, cleaning = drop_leaks(
        make_splits(train=[*TRAIN, ("only in train", "neg")], validation=validation, test=TEST)
    )
    assert dataset["train"]["row"][:] == [5]
    assert dataset["validation"]["row"][:] == [0, 2]
    assert dataset["test"]["row"][:] == [0, 1, 2, 3, 4]
    assert cleaning.dropped == {"validation": 1, "train": 5}
    assert cleaning.summary().endswith("were dropped: 1 from validation, 5 from train")


def test_dropping_every_row_is_refused(make_splits: MakeSplits) -> None:
    with pytest.raises(InputError, match=r"checks\.leakage=clean leaves no rows of train: all 5"):
        drop_leaks(make_splits(train=TRAIN, validation=TRAIN))


def test_splitting_leaves_only_near_duplicates_between_splits(split_tweets: DatasetDict) -> None:
    taken = take_subsets(
        split_tweets,
        sizes={"train": 1000, "validation": 1000, "test": 1000},
        method="shuffled",
        seed=0,
    )
    report = check_leakage(taken)
    assert not any(pair.num_exact or pair.num_normalised for pair in report.pairs)
    assert any(pair.num_near for pair in report.pairs)


def test_nothing_is_left_after_dropping_nor_in_a_subset(split_tweets: DatasetDict) -> None:
    sizes = {"train": 2000, "validation": 800, "test": 800}
    dataset = take_subsets(split_tweets, sizes=sizes, method="shuffled", seed=0)
    dropped, cleaning = drop_leaks(dataset)
    assert cleaning.dropped["train"] > 20
    assert check_leakage(dropped).problems == 0
    half = {name: len(part) // 2 for name, part in dropped.items()}
    assert check_leakage(take_subsets(dropped, sizes=half, method="shuffled", seed=1)).problems == 0


def test_blocks_do_not_change_what_is_found(
    split_tweets: DatasetDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"train": 500, "validation": 300, "test": 1}
    dataset = take_subsets(split_tweets, sizes=sizes, method="shuffled", seed=3)
    whole = check_leakage(dataset)
    monkeypatch.setattr("tunetrail.data.near._CHUNK", 900)
    monkeypatch.setattr("tunetrail.data.near._PAIRS", 7)
    assert check_leakage(dataset) == whole


def test_a_thousand_rows_against_a_thousand_take_less_than_a_second(
    split_tweets: DatasetDict,
) -> None:
    sizes = {"train": 1000, "validation": 1000, "test": 1}
    dataset = take_subsets(split_tweets, sizes=sizes, method="shuffled", seed=0)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        check_leakage(dataset)
        seconds.append(time.perf_counter() - start)
    assert np.min(seconds) < 1


def test_of_two_texts_in_a_row_the_shorter_one_must_be_the_same() -> None:
    context = "the river bank was empty today and nobody saw the train that came from the north"
    other = context.replace("empty", "silent")

    def part(*rows: tuple[str, str]) -> Dataset:
        questions, contexts = zip(*rows, strict=True)
        return canonical_split(
            Dataset.from_dict({"text": list(contexts)}),
            text=[f"{question} | {found}" for question, found in rows],
            own={
                "question": (list(questions), Value("string")),
                "context": (list(contexts), Value("string")),
            },
        )

    train = part(("where did the train come from", context))
    held_out = part(
        ("where did the train come from", other),
        ("where did the bus come from", context),
        ("who saw it", context),
    )
    (pair,) = check_leakage(DatasetDict({"train": train, "test": held_out})).pairs
    assert [(leak.kind, leak.held_out_row) for leak in pair.examples] == [("near", 0)]


def test_the_section_for_the_page_has_the_pairs_and_examples(make_splits: MakeSplits) -> None:
    section = check_leakage(make_splits(train=TRAIN, test=TEST)).section()
    assert section.title == "Leakage"
    assert section.sentence.startswith("3 of 5 test rows are in train too")
    assert [len(table.rows) for table in section.tables] == [1, 3]
    assert all(len(row) == len(t.header) for t in section.tables for row in t.rows)
