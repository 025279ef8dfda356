"""Code as git knows it: recorded commits with their patch, beside what stands here now.

What is looked at is what a run is made by: ``src``, ``conf`` and ``train.py``. A commit that
changes only tests or pages is the same code.
"""

import contextlib
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from tunetrail.config.environment import read_environment
from tunetrail.errors import InputError

_MAKES_A_RUN = ("src", "conf", "train.py")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# What a process that git itself started would inherit, and take another repository for this one.
_REPOSITORY_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")
# A checkout of the store's choosing must not start programs of this repository.
_NO_HOOKS = ("-c", "core.hooksPath=/dev/null")


class CodeTrees:
    """Trees of code, to be compared; what git writes for that goes away with it.

    Use as a context. A tree is the id of git's tree object, or None where it cannot be known: no
    git, no such commit here, a patch that does not apply.
    """

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._folder = Path(self._exit.enter_context(tempfile.TemporaryDirectory()))
        (self._folder / "objects").mkdir()
        objects = _run_git(self._repository, "rev-parse", "--git-path", "objects").stdout.strip()
        self._environment = {
            "GIT_INDEX_FILE": str(self._folder / "index"),
            "GIT_OBJECT_DIRECTORY": str(self._folder / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(self._repository / objects),
        }
        self._is_checkout = _is_checkout(self._repository)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._exit.close()

    def present(self) -> str | None:
        """Make the tree of what stands here now, files that git does not know yet included."""
        if not self._is_checkout or self._git("read-tree", "HEAD") is None:
            return None
        there = [name for name in _MAKES_A_RUN if (self._repository / name).exists()]
        return self._git("write-tree") if self._git("add", "-A", "--", *there) is not None else None

    def recorded(self, commit: str | None, patch: bytes) -> str | None:
        """Make the tree of a commit with a patch applied."""
        if not self._is_checkout or commit is None or not _COMMIT.fullmatch(commit):
            return None
        if self._git("read-tree", commit) is None:
            return None
        if (
            patch
            and self._git("apply", "--cached", "--whitespace=nowarn", "-", given=patch) is None
        ):
            return None
        return self._git("write-tree")

    def digest(self, tree: str | None) -> str | None:
        """Name the part of a tree that makes a run: equal names, equal code."""
        listed = None if tree is None else self._git("ls-tree", "-r", tree, "--", *_MAKES_A_RUN)
        return None if listed is None else hashlib.sha256(listed.encode()).hexdigest()[:12]

    def changes(self, before: str, after: str) -> list[str]:
        """List what changed from one tree to another: ``src/tunetrail/training.py +3 -1``."""
        shown = self._git("diff", "--numstat", before, after, "--", *_MAKES_A_RUN) or ""
        rows = (line.split("\t", 2) for line in shown.splitlines())
        return [f"{path} +{added} -{removed}" for added, removed, path in rows]

    def _git(self, *arguments: str, given: bytes = b"") -> str | None:
        done = _run_git(self._repository, *arguments, given=given, environment=self._environment)
        return None if done.returncode else done.stdout.strip()


@contextlib.contextmanager
def checked_out(repository: Path, *, commit: str | None, patch: bytes) -> Iterator[Path]:
    """Check a recorded commit out, with its patch, into a folder that goes away afterwards.

    Raises:
        InputError: no commit was recorded, it is not known here, or the patch does not apply.

    """
    if commit is None or not _COMMIT.fullmatch(commit):
        raise InputError("--checkout: the run recorded no commit; leave it out to run today's code")
    if not _is_checkout(repository):
        raise InputError(f"--checkout: {repository} is no git checkout; leave it out")
    if _run_git(repository, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise InputError(f"--checkout: commit {commit[:12]} is not known here; fetch it first")
    with tempfile.TemporaryDirectory(prefix="tunetrail-") as folder:
        tree = Path(folder) / "checkout"
        try:
            added = _run_git(
                repository, *_NO_HOOKS, "worktree", "add", "--detach", str(tree), commit
            )
            if added.returncode:
                raise InputError(f"--checkout: git worktree failed ({_last_line(added.stderr)})")
            if patch:
                _apply(tree, patch)
            yield tree
        finally:
            _run_git(repository, "worktree", "remove", "--force", str(tree))


def list_patched(repository: Path, patch: bytes) -> list[str]:
    """List the files that a patch touches; nothing where it is none."""
    rows = _run_git(repository, "apply", "--numstat", "-", given=patch).stdout.splitlines()
    return [row.split("\t", 2)[-1] for row in rows]


def _apply(tree: Path, patch: bytes) -> None:
    done = _run_git(tree, "apply", "--whitespace=nowarn", "-", given=patch)
    if done.returncode:
        raise InputError(
            f"--checkout: the recorded diff.patch does not apply ({_last_line(done.stderr)}); "
            "leave --checkout out to run today's code"
        )


def _is_checkout(repository: Path) -> bool:
    found = _run_git(repository, "rev-parse", "--show-toplevel")
    return not found.returncode and Path(found.stdout.strip()).resolve() == repository.resolve()


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]


def _run_git(
    folder: Path,
    *arguments: str,
    given: bytes = b"",
    environment: Mapping[str, str] | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run git on bytes: a patch is what files hold, in whatever encoding and with their ends."""
    inherited = {k: v for k, v in read_environment().items() if k not in _REPOSITORY_VARIABLES}
    # Names of files are shown: whatever bytes they are, in ASCII.
    command = ["git", "-C", str(folder), "-c", "core.quotePath=true", *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - no shell; commits are checked to be hexadecimal
            command,
            input=given,
            env={**inherited, **(environment or {})},
            capture_output=True,
            check=False,
        )
    except OSError as error:  # no git on this machine
        return subprocess.CompletedProcess(command, 127, "", str(error))
    out, err = os.fsdecode(done.stdout), os.fsdecode(done.stderr)
    return subprocess.CompletedProcess(command, done.returncode, out, err)
