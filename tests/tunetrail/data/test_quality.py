"""Every fault that was put in is counted, shown and dropped, and nothing else is."""

import json
from collections.abc import Callable

import pytest
from datasets import DatasetDict

from tunetrail.data.quality import Finding, QualityReport, check_quality, clean
from tunetrail.errors import InputError

Row = tuple[str | None, str | None]
MakeSplits = Callable[..., DatasetDict]

GOOD: list[Row] = [("a fine day", "pos"), ("a bad day", "neg"), ("ceci n'est pas Ça", "neg")]
FAULTY: list[Row] = [
    ("Great phone, buy it", "pos"),  # 0
    ("", "pos"),  # 1 empty
    ("Great phone, buy it", "pos"),  # 2 exact copy of 0
    ("great phone: BUY it! http://t.co/x", "pos"),  # 3 normalised copy of 0
    ("battery died", "neg"),  # 4 conflicts with 5
    ("Battery died.", "pos"),  # 5 conflicts with 4, normalised copy of it
    (" \t", None),  # 6 empty, missing label
    ("no label here", None),  # 7 missing label
    ("no label here", "neg"),  # 8 good: the text that it repeats has no label
    ("caf\ufffd closed", "neg"),  # 9 broken
    ("cafÃ© closed", "neg"),  # 10 broken: é in UTF-8 read as Windows-1252
    (None, "neg"),  # 11 empty
    ("a fine | <b>day</b>\nwith markup", "pos"),  # 12 good
]


def findings(report: QualityReport, split: str = "train") -> dict[str, Finding]:
    (found,) = (part for part in report.splits if part.split == split)
    return {finding.kind: finding for finding in found.findings}


def test_every_known_fault_is_counted(make_splits: MakeSplits) -> None:
    report = check_quality(make_splits(train=FAULTY, validation=GOOD))
    assert {kind: found.num_rows for kind, found in findings(report).items()} == {
        "empty texts": 3,
        "missing labels": 2,
        "exact duplicates": 1,
        "normalised duplicates": 2,
        "conflicting labels": 2,
        "broken characters": 2,
    }
    assert not any(found.num_rows for found in findings(report, "validation").values())
    # Row 5 has two faults and row 6 too: each row counts once.
    assert report.problems == len({1, 2, 3, 4, 5, 6, 7, 9, 10, 11})
    assert findings(report)["empty texts"].share == pytest.approx(3 / 13)


def test_examples_point_at_the_rows_of_the_source(make_splits: MakeSplits) -> None:
    dataset = make_splits(train=FAULTY)
    found = findings(check_quality(dataset))
    (example,) = found["exact duplicates"].examples
    assert (example.rows, example.labels) == ((0, 2), ("pos", "pos"))
    (example,) = found["conflicting labels"].examples
    assert (example.rows, example.labels, example.text) == ((4, 5), ("neg", "pos"), "battery died")
    later = DatasetDict({"train": dataset["train"].select([9, 10])})
    assert [e.rows for e in findings(check_quality(later))["broken characters"].examples] == [
        (9,),
        (10,),
    ]


def test_labels_and_lengths_are_measured(make_splits: MakeSplits) -> None:
    rows: list[Row] = [("one", "b"), ("one two three", "a"), ("w " * 40, "b"), ("four", "b")]
    (train,) = check_quality(make_splits(train=rows)).splits
    assert [(x.label, x.number, x.share) for x in train.labels] == [
        ("a", 1, 0.25),
        ("b", 3, 0.75),
    ]
    assert (train.words.minimum, train.words.median, train.words.maximum) == (1, 2.0, 40)
    assert 3 < train.words.p95 <= 40


@pytest.mark.parametrize(
    ("text", "is_broken"),
    [
        ("lost \ufffd", True),
        ("bell \x07", True),
        ("private \ue30d", True),
        ("it\u00e2\u20ac\u2122s", True),
        ("ð\u0178\u02dc€", True),
        ("Â£5", True),
        ("CAFÃ‰ e cafÃ©", True),
        ("Ã€ vous", True),
        ("voilÃ\xa0", True),
        ("A IRMÔ disse: “AMANHÃ…” É NÃO, MAÇÃ\u2013", False),
        ("IRMÃ” e AMANHÃ\xa0CEDO, MANHÃ— NHÂ…", False),
        ("tab\tand\r\nline", False),
        ("É»«Ça va», ÃO, São, Âme", False),
        ("😀 \u2018quoted\u2019 \u2013 £5 €", False),
        ("👩\u200d👩 नमस्ते \u200fعربي", False),
    ],
)
def test_broken_characters_are_distinguished_from_unusual_ones(
    make_splits: MakeSplits, text: str, is_broken: bool
) -> None:
    found = findings(check_quality(make_splits(train=[(text, "a"), ("b", "b")])))
    assert found["broken characters"].num_rows == int(is_broken)


def test_the_report_reads_well(make_splits: MakeSplits) -> None:
    report = check_quality(make_splits(train=FAULTY, validation=GOOD))
    assert report.summary() == (
        "10 of 16 rows at fault: 3 empty texts, 2 missing labels, 1 exact duplicates, "
        "2 normalised duplicates, 2 conflicting labels, 2 broken characters"
    )
    page = report.to_markdown()
    assert "| conflicting labels | 2 (15.4%) | 0 |" in page
    assert "| 4, 5 | 1 neg, 1 pos | battery died |" in page
    assert "| label neg | 5 (45.5%) | 2 (66.7%) |" in page
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["problems"] == 10
    assert plain["splits"][0]["findings"][0] == {
        "kind": "empty texts",
        "num_rows": 3,
        "share": 3 / 13,
        "examples": [
            {"rows": [1], "labels": ["pos"], "text": ""},
            {"rows": [6], "labels": [None], "text": " \t"},
            {"rows": [11], "labels": ["neg"], "text": ""},
        ],
    }


def test_a_text_cannot_change_the_page(make_splits: MakeSplits) -> None:
    nasty = "| <img src=x> `\n# title | *b* &amp; " + "x" * 500
    dataset = make_splits(train=[(nasty, "a|b"), (nasty, "a|b"), ("c", "d")])
    page = check_quality(dataset).to_markdown()
    (line,) = (line for line in page.splitlines() if "img" in line)
    assert line.startswith(r"| 0, 1 | 2 a\|b | \| \<img src=x\> \` \# title \| \*b\* \&amp; xxx")
    assert len(line) < 300


def test_good_rows_have_no_problems(make_splits: MakeSplits) -> None:
    report = check_quality(make_splits(train=GOOD))
    assert report.problems == 0
    assert report.summary() == "nothing wrong with 3 rows"


def test_cleaning_drops_faulty_rows_and_keeps_the_rest(make_splits: MakeSplits) -> None:
    dataset, cleaning = clean(make_splits(train=FAULTY, validation=GOOD))
    assert dataset["train"]["row"][:] == [0, 8, 9, 10, 12]
    assert dataset["validation"]["row"][:] == [0, 1, 2]
    assert cleaning.dropped["train"] == {
        "empty texts": 3,
        "missing labels": 1,
        "conflicting labels": 2,
        "exact duplicates": 1,
        "normalised duplicates": 1,
    }
    assert cleaning.num_dropped == 8
    assert cleaning.summary().startswith("cleaning dropped 8 rows: 3 empty texts, 1 missing labels")
    report = check_quality(dataset)
    assert report.problems == findings(report)["broken characters"].num_rows == 2


def test_cleaning_good_rows_drops_none(make_splits: MakeSplits) -> None:
    dataset, cleaning = clean(make_splits(train=GOOD))
    assert len(dataset["train"]) == 3
    assert cleaning.summary() == "cleaning dropped no rows"


def test_cleaning_that_leaves_nothing_is_refused(make_splits: MakeSplits) -> None:
    dataset = make_splits(train=GOOD, test=[("same", "neg"), ("same", "pos")])
    with pytest.raises(
        InputError, match=r"checks\.quality=clean leaves no rows of test \(2 before"
    ):
        clean(dataset)


@pytest.mark.slow
def test_the_faults_of_the_tweets_are_those_that_are_known(tweets: DatasetDict) -> None:
    report = check_quality(tweets)
    found = {kind: finding.num_rows for kind, finding in findings(report).items()}
    assert found["exact duplicates"] == 915
    assert found["exact duplicates"] + found["normalised duplicates"] == 2_400
    assert found["broken characters"] == 4_934
    _, cleaning = clean(tweets)
    assert cleaning.num_dropped == 2_559
