"""Code as git trees: recorded commits with their patch, and the present code."""

import os
import subprocess
from pathlib import Path

import pytest

from tunetrail.errors import InputError
from tunetrail.runs.code_trees import checked_out, list_code, list_patched, open_trees
from tunetrail.tracking.provenance.code import UNNAMED, describe_code


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", *identity, "-C", str(folder), *arguments],
        check=True, timeout=30, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "src").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "src" / "a.py").write_text("x = 1\n")
    (folder / "README.md").write_text("one\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    return folder


def head(repository: Path) -> str:
    return git(repository, "rev-parse", "HEAD").strip()


def patch_of(repository: Path) -> bytes:
    return describe_code(repository).diff


def test_a_commit_with_its_patch_is_what_stands_there(repository: Path) -> None:
    before = head(repository)
    (repository / "src" / "a.py").write_text("x = 2\n")
    (repository / "src" / "b.py").write_text("y = 1\n")
    patch = patch_of(repository)
    objects = sorted(path.name for path in (repository / ".git" / "objects").rglob("*"))
    with open_trees(repository) as trees:
        clean, dirty, now = (
            trees.recorded(before, b""), trees.recorded(before, patch), trees.present(),
        )  # fmt: skip
        assert clean is not None
        assert dirty == now is not None
        assert trees.digest(clean) != trees.digest(now)
        assert trees.changes(clean, now) == ["src/a.py +1 -1", "src/b.py +1 -0"]
    # and nothing of it stays in the repository
    assert sorted(path.name for path in (repository / ".git" / "objects").rglob("*")) == objects
    assert git(repository, "status", "--porcelain").split() == ["M", "src/a.py", "??", "src/b.py"]


def test_commits_that_differ_in_other_files_are_the_same_code(repository: Path) -> None:
    before = head(repository)
    (repository / "README.md").write_text("two\n")
    git(repository, "commit", "-qam", "two")
    with open_trees(repository) as trees:
        first, second = trees.recorded(before, b""), trees.recorded(head(repository), b"")
        assert first != second
        assert trees.digest(first) == trees.digest(second) is not None


def test_code_that_cannot_be_known_is_none(repository: Path, tmp_path: Path) -> None:
    with open_trees(repository) as trees:
        for commit, patch in (("0" * 40, b""), ("--help", b""), (head(repository), b"no patch")):
            assert trees.recorded(commit, patch) is None
        assert trees.recorded(None, b"") is None
        assert trees.digest(None) is None
    (tmp_path / "plain").mkdir()
    with open_trees(tmp_path / "plain") as trees:
        assert trees.present() is None


def test_a_checkout_has_commit_and_patch_and_is_removed(repository: Path) -> None:
    before = head(repository)
    (repository / "src" / "a.py").write_text("x = 2\n")
    patch = patch_of(repository)
    assert list_patched(repository, patch) == ["src/a.py"]
    (repository / "src" / "a.py").write_text("x = 3\n")
    git(repository, "commit", "-qam", "three")
    with (
        pytest.raises(KeyboardInterrupt),
        checked_out(repository, commit=before, patch=patch) as tree,
    ):
        assert (tree / "src" / "a.py").read_text() == "x = 2\n"
        raise KeyboardInterrupt
    assert not tree.exists()
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_a_file_that_is_no_utf_8_comes_back_to_the_byte(repository: Path) -> None:
    """Latin-1, with the ends of lines of Windows, under a name that is no UTF-8 either."""
    before = head(repository)
    changed = b"x = 2\r\n# \xe9\r\n"
    (repository / "src" / "a.py").write_bytes(changed)
    odd = os.fsdecode(b"n\xe9.py")
    (repository / "src" / odd).write_bytes(changed)
    patch = patch_of(repository)
    git(repository, "config", "core.quotePath", "false")
    assert list_patched(repository, patch) == ["src/a.py", r'"src/n\351.py"']
    with open_trees(repository) as trees:
        recorded = trees.recorded(before, patch)
        assert recorded == trees.present() is not None
        clean = trees.recorded(before, b"")
        assert clean is not None
        assert trees.changes(clean, recorded) == ["src/a.py +2 -1", r'"src/n\351.py" +2 -0']
    with checked_out(repository, commit=before, patch=patch) as tree:
        assert (tree / "src" / "a.py").read_bytes() == changed
        assert (tree / "src" / odd).read_bytes() == changed


OUTSIDE = b"diff --git a/../../x b/../../x\n--- /dev/null\n+++ b/../../x\n@@ -0,0 +1 @@\n+x\n"


@pytest.mark.parametrize(
    ("commit", "patch", "message"),
    [
        (None, b"", "recorded no commit"),
        ("--force", b"", "recorded no commit"),
        ("0" * 40, b"", "0000 is unknown here"),
        ("HEAD", OUTSIDE, "does not apply"),
        ("HEAD", b"nonsense\n", "does not apply"),
    ],
)
def test_what_cannot_be_checked_out_is_one_line_and_leaves_nothing(
    repository: Path, commit: str | None, patch: bytes, message: str
) -> None:
    asked = head(repository) if commit == "HEAD" else commit
    with (
        pytest.raises(InputError, match=message) as caught,
        checked_out(repository, commit=asked, patch=patch),
    ):
        raise AssertionError
    assert "\n" not in str(caught.value)
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_only_what_makes_a_run_is_missed_of_what_was_left_out() -> None:
    left_out = [
        ".env",
        "notes.md",
        "rows.csv",
        "tests/src/a.py",
        "src/a.py",
        "conf/x.yaml",
        "train.py",
    ]
    assert list_code(left_out) == ["src/a.py", "conf/x.yaml", "train.py"]
    assert list_code([".env", UNNAMED]) == [UNNAMED]


def test_without_git_there_is_no_checkout(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="is no git checkout"),
        checked_out(tmp_path, commit="0" * 40, patch=b""),
    ):
        raise AssertionError


def test_a_checkout_runs_no_hooks(repository: Path, tmp_path: Path) -> None:
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    with checked_out(repository, commit=head(repository), patch=b""):
        pass
    assert not (tmp_path / "ran").exists()
