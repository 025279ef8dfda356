"""What ``tunetrail predict`` writes, with a real run, its registry name and an export."""

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from command_line import give_stdin, predict
from mlflow.tracking import MlflowClient
from toys import Store, make_rows

from tunetrail.data.tables import rows as table_rows
from tunetrail.data.tables.files import open_table
from tunetrail.data.tables.reading import Reading
from tunetrail.data.tables.rows import Row
from tunetrail.served.text_classification import ServedModel

LABELS = ["negative", "neutral", "positive"]
ADDED = ["prediction", "confidence", *(f"probability_{name}" for name in LABELS)]


def validation(store: Store) -> pd.DataFrame:
    client = MlflowClient(f"sqlite:///{store.folder}/mlruns/mlflow.db")
    path = client.download_artifacts(store.run_id, "predictions/validation.parquet")
    return pd.read_parquet(path)


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


def test_the_first_line_of_excel_is_passed_over_and_written_again(here: Store) -> None:
    Path("in.csv").write_text("sep=;\nid;text\n1;a good, good day\n")
    assert predict("tiny", "--input", "in.csv", "--output", "out.csv") == 0
    first, header, row = Path("out.csv").read_text().splitlines()
    assert (first, header) == ("sep=;", ";".join(["id", "text", *ADDED]))
    assert row.startswith("1;a good, good day;")
    # A table that is read again.
    assert predict("tiny", "--input", "out.csv", "--output", "again.csv", "--prefix", "x_") == 0


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
