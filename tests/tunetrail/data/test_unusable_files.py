"""A file that cannot be used is refused in one line; texts that only look joined are read."""

import csv
import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from row_files import as_csv

from tunetrail.data.sources import load_files
from tunetrail.data.tables.files import load_table
from tunetrail.errors import InputError


def as_csv_of(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


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
