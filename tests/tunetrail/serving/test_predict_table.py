"""Any served model answers any table: texts or tokens in, lists out."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunetrail.data.tables.files import open_output, open_table
from tunetrail.data.tables.formats import find_format
from tunetrail.data.tables.plain import ArgumentReader
from tunetrail.serving.predict import PredictionReport, predict_table


class Counter:
    """Finds the words that begin with a capital letter."""

    inputs = {"text": ("text", "tokens")}  # noqa: RUF012
    no_answer = "the tokenizer makes no token of the text"
    columns = {"names": "json", "share": "float", "kind": "string"}  # noqa: RUF012

    def answer(self, inputs: Sequence[Any]) -> list[dict[str, Any] | None]:
        return [self._answer(value) for value in inputs]

    def _answer(self, value: str | list[str]) -> dict[str, Any] | None:
        words = value.split() if isinstance(value, str) else value
        names = [{"name": word, "score": np.float32(0.1)} for word in words if word.istitle()]
        if words == ["nothing"]:
            return None
        share = np.float32(len(names) / len(words))
        return {"names": names, "share": share, "kind": type(value).__name__}


def answer(source: Path, target: Path, column: str | None = None) -> PredictionReport:
    kind = find_format(source, name="in")
    with (
        open_table(source, kind, name="in") as reader,
        open_output(target, format_name=kind) as file,
    ):
        return predict_table(
            reader,
            file,
            Counter(),
            column_names={} if column is None else {"text": column},
            prefix="a_",
            show_progress=False,
        )


NAMES = [[{"name": "Ann", "score": 0.1}], []]


def test_tokens_of_conll_come_out_as_json_lines(tmp_path: Path) -> None:
    (tmp_path / "in.conll").write_text("Ann B-x\nwent O\n\nnothing O\n\nshe O\n \nonly\n")
    report = answer(tmp_path / "in.conll", tmp_path / "out.jsonl")
    assert (report.num_rows, report.num_bad) == (4, 2)
    assert [row.number for row in report.named] == [4, 8]
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert rows == [
        {
            "tokens": ["Ann", "went"],
            "tags": ["B-x", "O"],
            "a_names": NAMES[0],
            "a_share": 0.5,
            "a_kind": "list",
        },
        {"tokens": ["she"], "tags": ["O"], "a_names": [], "a_share": 0.0, "a_kind": "list"},
    ]


def test_a_cell_holds_lists_as_json(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\nAnn went\nshe\n")
    answer(tmp_path / "in.csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines() == [
        "text,a_names,a_share,a_kind",
        'Ann went,"[{""name"": ""Ann"", ""score"": 0.1}]",0.5,str',
        "she,[],0.0,str",
    ]


@pytest.mark.parametrize("name", ["in.parquet", "in.json", "in.jsonl"])
def test_a_column_of_lists_is_read_where_it_is_named(tmp_path: Path, name: str) -> None:
    values = [["Ann", "went"], ["she"], [], ["a", ""], None, ["it was", "Ann"]]
    table = pa.table({"words": values})
    rows = table.to_pylist()
    if name.endswith("parquet"):
        pq.write_table(table, tmp_path / name)
    else:
        lines = "\n".join(map(json.dumps, rows))
        (tmp_path / name).write_text(lines if name.endswith("l") else json.dumps(rows))
    target = tmp_path / f"out{Path(name).suffix}"
    report = answer(tmp_path / name, target, column="words")
    assert [(row.number, row.cause) for row in report.named] == [
        (3, "the list of tokens is empty"),
        (4, "the token '' is empty or holds a space"),
        (5, "no value in 'words'"),
        (6, "the token 'it was' is empty or holds a space"),
    ]
    if name.endswith("parquet"):
        found = pq.read_table(target).to_pylist()
        assert [json.loads(row["a_names"]) for row in found] == NAMES
    else:
        text = target.read_text()
        found = (
            [json.loads(line) for line in text.splitlines()]
            if name[-1] == "l"
            else json.loads(text)
        )
        assert [row["a_names"] for row in found] == NAMES
    assert [row["words"] for row in found] == values[:2]


def test_what_a_list_holds_beside_texts_is_named(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"words": ["a", 1]}\n{"words": [null]}\n{"words": 2}\n')
    report = answer(tmp_path / "in.jsonl", tmp_path / "out.jsonl", column="words")
    assert [row.cause for row in report.named] == [
        "the list in 'words' holds int, not only text",
        "the list in 'words' holds NoneType, not only text",
        "the value of 'words' is no text or list of tokens but int",
    ]


def test_a_person_sees_lists_as_json() -> None:
    file = io.StringIO()
    reader = ArgumentReader(["Ann went", "she"], for_screen=True)
    predict_table(reader, file, Counter(), column_names={}, prefix="", show_progress=False)
    header, first, _ = file.getvalue().splitlines()
    assert header.split() == ["names", "share", "kind", "text"]
    assert first == '[{"name": "Ann", "score": 0.1}]  0.5000  str   Ann went'
