"""Every fault that was put in is counted, shown and dropped, and nothing else is."""

import json
from collections.abc import Callable

import pytest
from datasets import DatasetDict

from tunetrail.data.quality.check import check_quality
from tunetrail.data.quality.cleaning import clean
from tunetrail.data.quality.encodings import repair_text
from tunetrail.data.quality.report import Finding, QualityReport
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
        "misread encodings": 1,
        "broken characters": 1,
        "zero-width characters": 0,
        "nearly empty texts": 0,
        "near duplicates": 0,
        "texts in another script": 0,
        "texts in another language": 0,
    }
    assert not any(found.num_rows for found in findings(report, "validation").values())
    # Row 5 has two faults and row 6 too: each row counts once.
    assert report.problems == len({1, 2, 3, 4, 5, 6, 7, 9, 10, 11})
    assert findings(report)["empty texts"].share == pytest.approx(3 / 13)


def test_examples_point_at_the_rows_of_the_source(make_splits: MakeSplits) -> None:
    dataset = make_splits(train=FAULTY)
    found = findings(check_quality(dataset))
    (example,) = found["exact duplicates"].examples
    assert (example.rows, example.labels) == ((0, 2), {"pos": 2})
    (example,) = found["conflicting labels"].examples
    assert (example.rows, example.labels) == ((4, 5), {"neg": 1, "pos": 1})
    assert example.text == "battery died"
    later = findings(check_quality(DatasetDict({"train": dataset["train"].select([9, 10])})))
    assert [one.rows for one in later["broken characters"].examples] == [(9,)]
    assert [one.rows for one in later["misread encodings"].examples] == [(10,)]


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
    ("text", "repaired"),
    [
        ("it\u00e2\u20ac\u2122s", "it\u2019s"),
        ("it\x92s", "it\u2019s"),
        ("ð\u0178\u02dc€", "😀"),
        ("Â£5 at 25Â°C", "£5 at 25°C"),
        ("CAFÃ‰ e cafÃ©", "CAFÉ e café"),
        ("Ã€ vous", "À vous"),
        ("voilÃ\xa0", "voilà"),
        ("naÃƒÂ¯ve", "naïve"),
        ("ÐŸÑ€Ð¸Ð²ÐµÑ‚", "Привет"),
        ("don‚Äôt", "don\u2019t"),
        ("ä½\xa0å¥½", "你好"),
        ("caf\ufffd Ã©", "caf\ufffd é"),
        *(
            (text, text)
            for text in (
                "lost \ufffd and \u2019",
                "A IRMÔ disse: “AMANHÃ…” É NÃO, MAÇÃ\u2013",
                "IRMÃ” e AMANHÃ\xa0CEDO, MANHÃ— NHÂ…",
                "tab\tand\r\nline &amp; ﬁ “quoted”",
                "É»«Ça va», ÃO, São, Âme",
                "😀 \u2018quoted\u2019 \u2013 £5 €",
                "👩\u200d👩 नमस्ते \u200fعربي",
            )
        ),
    ],
)
def test_only_a_misread_encoding_is_repaired(
    make_splits: MakeSplits, text: str, repaired: str
) -> None:
    assert repair_text(text) == repaired
    found = findings(check_quality(make_splits(train=[(text, "a"), ("b c", "b")])))
    assert found["misread encodings"].num_rows == int(text != repaired)
    assert found["broken characters"].num_rows == int("\ufffd" in text)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("lost \ufffd", "broken characters"),
        ("bell \x07", "broken characters"),
        ("private \ue30d", "broken characters"),
        ("pass\u200bword", "zero-width characters"),
        ("soft\xadly", "zero-width characters"),
        ("no \u202eesrever", "zero-width characters"),
        ("@someone http://t.co/x", "nearly empty texts"),
        ("?!", "nearly empty texts"),
        ("a", "nearly empty texts"),
        ("x @someone", "nearly empty texts"),
    ],
)
def test_each_kind_of_odd_text_is_found(make_splits: MakeSplits, text: str, kind: str) -> None:
    found = findings(check_quality(make_splits(train=[(text, "a"), ("good one", "b")])))
    assert [name for name, finding in found.items() if finding.num_rows] == [kind]


@pytest.mark.parametrize("text", ["ok", ":)", "$5", "我很好", "👩\u200d👩 में \u200f عربي"])
def test_short_and_unusual_texts_are_not_odd(make_splits: MakeSplits, text: str) -> None:
    found = findings(check_quality(make_splits(train=[(text, "a"), ("good one", "b")])))
    assert not any(finding.num_rows for finding in found.values())


def test_the_report_reads_well(make_splits: MakeSplits) -> None:
    report = check_quality(make_splits(train=FAULTY, validation=GOOD))
    assert report.summary() == (
        "10 of 16 rows at fault: 3 empty texts, 2 missing labels, 1 exact duplicates, "
        "2 normalised duplicates, 2 conflicting labels, 1 misread encodings, 1 broken characters"
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
            {"rows": [1], "num_rows": 1, "labels": {"pos": 1}, "text": "", "note": ""},
            {"rows": [6], "num_rows": 1, "labels": {"none": 1}, "text": " \t", "note": ""},
            {"rows": [11], "num_rows": 1, "labels": {"neg": 1}, "text": "", "note": ""},
        ],
        "is_remark": False,
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
    # Rows as they were read are repaired before; these were not.
    assert report.problems == 2


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
