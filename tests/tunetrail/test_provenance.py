"""Where a run came from."""

import subprocess
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from tunetrail import provenance


def split(texts: list[str], labels: list[int]) -> Dataset:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["a", "b"])})
    return Dataset.from_dict({"text": texts, "label": labels}, features=features)


def fingerprint(texts: list[str], labels: list[int]) -> str:
    return provenance.combine_fingerprints(
        provenance.fingerprint_data(DatasetDict({"train": split(texts, labels)}))
    )


def test_a_fingerprint_is_of_the_content_in_its_order() -> None:
    base = fingerprint(["one", "two"], [0, 1])
    assert base == fingerprint(["one", "two"], [0, 1])
    assert base != fingerprint(["two", "one"], [1, 0])
    assert base != fingerprint(["one", "two"], [1, 1])
    assert base != fingerprint(["onet", "wo"], [0, 1])


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, "-C", str(folder), *arguments], check=True, timeout=30)


def test_code_is_commit_and_uncommitted_changes(tmp_path: Path) -> None:
    assert provenance.describe_code(tmp_path).commit is None
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("x = 1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-qm", "one")
    clean = provenance.describe_code(tmp_path)
    assert clean.commit is not None
    assert len(clean.commit) == 40
    assert (clean.dirty, clean.diff) == (False, "")
    (tmp_path / "a.py").write_text("x = 2\n")
    dirty = provenance.describe_code(tmp_path)
    assert dirty.commit == clean.commit
    assert dirty.dirty
    assert "+x = 2" in dirty.diff


def test_packages_and_machine_are_named_exactly() -> None:
    assert "optuna==5.0.0" in provenance.list_packages()
    machine = provenance.describe_machine()
    assert machine["num_threads"] >= 1
    assert machine["python"].startswith("3.")
