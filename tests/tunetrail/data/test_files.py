"""Rows of a file are read as they were written, in every format."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from row_files import ROWS, as_csv, as_data_field, as_json, as_json_lines, as_parquet

from tunetrail.data.sources import load_files
from tunetrail.errors import InputError


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
