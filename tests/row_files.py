"""The same rows in files of every format, with what is hard to read back."""

import json
from pathlib import Path

from datasets import Dataset

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


def as_json_lines(path: Path) -> None:
    lines = [json.dumps({"text": text, "label": label}) for text, label in ROWS]
    path.write_text("\n".join(lines) + "\n")


def as_parquet(path: Path) -> None:
    texts, labels = zip(*ROWS, strict=True)
    Dataset.from_dict({"text": texts, "label": labels}).to_parquet(path)
