"""Where a run came from."""

import hashlib
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict
from toys import canonical

from tunetrail.models.fingerprint import fingerprint_weights
from tunetrail.tracking.provenance.code import MAX_BYTES, MAX_NAMED, Code, describe_code
from tunetrail.tracking.provenance.fingerprints import (
    combine_fingerprints,
    fingerprint_data,
)
from tunetrail.tracking.provenance.machine import describe_machine, list_packages

# Put together here, so that no scanner takes this file for a leak.
TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz012345"


def split(texts: list[str], labels: list[int]) -> Dataset:
    rows = Dataset.from_dict({"text": texts, "label": labels}).cast_column(
        "label", ClassLabel(names=["a", "b"])
    )
    return canonical(DatasetDict({"train": rows}))["train"]


def fingerprint(texts: list[str], labels: list[int]) -> str:
    return combine_fingerprints(fingerprint_data(DatasetDict({"train": split(texts, labels)})))


def test_a_fingerprint_is_of_the_content_in_its_order() -> None:
    base = fingerprint(["one", "two"], [0, 1])
    assert base == fingerprint(["one", "two"], [0, 1])
    assert base != fingerprint(["two", "one"], [1, 0])
    assert base != fingerprint(["one", "two"], [1, 0])
    assert base != fingerprint(["onet", "wo"], [0, 1])


def generators() -> list[object]:
    numpy_state = np.random.get_state()[1].tolist()  # noqa: NPY002 - the one that a run seeds
    return [random.getstate(), numpy_state, torch.get_rng_state().tolist()]


def test_a_model_is_known_by_the_bits_of_its_weights() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    state = generators()
    base = fingerprint_weights(model)
    assert base == fingerprint_weights(model)
    assert generators() == state
    with torch.no_grad():
        model[0].bias[1] = torch.nextafter(model[0].bias[1], torch.tensor(9.0))
    assert base != fingerprint_weights(model)
    assert len(fingerprint_weights(model.bfloat16())) == 64


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", *identity, "-C", str(folder), *arguments],
        check=True,
        timeout=30,
        capture_output=True,
        text=True,
    )
    return done.stdout


def commit_all(folder: Path) -> None:
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-qm", "one")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "src").mkdir(parents=True)
    git(folder, "init", "-qb", "main")
    (folder / "src" / "a.py").write_text("x = 1\n")
    (folder / "b.py").write_text("".join(f"line {n}\n" for n in range(30)))
    (folder / "gone.py").write_text("y = 1\n")
    (folder / "run.sh").write_text("echo\n")
    (folder / "bits.bin").write_bytes(bytes(range(256)))
    (folder / ".gitignore").write_text("ignored/\n")
    commit_all(folder)
    return folder


def snapshot(folder: Path) -> Iterator[tuple[str, bytes, int]]:
    for path in sorted(folder.rglob("*")):
        if ".git" not in path.relative_to(folder).parts and (path.is_symlink() or path.is_file()):
            content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
            mode = path.lstat().st_mode & 0o100 if not path.is_symlink() else 0
            yield str(path.relative_to(folder)), content, mode


def objects_of(folder: Path) -> set[str]:
    found = (folder / ".git" / "objects").glob("??/*")
    return {path.parent.name + path.name for path in found}


def rebuild(checkout: Path, code: Code, target: Path) -> Path:
    """Do what a rerun does: the commit in a folder of its own, and the patch on it."""
    assert code.commit is not None
    git(checkout, "worktree", "add", "-q", "--detach", str(target), code.commit)
    patch = target.parent / "diff.patch"
    patch.write_bytes(code.diff)
    git(target, "apply", "--binary", "--whitespace=nowarn", str(patch))
    return target


def test_a_clean_checkout_is_its_commit(checkout: Path, tmp_path: Path) -> None:
    code = describe_code(checkout / "src")
    assert code.commit == git(checkout, "rev-parse", "HEAD").strip()
    assert (code.branch, code.dirty, code.diff) == ("main", False, b"")
    assert (code.patched, code.left_out) == ((), ())


def test_outside_of_a_checkout_there_is_no_commit(checkout: Path, tmp_path: Path) -> None:
    assert describe_code(tmp_path).commit is None
    # as a virtual environment in a checkout is
    (checkout / "ignored").mkdir()
    assert describe_code(checkout / "ignored").commit is None
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    assert describe_code(empty).commit is None


def change_everything(folder: Path) -> None:
    (folder / "src" / "a.py").write_bytes(b"x = 2  \r\n# \xe9 is latin-1\n\n\n")
    lines = (folder / "b.py").read_text().replace("line 3\n", "line three\n")
    (folder / "b.py").write_text(lines.replace("line 25\n", "") + "no newline at the end")
    (folder / "gone.py").unlink()
    (folder / "run.sh").chmod(0o755)
    (folder / "bits.bin").write_bytes(bytes(reversed(range(256))))
    (folder / "staged.py").write_text("z = 1\n")
    git(folder, "add", "staged.py")
    (folder / "staged.py").write_text("z = 2\n")
    (folder / "new folder").mkdir()
    (folder / "new folder" / 'größe "x".py').write_text("w = 1\n")
    (folder / "empty.py").write_text("")
    (folder / "link.py").symlink_to("b.py")


def test_the_patch_restores_every_change(checkout: Path, tmp_path: Path) -> None:
    """Edited, deleted, new, binary, staged, made executable; odd names; no newline at the end."""
    change_everything(checkout)
    index = (checkout / ".git" / "index").read_bytes()
    objects = objects_of(checkout)
    code = describe_code(checkout)
    assert (checkout / ".git" / "index").read_bytes() == index
    # git adds the object of an empty file, and nothing of ours
    assert objects_of(checkout) - objects <= {"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"}
    assert code.dirty
    assert code.left_out == ()
    assert set(code.patched) == {
        "src/a.py", "b.py", "gone.py", "run.sh", "bits.bin", "staged.py", "empty.py", "link.py",
        'new folder/größe "x".py',
    }  # fmt: skip
    rebuilt = rebuild(checkout, code, tmp_path / "rebuilt")
    assert list(snapshot(rebuilt)) == list(snapshot(checkout))


def test_settings_of_the_user_do_not_change_the_patch(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_everything(checkout)
    straight = describe_code(checkout)
    settings = {
        "diff.external": "echo external", "diff.noprefix": "true", "diff.mnemonicPrefix": "true",
        "color.ui": "always", "color.diff": "always", "core.quotePath": "false",
        "diff.context": "0", "diff.interHunkContext": "9", "diff.renames": "copies",
        "diff.relative": "true", "diff.submodule": "log", "diff.suppressBlankEmpty": "true",
        "diff.algorithm": "patience", "diff.autoRefreshIndex": "false", "core.pager": "false",
    }  # fmt: skip
    for name, value in settings.items():
        git(checkout, "config", name, value)
    (tmp_path / "order").write_text("z*\n")
    git(checkout, "config", "diff.orderFile", str(tmp_path / "order"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "echo external")
    monkeypatch.setenv("GIT_DIFF_OPTS", "-u0")
    # as inside a git hook
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other-index"))
    assert describe_code(checkout / "src") == straight
    assert not (tmp_path / "other-index").exists()


def test_secrets_large_files_and_data_are_left_out_with_the_reason(
    checkout: Path, tmp_path: Path
) -> None:
    (checkout / "settings.yaml").write_text("a: 1\n")
    (checkout / "certificate.pem").write_text("old\n")
    (checkout / "blob.dat").write_bytes(b"\0\1old")
    commit_all(checkout)
    (checkout / "settings.yaml").write_text(f"a: 1\nhub: {TOKEN}\n")  # tracked, with a token
    (checkout / "certificate.pem").write_text("new\n")
    (checkout / "blob.dat").write_bytes(b"\0\1" + TOKEN.encode())
    (checkout / ".env").write_text(f"HF_TOKEN={TOKEN}\n")
    (checkout / "aws_credentials.json").write_text("{}")
    (checkout / "client.py").write_text('URL = "https://me:hunter2@host"\n')
    (checkout / "wide.py").write_bytes(f"token = '{TOKEN}'\n".encode("utf-16"))
    (checkout / "rows.csv").write_text("a,b\n")
    (checkout / "large.py").write_text("#" * (MAX_BYTES + 1))
    (checkout / "b.py").write_text("# much\n" * MAX_BYTES)
    (checkout / "fine.py").write_text("import os\n\ntoken = os.environ['HF_TOKEN']\n")
    nested = checkout / "nested"
    nested.mkdir()
    git(nested, "init", "-q")
    (nested / "c.py").write_text("c = 1\n")
    code = describe_code(checkout)
    assert code.patched == ("fine.py",)
    reasons = {file.path: file.reason for file in code.left_out}
    expected = {
        ".env": "its name",
        "aws_credentials.json": "its name",
        "b.py": f"its change is larger than {MAX_BYTES} bytes",
        "blob.dat": "a secret",
        "certificate.pem": "its name",
        "client.py": "a secret",
        "large.py": f"larger than {MAX_BYTES} bytes",
        "nested/": "repository",
        "rows.csv": "untracked",
        "settings.yaml": "a secret",
        "wide.py": "binary",
    }
    assert reasons.keys() == expected.keys()
    assert {path: word for path, word in expected.items() if word not in reasons[path]} == {}
    assert TOKEN.encode() not in code.diff
    rebuild(checkout, code, tmp_path / "rebuilt")
    # git's own store has nothing of it either
    content = f"HF_TOKEN={TOKEN}\n".encode()
    blob = hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()
    assert blob not in objects_of(checkout)


def test_changes_of_a_submodule_are_named_as_left_out(checkout: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    (inner / "i.py").write_text("i = 1\n")
    commit_all(inner)
    git(checkout, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "sub")
    commit_all(checkout)
    assert not describe_code(checkout).dirty
    (checkout / "sub" / "i.py").write_text("i = 2\n")
    code = describe_code(checkout)
    assert code.dirty
    assert [(file.path, file.reason.split(":")[0]) for file in code.left_out] == [
        ("sub", "a submodule")
    ]


def test_many_files_that_are_left_out_are_counted(checkout: Path) -> None:
    for number in range(MAX_NAMED + 5):
        (checkout / f"{number}.csv").write_text("")
    left_out = describe_code(checkout).left_out
    assert len(left_out) == MAX_NAMED + 1
    assert left_out[-1].reason == "and 5 more"


def test_packages_and_machine_are_named_exactly() -> None:
    assert "optuna==5.0.0" in list_packages()
    machine = describe_machine()
    assert machine["num_threads"] >= 1
    assert machine["num_interop_threads"] >= 1
    assert machine["python"].startswith("3.")
    assert machine["deterministic"]["algorithms"] is False
    if not machine["gpus"]:
        assert machine["driver"] is None
