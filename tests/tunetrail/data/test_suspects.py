"""Labels that were made wrong are found, and a model that knows nothing says nothing."""

import io
import json
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, DatasetDict
from toys import make_rows, make_tagged

from tunetrail.data.quality.judging import find_suspects, judge, judge_sets
from tunetrail.data.quality.suspects import (
    BOTH,
    COLUMNS,
    LINEAR,
    MOST_LISTED,
    TRAINED,
    Judgement,
    SuspectReport,
    defuse,
    write_suspects,
)
from tunetrail.tasks.causal_lm import CausalLM
from tunetrail.tasks.multi_label_classification import MultiLabelClassification
from tunetrail.tasks.token_classification import TokenClassification

Row = tuple[str | None, str | None]
MakeSplits = Callable[..., DatasetDict]
LABELS = ["negative", "neutral", "positive"]


def plant(rows: list[Row], share: float, *, seed: int = 0) -> tuple[list[Row], set[int]]:
    """Give a share of rows another label; return the rows and which they are."""
    draw = np.random.default_rng(seed)
    chosen = draw.choice(len(rows), round(share * len(rows)), replace=False)
    wrong = list(rows)
    for index in chosen.tolist():
        others = [label for label in LABELS if label != rows[index][1]]
        wrong[index] = (rows[index][0], others[draw.integers(2)])
    return wrong, set(chosen.tolist())


def score(report: SuspectReport, planted: set[int]) -> tuple[float, float, float]:
    """Precision and recall of the suspects, and precision of as many as were planted."""
    rows = report.tabulate()["row"].tolist()
    hits = [row in planted for row in rows]
    return sum(hits) / len(hits), sum(hits) / len(planted), float(np.mean(hits[: len(planted)]))


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
def test_wrong_labels_of_rows_that_can_be_learnt_are_found(
    make_splits: MakeSplits, share: float
) -> None:
    rows, planted = plant(make_rows(1_500), share)
    report = find_suspects(make_splits(train=rows), seed=0)
    precision, recall, _ = score(report, planted)
    assert (precision, recall) == (1.0, 1.0)
    right = dict(enumerate(make_rows(1_500)))
    assert all(
        line.suggested_label == right[line.row][1]
        for line in report.tabulate().itertuples(index=False)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("share", "least"),
    [(0.02, (0.05, 0.5, 0.08)), (0.05, (0.12, 0.55, 0.2)), (0.1, (0.25, 0.55, 0.33))],
)
def test_wrong_labels_of_tweets_are_found_among_those_that_are_dubious_anyway(
    tweets: DatasetDict, make_splits: MakeSplits, share: float, least: tuple[float, float, float]
) -> None:
    """A linear model is right on 7 of 10 tweets: most that it suspects were not planted."""
    part = tweets["train"].shuffle(seed=1).select(range(3_000))
    clean = list(zip(part["text"][:], part["target"][:], strict=True))
    rows, planted = plant(clean, share)
    begin = time.perf_counter()
    report = find_suspects(make_splits(train=rows), seed=0)
    assert time.perf_counter() - begin < 10
    found = score(report, planted)
    assert all(value >= bound for value, bound in zip(found, least, strict=True)), found


def test_all_splits_are_judged_together_and_rows_keep_their_numbers(
    make_splits: MakeSplits,
) -> None:
    rows, planted = plant(make_rows(400), 0.05)
    dataset = make_splits(train=rows[:300], validation=rows[300:399], test=rows[399:])
    report = find_suspects(dataset, seed=0)
    assert [(one.split, len(one.rows)) for one in report.judgements] == [
        ("train", 300), ("validation", 99), ("test", 1),
    ]  # fmt: skip
    starts = {"train": 0, "validation": 300, "test": 399}
    table = report.tabulate()
    found = {starts[line.split] + line.row for line in table.itertuples(index=False)}
    assert found == planted
    assert table["quality"].is_monotonic_increasing
    assert set(table["found_by"]) == {LINEAR}
    assert list(table) == list(COLUMNS)
    assert report.section().tables[0].header == COLUMNS


def test_a_search_for_suspects_draws_from_no_global_generator(make_splits: MakeSplits) -> None:
    dataset = make_splits(train=plant(make_rows(200), 0.1)[0])
    first = find_suspects(dataset, seed=0).tabulate()
    np.random.seed(1)  # noqa: NPY002 - the generator that libraries share
    again = find_suspects(dataset, seed=0).tabulate()
    drawn = np.random.random()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert drawn == np.random.random()  # noqa: NPY002
    pd.testing.assert_frame_equal(first, again)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("one row", "a")], "no two labels have 2 rows each"),
        ([(f"row {i}", "a") for i in range(50)], "no two labels have 2 rows each"),
        ([(f"row {i}", f"{i}") for i in range(50)], "no two labels have 2 rows each"),
        ([(f"noise {i * 7919 % 101}", "ab"[i * i % 7 % 2]) for i in range(60)], "judges none"),
        ([*make_rows(90), ("the only one", "rare")], "same label: 1 row"),
    ],
)
def test_what_cannot_be_judged_is_said(make_splits: MakeSplits, rows: list[Row], said: str) -> None:
    report = find_suspects(make_splits(train=rows), seed=0)
    assert said in report.summary()
    assert report.num_suspects == 0
    assert json.dumps(report.to_dict())
    assert write_suspects(report.tabulate()) == ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize(
    ("column", "values"), [("labels", [["a"], ["a", "b"], []] * 20), ("text", None)]
)
def test_rows_without_exactly_one_label_are_not_judged_before_training(
    column: str, values: list[list[str]] | None
) -> None:
    texts = [f"text {i}" for i in range(60)]
    columns = {"text": texts} if values is None else {"text": texts, column: values}
    rows = DatasetDict({"train": Dataset.from_dict(columns)})
    task = (
        MultiLabelClassification(
            max_length=8, padding="longest", main_metric="macro_f1", threshold=0.5
        )
        if values
        else CausalLM(max_length=8, num_samples=0, main_metric="perplexity", max_new_tokens=4)
    )
    dataset = task.canonicalise(rows, {name: name for name in columns}, label_names=None)
    report = find_suspects(dataset, seed=0)
    assert (report.judgements, len(report.notes)) == ((), 1)


def test_very_many_and_very_long_rows_are_judged_in_part(make_splits: MakeSplits) -> None:
    rows = [(f"{text} {'word ' * 20_000}", label) for text, label in make_rows(90)]
    begin = time.perf_counter()
    report = find_suspects(make_splits(train=rows), seed=0)
    assert time.perf_counter() - begin < 5
    assert report.judgements[0].num_rows == 90


def test_the_table_is_bounded(make_splits: MakeSplits) -> None:
    number = MOST_LISTED + 100
    one = Judgement(
        model=LINEAR,
        split="train",
        rows=np.arange(number),
        texts=["long " * 1_000] * number,
        labels=["label " * 100] * number,
        suggested=["b"] * number,
        quality=np.linspace(1, 0, number),
        is_suspect=np.full(number, fill_value=True),
        num_rows=number,
    )
    table = SuspectReport((one,), ()).tabulate()
    assert len(table) == MOST_LISTED
    assert table["row"][0] == number - 1
    assert table["text"].str.len().max() == 1_000
    assert table["label"].str.len().max() == 200


def test_rows_that_both_models_doubt_are_the_worst() -> None:
    def judgement(model: str, quality: list[float]) -> Judgement:
        return Judgement(
            model=model, split="validation", rows=np.array([7, 8, 9]), texts=["x", "y", "z"],
            labels=["a"] * 3, suggested=["b"] * 3, quality=np.array(quality),
            is_suspect=np.array(quality) < 0.3, num_rows=3,
        )  # fmt: skip

    linear = SuspectReport((judgement(LINEAR, [0.1, 0.1, 0.9]),), ())
    table = linear.add(SuspectReport((judgement(TRAINED, [0.8, 0.2, 0.8]),), ())).tabulate()
    assert table[["row", "quality", "found_by"]].to_numpy().tolist() == [
        [8, 0.15, BOTH],
        [7, 0.45, LINEAR],
    ]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("@SUM(1)", "'@SUM(1)"),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("\t=1", "'\t=1"),
        ("\uff1d1", "'\uff1d1"),
        ("-1", "-1"),
        ("plain = text", "plain = text"),
    ],
)
def test_no_cell_of_the_table_is_a_formula(text: str, cell: str) -> None:
    assert defuse(text) == cell
    assert defuse(cell) == cell
    line = ("train", 1, text, text, "b", 0.5, LINEAR)
    written = pd.read_csv(
        io.StringIO(write_suspects(pd.DataFrame([line], columns=list(COLUMNS)))), dtype=str
    )
    assert written["text"][0] == written["label"][0] == cell


def test_labels_of_sets_are_judged_one_by_one() -> None:
    draw = np.random.default_rng(0)
    codes = [
        sorted(draw.choice(4, draw.integers(0, 3), replace=False).tolist()) for _ in range(300)
    ]
    shares = np.full((300, 4), 0.05)
    for row, found in zip(shares, codes, strict=True):
        row[found] = 0.95
    wrong = [*codes]
    wrong[5] = [code for code in range(4) if code not in codes[5]][:1]
    quality, is_suspect = judge_sets(wrong, shares)
    assert np.flatnonzero(is_suspect).tolist() == [5]
    assert int(quality.argmin()) == 5


def test_many_labels_are_judged_among_those_that_rows_have() -> None:
    codes = np.repeat([3, 390], 50)
    shares = np.full((100, 400), 1e-4)
    shares[np.arange(100), codes] = 0.9
    wrong = codes.copy()
    wrong[0] = 390
    found = judge(wrong, shares)
    assert found is not None
    assert np.flatnonzero(found[1]).tolist() == [0]


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
def test_wrong_tags_of_words_that_can_be_learnt_are_found(share: float) -> None:
    texts = make_tagged(600)
    having = [row for row, (_, tags) in enumerate(texts) if {*tags} != {"O"}]
    planted = {*np.random.default_rng(0).choice(having, round(share * len(texts)), replace=False)}
    other = {"person": "place", "place": "person"}
    wrong = [
        (words, [t if t == "O" or row not in planted else t[:2] + other[t[2:]] for t in tags])
        for row, (words, tags) in enumerate(texts)
    ]
    read = {"tokens": [words for words, _ in wrong], "tags": [tags for _, tags in wrong]}
    task = TokenClassification(max_length=64, tag_scheme="iob2", main_metric="f1")
    dataset = task.canonicalise(
        DatasetDict({"train": Dataset.from_dict(read)}),
        {"tokens": "tokens", "tags": "tags"},
        label_names=None,
    )
    report = find_suspects(dataset, seed=0)
    precision, recall, _ = score(report, planted)
    assert (precision, recall >= 0.9) == (1.0, True)
    first = report.tabulate().iloc[0]
    words, tags = wrong[first["row"]]
    (word, tag), *_ = (found.split(": ") for found in first["label"].split(", "))
    assert tags[words.index(word)] == tag
    assert first["suggested_label"] != first["label"]
