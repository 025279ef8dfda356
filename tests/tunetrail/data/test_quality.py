"""Every fault that was put in is counted, shown and dropped, and nothing else is."""

import json
import time
from collections.abc import Callable

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from toys import canonical

from tunetrail.data.prepare import load_splits
from tunetrail.data.quality.check import check_quality
from tunetrail.data.quality.cleaning import clean
from tunetrail.data.quality.encodings import repair, repair_text
from tunetrail.data.quality.labels import find_alike
from tunetrail.data.quality.lengths import measure_tokens
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
        ("ÐŸÑ€\u00d0\u00b8Ð²ÐµÑ\u201a", "Привет"),
        ("don\u201aÄôt", "don\u2019t"),
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


def test_cleaning_repairs_encodings_before_it_looks_for_duplicates() -> None:
    """A text and its misread copy are the same; what is lost stays lost."""
    texts = ["café closed", "cafÃ© closed", "caf\ufffd shut", "naÃ¯ve \ufffd", "plain"]
    rows = DatasetDict(
        {
            "train": Dataset.from_dict({"text": texts, "label": [*"aabbb"]}),
            "validation": Dataset.from_dict({"text": ["good"], "label": ["a"]}),
        }
    )
    given = {
        "canonicalise": canonical, "text_columns": ["text", "none"], "validation_fraction": None,
        "test_fraction": None, "seed": 0, "clean_leakage": False,
    }  # fmt: skip
    whole = load_splits(rows, clean_quality=True, **given)
    assert whole.dataset["train"]["text"][:] == [texts[0], texts[2], "naïve \ufffd", "plain"]
    assert whole.notes[0] == (
        "cleaning dropped 1 rows: 1 exact duplicates; it repaired the encoding of 2 rows"
    )
    report = check_quality(whole.dataset, whole.cleaning)
    assert findings(report)["misread encodings"].num_rows == 0
    assert findings(report)["broken characters"].num_rows == 2
    page = report.to_markdown()
    assert "| train | 1 | cafÃ© closed | café closed |" in page
    assert report.to_dict()["cleaning"]["repaired"]["train"]["num_rows"] == 2
    kept = load_splits(rows, clean_quality=False, **given)
    assert kept.dataset["train"]["text"][:] == texts
    (example, _) = findings(check_quality(kept.dataset))["misread encodings"].examples
    assert (example.text, example.note) == ("cafÃ© closed", "café closed")


def test_words_in_a_list_are_repaired_one_by_one() -> None:
    rows = Dataset.from_dict({"tokens": [["cafÃ©", "ok"], None, ["ok"]], "tags": [["O"]] * 3})
    repaired, report = repair(DatasetDict({"train": rows}), ["tokens", "tags"])
    assert repaired["train"]["tokens"][:] == [["café", "ok"], None, ["ok"]]
    assert repaired["train"].features == rows.features
    assert (report["train"].num_rows, report["train"].shown[0].after) == (1, "café ok")


def test_near_duplicates_are_counted_once_and_not_called_wrong(make_splits: MakeSplits) -> None:
    text = "I would buy this wonderful phone again at any time of the year"
    rows = [(text, "a"), (f"RT {text}", "a"), (text.upper(), "a"), ("other", "b")]
    report = check_quality(make_splits(train=rows))
    found = findings(report)
    assert found["normalised duplicates"].num_rows == found["near duplicates"].num_rows == 1
    assert found["near duplicates"].examples[0].rows == (0, 1)
    assert report.problems == 1
    assert report.summary().endswith("1 normalised duplicates; to look at: 1 near duplicates")


@pytest.mark.parametrize(
    ("texts", "kind", "rows", "note"),
    [
        (["Это другой язык"], "script", [40], "CYRILLIC"),
        (["これは日本語です", "你"], "script", [40, 41], "CHINESE OR JAPANESE"),
        (["Привет dear friends of mine", "naïve café"], "script", [], ""),
        (["Je ne sais pas quoi faire ce soir, et toi ?"], "language", [40], "fr"),
        (["Das ist ein kurzer Satz über das Wetter"], "language", [40], "de"),
        (["lol omg iphone", "iPhone 6 Plus unboxing video review now", "ok"], "language", [], ""),
    ],
)
def test_texts_in_another_script_or_language_are_named(
    make_splits: MakeSplits, texts: list[str], kind: str, rows: list[int], note: str
) -> None:
    english = [f"This is the sentence number {i} about the weather in town" for i in range(40)]
    dataset = make_splits(train=[(text, "ab"[i % 2]) for i, text in enumerate(english + texts)])
    found = findings(check_quality(dataset))[f"texts in another {kind}"]
    assert [one.rows[0] for one in found.examples] == rows
    assert {one.note for one in found.examples} == ({note} if note else set())


def test_a_split_in_two_languages_has_no_main_one(make_splits: MakeSplits) -> None:
    french = [f"Je ne sais pas quoi faire ce soir avec les {i} amis" for i in range(20)]
    english = [f"I do not know what to do tonight with the {i} friends" for i in range(30)]
    dataset = make_splits(train=[(text, "ab"[i % 2]) for i, text in enumerate(english + french)])
    assert findings(check_quality(dataset))["texts in another language"].num_rows == 0


@pytest.mark.parametrize(
    ("labels", "alike"),
    [
        (["positive", "postive", "negative"], [("postive", "positive")]),
        (["sci-fi", "Sci Fi", "drama"], [("Sci Fi", "sci-fi")]),
        (["café", "cafe"], [("cafe", "café")]),
        (["recieve", "receive"], [("receive", "recieve")]),
        (["level 1", "level 2", "level 12"], []),
        (["typical", "atypical", "cat", "car", "angry", "anger", "+", "-"], []),
        (["entailment", "contradiction", "neutral"], []),
    ],
)
def test_labels_that_differ_in_their_spelling_only_are_named(
    labels: list[str], alike: list[tuple[str, str]]
) -> None:
    counts = dict.fromkeys(labels, 10) | dict.fromkeys([one for one, _ in alike], 1)
    found = find_alike(counts)
    assert [(one.label, one.other) for one in found] == alike


def test_alike_labels_are_said_and_shown(make_splits: MakeSplits) -> None:
    report = check_quality(make_splits(train=[("a b", "angry"), ("b c", "angry"), ("d", "angy")]))
    assert report.alike_line() == (
        "labels 'angy' (1) and 'angry' (2) differ in their spelling only; are they one label?"
    )
    assert "| angy | 1 | angry | 2 |" in report.to_markdown()


def test_the_balance_of_labels_is_measured(make_splits: MakeSplits) -> None:
    rows: list[Row] = [(f"text {i}", "b" if i < 20 else "a") for i in range(24)]
    (train,) = check_quality(make_splits(train=rows)).splits
    assert train.balance is not None
    assert (train.balance.ratio, train.balance.num_few, train.balance.num_labels) == (5, 1, 2)
    assert (
        "| balance: most to least frequent | 5 to 1 |"
        in check_quality(make_splits(train=rows)).to_markdown()
    )


def test_tokens_are_measured_before_they_are_cut(make_splits: MakeSplits) -> None:
    tokens = measure_tokens(
        np.array([0, 1, 1, 3]), np.array([5, 8, 8, 8]), np.array([0, 0, 0, 20]), num_rows=4
    )
    assert (tokens.tokens.minimum, tokens.tokens.maximum, tokens.num_inputs) == (5, 28, 4)
    assert (tokens.num_cut_rows, tokens.num_windowed_rows, tokens.num_left_out) == (1, 1, 1)
    assert (tokens.cut_rows_share, tokens.cut_tokens_share) == (1 / 4, 20 / 49)
    report = check_quality(make_splits(train=GOOD)).with_tokens({"train": tokens})
    assert "| rows that are cut | 1 (25.0%) |" in report.to_markdown()


@pytest.mark.parametrize(
    "rows",
    [
        [("one row", "a")],
        [(f"the same label {i}", "a") for i in range(30)],
        [("", "a"), (" ", "b"), ("\u200b", "a")],
        [(f"text {i}", f"label {i} " + "long " * 100) for i in range(400)],
        [("word " * 200_000, "a"), ("Ã©" * 500_000, "b"), ("x" * 1_000_000, "a")],
        [("same text", f"{i}") for i in range(2_000)],
    ],
    ids=["one row", "one label", "empty", "400 long labels", "megabytes", "conflicts"],
)
def test_reports_are_bounded_whatever_the_data(make_splits: MakeSplits, rows: list[Row]) -> None:
    begin = time.perf_counter()
    report = check_quality(make_splits(train=rows))
    assert len(report.to_markdown()) < 60_000
    assert len(json.dumps(report.to_dict())) < 250_000
    assert report.section().title == "Data quality"
    assert time.perf_counter() - begin < 5


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
