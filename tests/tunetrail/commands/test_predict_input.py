"""What ``tunetrail predict`` does not answer: bad rows, and what is refused in one line."""

import gzip
import io
import json
import os
import re
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from command_line import give_stdin, predict
from toys import Store

from tunetrail.data.tables.files import open_table
from tunetrail.data.tables.rows import BadRow

# Bad rows


def test_bad_rows_of_csv_are_named_by_the_line_they_begin_in(
    here: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.csv").write_bytes(
        b'text,id\n"two\nlines, good",1\n"never closed,2\nfine,3\nonly one\n\nx,y,z\n'
        b'"a ""quote""",5\nbad \xff,6\n  ,7\nnul\0,8\n"late, 9\nlast,10\n'
    )
    assert predict("tiny", "--input", "in.csv") == 3
    said = capsys.readouterr()
    assert [row["id"] for row in pd.read_csv(io.StringIO(said.out)).to_dict("records")] == [
        1, 3, 5, 10,
    ]  # fmt: skip
    assert re.findall(r"line (\d+): (.*)", said.err) == [
        ("4", "its quotes do not pair up (',' expected after '\"')"),
        ("6", '1 fields where the header has 2 (a text that holds the separator needs "quotes")'),
        ("8", '3 fields where the header has 2 (a text that holds the separator needs "quotes")'),
        ("10", "bytes that are not utf-8"),
        ("11", "the text is empty"),
        ("12", "the text holds a NUL character"),
        ("13", "its quotes do not pair up (unexpected end of data)"),
    ]


def test_rows_that_a_quote_joins_are_named(here: Store, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"{number},a good day" for number in range(2, 32)]
    lines[20] = '22,"Shopping\n1,milk\n2,eggs"'
    Path("in.csv").write_text("\n".join(["id,text", *lines]))
    assert predict("tiny", "--input", "in.csv", "--output", "out.csv") == 0
    lines[9], lines[14] = '11,"a good day', '16,days 2"'
    Path("in.csv").write_text("\n".join(["id,text", *lines]))
    assert predict("tiny", "--input", "in.csv", "--output", "out.csv") == 3
    assert len(pd.read_csv("out.csv")) == 25
    said = capsys.readouterr().err
    assert "1 of 25 rows seem to be several, with one answer:\n  line 11: a quote opens " in said
    assert "closes in line 16, and all of these lines would be rows, with '11' as 'id'" in said


def test_bad_rows_of_json_lines_are_named_by_their_lines(
    here: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        b'{"text": "a good day"}', b"", b"[1]", b'{"text": 5}', b"nonsense", b'{"body": "x"}',
        b'{"text": null}', b'{"text": NaN}', b'{"text": "\\ud800"}', b'{"text": "\xff"}',
        b'{"text": "x", "confidence": 1}', b'{"text": ' + b"[" * 100_000, b'{"text": "last"}',
    ]  # fmt: skip
    Path("in.jsonl").write_bytes(b"\n".join(lines))
    assert predict("tiny", "--input", "in.jsonl") == 3
    said = capsys.readouterr()
    assert [json.loads(line)["text"] for line in said.out.splitlines()] == ["a good day", "last"]
    named = dict(re.findall(r"line (\d+): (.*)", said.err))
    assert list(map(int, named)) == [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    assert named["3"] == "no JSON object but list"
    assert named["4"] == "the value of 'text' is no text but int"
    assert named["5"] == "no JSON: Expecting value at column 1"
    assert named["6"] == "no key 'text' (found: body)"
    assert named["7"] == "no value in 'text'"
    assert named["11"] == "has a key 'confidence' already"


def test_bad_rows_of_parquet_are_named_by_their_numbers(
    here: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = pa.array([b"fine", b"\xff"]).cast(pa.binary())
    texts = pa.StringArray.from_buffers(2, *broken.buffers()[1:])
    table = pa.table({"text": pa.concat_arrays([pa.array([None, " ", "good"]), texts])})
    pq.write_table(table, "in.parquet")
    assert predict("tiny", "--input", "in.parquet", "--output", "out.parquet") == 3
    assert pq.read_table("out.parquet")["text"].to_pylist() == ["good", "fine"]
    assert re.findall(r"row (\d+): (.*)", capsys.readouterr().err) == [
        ("1", "no value in 'text'"),
        ("2", "the text is empty"),
        ("5", "bytes that are not UTF-8"),
    ]


def test_the_first_bad_rows_are_named_and_the_others_counted(
    here: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.txt").write_text("\n" * 50 + "good\n")
    assert predict("tiny", "--input", "in.txt", "--output", "out.tsv") == 3
    said = capsys.readouterr().err
    assert "50 of 51 rows have no answer and are left out:" in said
    assert len(re.findall(r"line \d+:", said)) == 20
    assert said.endswith("  and 30 more\n")


def test_a_quote_that_is_never_closed_loses_one_line_of_a_long_file(here: Store) -> None:
    lines = [f"good {n},{n}" for n in range(60_000)]
    lines[10] = '"' + lines[10]
    Path("in.csv").write_text("\n".join(["text,id", *lines]))
    with open_table(Path("in.csv"), "csv", name="in.csv") as reader:
        rows = list(reader)
    assert [row.number for row in rows if isinstance(row, BadRow)] == [12]
    assert [row.number for row in rows] == list(range(2, 60_002))


def test_a_line_that_is_too_long_is_skipped(
    here: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tunetrail.data.tables.lines.MAX_LINE_CHARACTERS", 1 << 20)
    for kind, row in (("txt", "{}"), ("csv", "{}"), ("jsonl", '{{"text": "{}"}}')):
        header = "text\n" if kind == "csv" else ""
        lines = [row.format(text) for text in ("good", "x" * (3 << 20), "bad")]
        Path(f"in.{kind}").write_text(header + "\n".join(lines))
        assert predict("tiny", "--input", f"in.{kind}") == 3
        said = capsys.readouterr()
        assert "the line is longer than 1,048,576 characters" in said.err
        assert len(said.out.splitlines()) == (2 if kind == "jsonl" else 3)


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--input", "in.csv"], "TEXT and --input exclude each other"),
        (["x", "--format", "csv"], "TEXT needs none"),
        (["--input", "in.parquet"], "give --output FILE.parquet"),
        (["x", "--batch-tokens", "0"], "must be a whole number of 1 or more"),
        (["x", "--batch-tokens", "many"], "must be a whole number of 1 or more"),
        (["x", "--device", "tpu"], "invalid choice: 'tpu'"),
        (["--format", "parquet"], "invalid choice: 'parquet'"),
    ],
)
def test_a_wrong_command_line_is_reported(
    here: Store, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        predict("tiny", *arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_without_input_it_does_not_wait_for_a_terminal(
    here: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give_stdin(monkeypatch, b"")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    with pytest.raises(SystemExit):
        predict("tiny")
    assert "give TEXT, or --input FILE, or texts on stdin" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "no.csv"], "no.csv: no such file"),
        (["--input", "folder.csv"], "folder.csv: that is a directory"),
        (["--input", "in.xlsx"], "in.xlsx: .xlsx is not a format that is read"),
        (["--input", "in.parquet.gz"], "in.parquet.gz: .parquet.gz is not a format that is read"),
        (
            ["--input", "empty.csv"],
            "empty.csv: the file is empty; its first line must name the columns",
        ),
        (["--input", "wide.csv"], "wide.csv: the file is UTF-16, not utf-8; convert it"),
        (["--input", "cut.csv.gz"], "cut.csv.gz: cannot be read to its end"),
        (["--input", "no.csv.gz"], "no.csv.gz: it is no gzip file; give it a name without .gz"),
        (["--input", "latin.csv"], "latin.csv: its header is not utf-8"),
        (["--input", "quote.csv"], "quote.csv: its header cannot be read"),
        (["--input", "semicolon.csv"], "'id;text'; give --delimiter ';' (where it is one name,"),
        (["--input", "in.iob", "--delimiter", ";;"], "--delimiter ';;': must be one character"),
        (
            ["--input", "twice.csv"],
            "twice.csv: no column 'text' (found: text (column 1), text (column 2))",
        ),
        (
            ["--input", "in.csv", "--text-column", "body"],
            "in.csv: no column 'body' (found: text, id); give --text-column",
        ),
        (["--input", "done.csv"], "done.csv: there is a column 'prediction' already"),
        (["--input", "done.jsonl"], "done.jsonl: there is a column 'confidence' already"),
        (
            ["--input", "done.parquet", "--output", "o.parquet"],
            "done.parquet: there is a column 'probability_neutral' already",
        ),
        (
            ["--input", "no.parquet", "--output", "o.parquet"],
            "no.parquet: no Parquet file that can be read",
        ),
        (
            ["--input", "done.parquet", "--output", "o.parquet", "--text-column", "id"],
            "done.parquet: column 'id' holds int64, no text",
        ),
        (["--input", "in.iob"], "in.iob: column 'tokens' holds list of tokens, no text"),
        (
            ["--input", "done.parquet", "--output", "o.parquet", "--text-column", "body"],
            "done.parquet: no column 'body' (found: text, id, probability_neutral)",
        ),
        (["--input", "in.csv", "--output", "in.csv"], "that is the input, still being read"),
        (["--input", "in.csv", "--output", "link.csv"], "that is the input, still being read"),
        (["--input", "in.csv", "--output", "o.jsonl"], "answers to csv are written as csv"),
        (["x", "--output", "o.csv"], "give a name that ends in .tsv"),
        (["x", "--output", "no/o.tsv"], "there is no folder no; make it first"),
        (["x", "--output", "folder.tsv"], "folder.tsv: that is no regular file"),
    ],
)
def test_what_cannot_be_read_or_written_is_one_line(
    here: Store, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.csv").write_text("text,id\ngood,1\n")
    Path("link.csv").symlink_to("in.csv")
    Path("folder.csv").mkdir()
    Path("folder.tsv").mkdir()
    Path("empty.csv").touch()
    Path("wide.csv").write_text("text\ngood\n", "utf-16")
    Path("latin.csv").write_text("text,größe\ngood,1\n", "latin-1")
    Path("quote.csv").write_text('text,"id\ngood,1\n')
    Path("semicolon.csv").write_text("id;text\n1;a\n")
    Path("twice.csv").write_text("text,text\na,b\n")
    Path("cut.csv.gz").write_bytes(gzip.compress(b"text\n" + os.urandom(9000).hex().encode())[:99])
    Path("no.csv.gz").write_text("text\ngood\n")
    Path("done.csv").write_text("text,prediction\ngood,x\n")
    Path("done.jsonl").write_text('{"text": "good", "confidence": 1}\n')
    pq.write_table(
        pa.table({"text": ["a"], "id": [1], "probability_neutral": [0.5]}), "done.parquet"
    )
    Path("no.parquet").write_text("nonsense")
    Path("in.iob").write_text("good O\n")
    before = sorted(Path().iterdir())
    assert predict("tiny", *arguments) == 1
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert sorted(Path().iterdir()) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_an_error(here: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("tiny", "x", "--device", "cuda") == 1
    assert "--device cuda: no GPU was found; use auto or cpu" in capsys.readouterr().err
