"""What ``tunetrail predict`` writes, with a real run, its registry name and an export.

Most tests run the command in this process; those about pipes and memory as one of its own.
"""

import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import warm
from mlflow.tracking import MlflowClient
from toys import Store, make_rows
from warm import Warm

from tunetrail.__main__ import main
from tunetrail.data.tables import rows as table_rows
from tunetrail.data.tables.files import open_table
from tunetrail.data.tables.reading import Reading
from tunetrail.data.tables.rows import BadRow, Row
from tunetrail.served.text_classification import ServedModel

TUNETRAIL = [sys.executable, "-m", "tunetrail"]
LABELS = ["negative", "neutral", "positive"]
ADDED = ["prediction", "confidence", *(f"probability_{name}" for name in LABELS)]


def predict(*arguments: object) -> int:
    return main(["predict", *map(str, arguments)])


def give_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def validation(store: Store) -> pd.DataFrame:
    client = MlflowClient(f"sqlite:///{store.folder}/mlruns/mlflow.db")
    path = client.download_artifacts(store.run_id, "predictions/validation.parquet")
    return pd.read_parquet(path)


# What is answered


@pytest.mark.parametrize("name", ["tiny", "tiny@champion", "models:/tiny/1", "run", "exported"])
def test_every_way_to_name_a_model_gives_the_labels_of_its_evaluation(
    here: Store, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = {"run": here.run_id, "exported": here.exported}.get(name, name)
    validation(here)[["text", "target"]].to_csv("in.csv", index=False)
    assert predict(model, "--input", "in.csv", "--batch-tokens", 100) == 0
    answers = pd.read_csv(io.StringIO(capsys.readouterr().out))
    recorded = validation(here)
    assert list(answers) == ["text", "target", *ADDED]
    assert list(answers["text"]) == list(recorded["text"])
    assert list(answers["prediction"]) == list(recorded["prediction"])
    for column in ADDED[1:]:
        assert answers[column].to_numpy() == pytest.approx(recorded[column].to_numpy(), abs=1e-6)


def test_arguments_come_out_as_tab_separated_lines(
    here: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict("tiny", "a good day", "sad\tand bad") == 0
    said = capsys.readouterr()
    header, first, second = said.out.splitlines()
    assert header.split("\t") == ["text", *ADDED]
    assert first.startswith("a good day\t")
    assert second.startswith('"sad\tand bad"\t')
    assert said.err == ""


def test_on_a_terminal_arguments_come_out_as_a_table(
    here: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert predict("tiny", "a good\nday", "long " * 100) == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["prediction", "confidence", *LABELS, "text"]
    assert first.endswith("  a good day")
    assert len(second) < 120
    assert re.fullmatch(r"(\w+) +(0\.\d{4}) +(0\.\d{4}) +(0\.\d{4}) +(0\.\d{4})  a good day", first)


@pytest.mark.parametrize(
    "kind", ["csv", "tsv", "json", "jsonl", "ndjson", "parquet", "csv.gz", "json.gz", "jsonl.gz"]
)
def test_the_same_format_comes_out_with_all_columns(here: Store, kind: str) -> None:
    frame = pd.DataFrame(make_rows(20, seed=5), columns=["text", "label_given"])
    frame["id"] = range(20)
    source, target = Path(f"in.{kind}"), Path(f"out.{kind}")
    write = {
        "csv": lambda: frame.to_csv(source, index=False),
        "tsv": lambda: frame.to_csv(source, index=False, sep="\t"),
        "json": lambda: frame.to_json(source, orient="records"),
        "jsonl": lambda: frame.to_json(source, orient="records", lines=True),
        "ndjson": lambda: frame.to_json(source, orient="records", lines=True),
        "parquet": lambda: frame.to_parquet(source),
    }
    write[kind.split(".", maxsplit=1)[0]]()
    assert predict("tiny", "--input", source, "--output", target) == 0
    read = {
        "csv": lambda: pd.read_csv(target),
        "tsv": lambda: pd.read_csv(target, sep="\t"),
        "json": lambda: pd.read_json(target),
        "jsonl": lambda: pd.read_json(target, lines=True),
        "ndjson": lambda: pd.read_json(target, lines=True),
        "parquet": lambda: pd.read_parquet(target),
    }
    answers = read[kind.split(".", maxsplit=1)[0]]()
    pd.testing.assert_frame_equal(answers[list(frame)], frame)
    assert list(answers) == [*frame, *ADDED]
    assert answers[ADDED[2:]].sum(axis=1).to_numpy() == pytest.approx(1.0)
    assert [path.name for path in Path().iterdir() if path.name.startswith(".")] == []


def test_a_prefix_makes_room_for_columns_that_are_there(here: Store) -> None:
    Path("in.csv").write_text("text,confidence\na day,0.5\n")
    options = ("--output", "out.csv", "--prefix", "model_")
    assert predict("tiny", "--input", "in.csv", *options) == 0
    answers = pd.read_csv("out.csv")
    assert list(answers) == ["text", "confidence", *(f"model_{name}" for name in ADDED)]
    assert list(answers["confidence"]) == [0.5]


def test_values_of_json_stay_as_they_were_written(
    here: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = '{"text":"a day", "n": 1.10, "big": 1e400, "s": "\\u00e9"}'
    give_stdin(monkeypatch, f"{row}\r\n".encode())
    assert predict("tiny", "--format", "jsonl") == 0
    out = capsys.readouterr().out
    assert out.startswith(f'{row[:-1]}, "prediction":')
    assert json.loads(out)["prediction"] in LABELS


def test_json_comes_out_as_a_list(
    here: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": text, "n": {"é": [1.5, None]}} for text in ("a day", "another")]
    lines = "\n".join(map(json.dumps, rows))
    for content in (json.dumps(rows), json.dumps({"n": 1, "data": rows}), lines):
        give_stdin(monkeypatch, content.encode())
        assert predict("tiny", "--format", "json") == 0
        answers = json.loads(capsys.readouterr().out)
        assert [{name: row[name] for name in ("text", "n")} for row in answers] == rows
        assert [row["prediction"] in LABELS for row in answers] == [True, True]


def test_the_types_of_parquet_stay(here: Store) -> None:
    table = pa.table(
        {
            "body": pa.array(["a day", "bad"]).dictionary_encode(),
            "at": pa.array([1, 2], pa.timestamp("us", "UTC")),
            "tags": pa.array([["x"], []], pa.list_(pa.string())),
        }
    )
    pq.write_table(table, "in.parquet")
    options = ("--output", "out.parquet", "--text-column", "body")
    assert predict("tiny", "--input", "in.parquet", *options) == 0
    answers = pq.read_table("out.parquet")
    assert answers.select(table.column_names).equals(table)
    assert answers.schema.field("confidence").type == pa.float32()


def test_stdin_is_a_text_a_line(
    here: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give_stdin(monkeypatch, "\ufeffa good day\r\n\nça va\n\xff\n".encode() + b"\xff\xfe\n")
    assert predict("tiny") == 3
    said = capsys.readouterr()
    assert [line.split("\t")[0] for line in said.out.splitlines()] == [
        "text", "a good day", "ça va", "ÿ",
    ]  # fmt: skip
    assert "2 of 5 rows have no answer" in said.err
    assert "line 2: the text is empty" in said.err
    assert "line 5: bytes that are not utf-8" in said.err


def test_an_empty_table_gives_an_empty_table(here: Store) -> None:
    Path("in.csv").write_text("id,text\n")
    assert predict("tiny", "--input", "in.csv", "--output", "out.csv") == 0
    assert Path("out.csv").read_text() == ",".join(["id", "text", *ADDED]) + "\n"
    Path("in.json").write_text('{"data": []}')
    assert predict("tiny", "--input", "in.json", "--output", "out.json") == 0
    assert json.loads(Path("out.json").read_text()) == []
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), "in.parquet")
    assert predict("tiny", "--input", "in.parquet", "--output", "out.parquet") == 0
    assert pq.read_table("out.parquet").column_names == ["text", *ADDED]


def test_rows_come_back_in_their_order_from_windows_of_any_size(
    here: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.dumps({"text": "good " * (1 + n % 40) + str(n), "n": n}) for n in range(200)]
    Path("in.jsonl").write_text("\n".join(lines))
    assert predict("tiny", "--input", "in.jsonl", "--output", "whole.jsonl") == 0
    monkeypatch.setattr(table_rows, "WINDOW_ROWS", 7)
    monkeypatch.setattr(table_rows, "WINDOW_CHARACTERS", 300)
    options = ("--output", "parts.jsonl", "--batch-tokens", "1")
    assert predict("tiny", "--input", "in.jsonl", *options) == 0
    whole, parts = (pd.read_json(name, lines=True) for name in ("whole.jsonl", "parts.jsonl"))
    assert list(whole["n"]) == list(parts["n"]) == list(range(200))
    assert list(whole["prediction"]) == list(parts["prediction"])
    difference = whole[ADDED[1:]].to_numpy() - parts[ADDED[1:]].to_numpy()
    assert np.abs(difference).max() < 1e-6


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


def test_other_forms_of_csv_are_read_and_written_again(here: Store) -> None:
    Path("in.csv").write_bytes('id;text\n1;"a \\"good\\" café; \\d"\n'.encode("latin-1"))
    form = ("--delimiter", ";", "--escaped-quotes")
    assert predict("tiny", "--input", "in.csv", "--output", "out.csv", *form) == 3
    form = (*form, "--encoding", "latin-1")
    assert predict("tiny", "--input", "in.csv", "--output", "out.csv", *form) == 0
    reading = Reading(delimiter=";", escaped_quotes=True)
    with open_table(Path("out.csv"), "csv", name="out.csv", reading=reading) as reader:
        (row,) = reader
    assert reader.header == ["id", "text", *ADDED]
    assert isinstance(row, Row)
    assert row.kept[1] == 'a "good" café; \\d'


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


def test_the_first_line_of_excel_is_passed_over_and_written_again(here: Store) -> None:
    Path("in.csv").write_text("sep=;\nid;text\n1;a good, good day\n")
    assert predict("tiny", "--input", "in.csv", "--output", "out.csv") == 0
    first, header, row = Path("out.csv").read_text().splitlines()
    assert (first, header) == ("sep=;", ";".join(["id", "text", *ADDED]))
    assert row.startswith("1;a good, good day;")
    # A table that is read again.
    assert predict("tiny", "--input", "out.csv", "--output", "again.csv", "--prefix", "x_") == 0


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


def test_a_full_gpu_halves_the_batches_and_continues(here: Store) -> None:
    classifier = ServedModel(here.exported, here.exported, max_length=64)
    texts = [f"good {'day ' * (n % 9)}" for n in range(40)]
    whole = pd.DataFrame(classifier.answer(texts))
    forward, sizes = classifier.model.forward, []

    def forward_of_a_small_gpu(input_ids: torch.Tensor, **rest: torch.Tensor) -> object:
        sizes.append(input_ids.shape[0])
        if input_ids.shape[0] > 6:
            raise torch.OutOfMemoryError
        return forward(input_ids=input_ids, **rest)

    classifier.model.forward = forward_of_a_small_gpu
    pd.testing.assert_frame_equal(pd.DataFrame(classifier.answer(texts)), whole, atol=1e-6)
    assert sizes[:4] == [40, 20, 10, 5]
    # what was too much once is not tried again
    sizes.clear()
    classifier.answer(texts)
    assert max(sizes) <= 12


# How it ends


@pytest.mark.slow
def test_a_closed_pipe_ends_it_quietly(here: Store) -> None:
    Path("in.txt").write_text("good day\n" * 20_000)
    with Warm(
        [*TUNETRAIL, "predict", here.exported, "--input", "in.txt"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"text\tprediction")
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


@pytest.mark.slow
def test_answers_that_find_no_space_end_in_one_line(here: Store) -> None:
    with Path("/dev/full").open("w") as full:
        done = warm.run(
            [*TUNETRAIL, "predict", here.exported, "good day"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.stderr == "error: stdout cannot be written: No space left on device\n"
    assert done.returncode == 1


@pytest.mark.slow
def test_an_interruption_leaves_the_old_file(here: Store) -> None:
    Path("in.txt").write_text("good day\n" * 300_000)
    Path("out.tsv").write_text("as it was")
    with Warm(
        [*TUNETRAIL, "predict", here.exported, "--input", "in.txt", "--output", "out.tsv"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        until = time.monotonic() + 60
        # Beside the file, in a folder of its own.
        while len(list(Path().rglob("out.tsv"))) == 1 and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.read().splitlines()[-1] == "interrupted; out.tsv is as it was"
        assert process.wait(timeout=60) == 130
    assert Path("out.tsv").read_text() == "as it was"
    assert list(Path().rglob("out.tsv")) == [Path("out.tsv")]


_MEASURED = """
import sys
from tunetrail.__main__ import main
assert main(sys.argv[1:]) == 0
# Not ru_maxrss, which begins with what the process that started this one had held.
status = open("/proc/self/status").read()
print(status.partition("VmHWM:")[2].split()[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_memory_does_not_grow_with_the_file(here: Store, kind: str) -> None:
    """Peak memory (600 MB of libraries) grows by less than the file."""
    peaks, sizes = [], []
    for num_rows in (10_000, 100_000):
        source = write_large(kind, num_rows)
        options = ["--input", str(source), "--output", f"out.{kind}"]
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED, "predict", str(here.exported), *options],
            capture_output=True,
            text=True,
            timeout=600,
            check=True,
        )
        peaks.append(int(done.stdout) / 1024)
        sizes.append(source.stat().st_size / 1024**2)
    assert sizes[1] > 150
    assert peaks[1] - peaks[0] < 60


def write_large(kind: str, num_rows: int) -> Path:
    """Write short texts beside notes of 1,600 characters: much to hold, little to classify."""
    path = Path(f"in-{num_rows}.{kind}")
    rows = ((f"good day {number}", os.urandom(800).hex()) for number in range(num_rows))
    if kind == "parquet":
        # One row group: the largest piece that a reader could be tempted to hold.
        texts, notes = zip(*rows, strict=True)
        table = pa.table({"text": texts, "notes": notes})
        pq.write_table(table, path, row_group_size=num_rows)
        return path
    with path.open("w") as file:
        if kind == "csv":
            file.write("text,notes\n")
        line = "{},{}\n" if kind == "csv" else '{{"text": "{}", "notes": "{}"}}\n'
        file.writelines(line.format(*row) for row in rows)
    return path
