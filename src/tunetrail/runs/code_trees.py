"""Compare the code of runs: recorded commits with their patches, and the present files.

The code of a run is ``src``, ``conf`` and ``train.py``. A commit that changes only tests or docs is
the same code.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tunetrail.config.git import Git
from tunetrail.config.scratch import PREFIX, scratch
from tunetrail.errors import InputError
from tunetrail.tracking.provenance.code import UNNAMED

_MAKES_A_RUN = ("src", "conf", "train.py")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# Patches are applied with the line ends that they have.
_AS_IT_IS = ("--whitespace=nowarn", "-")


class CodeTrees:
    """Trees of code to compare; :func:`open_trees` opens them.

    A tree is the id of git's tree object. It is None without git, if the commit is unknown here,
    or if its patch does not apply.
    """

    def __init__(self, git: Git) -> None:
        self._git = git
        self._is_checkout = _is_checkout(git)

    def present(self) -> str | None:
        """Make the tree of the present files, untracked ones included."""
        if not self._is_checkout or self._git.run("read-tree", "HEAD") is None:
            return None
        there = [name for name in _MAKES_A_RUN if (self._git.folder / name).exists()]
        if self._git.run("add", "-A", "--", *there) is None:
            return None
        return self._git.text("write-tree")

    def recorded(self, commit: str | None, patch: bytes) -> str | None:
        """Make the tree of a commit with a patch applied."""
        if not self._is_checkout or commit is None or not _COMMIT.fullmatch(commit):
            return None
        if self._git.run("read-tree", commit) is None:
            return None
        if patch and self._git.run("apply", "--cached", *_AS_IT_IS, given=patch) is None:
            return None
        return self._git.text("write-tree")

    def digest(self, tree: str | None) -> str | None:
        """Hash the code of a run in a tree: equal hashes mean equal code."""
        if tree is None:
            return None
        listed = self._git.text("ls-tree", "-r", tree, "--", *_MAKES_A_RUN)
        return None if listed is None else hashlib.sha256(listed.encode()).hexdigest()[:12]

    def changes(self, before: str, after: str) -> list[str]:
        """List what changed from one tree to another: ``src/tunetrail/training.py +3 -1``."""
        shown = self._git.text("diff", "--numstat", before, after, "--", *_MAKES_A_RUN) or ""
        rows = (line.split("\t", 2) for line in shown.splitlines())
        return [f"{path} +{added} -{removed}" for added, removed, path in rows]


@contextlib.contextmanager
def open_trees(repository: Path) -> Iterator[CodeTrees]:
    """Open the trees of a checkout; what git writes for them is deleted at the end."""
    known = Git(repository).text("rev-parse", "--git-path", "objects") or ""
    with scratch() as folder:
        objects = folder / "objects"
        objects.mkdir()
        environment = {
            "GIT_INDEX_FILE": str(folder / "index"),
            "GIT_OBJECT_DIRECTORY": str(objects),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(repository / known),
        }
        yield CodeTrees(Git(repository, environment))


@contextlib.contextmanager
def checked_out(repository: Path, *, commit: str | None, patch: bytes) -> Iterator[Path]:
    """Check out a recorded commit with its patch into a folder that is deleted afterwards.

    Raises:
        InputError: no commit was recorded, it is unknown here, or the patch does not apply.

    """
    if commit is None or not _COMMIT.fullmatch(commit):
        raise InputError("--checkout: the run recorded no commit; leave it out to run today's code")
    git = Git(repository)
    if not _is_checkout(git):
        raise InputError(f"--checkout: {repository} is no git checkout; leave it out")
    if git.run("cat-file", "-e", f"{commit}^{{commit}}") is None:
        raise InputError(f"--checkout: commit {commit[:12]} is unknown here; fetch it first")
    with scratch() as folder:
        _forget_deleted(git)
        tree = folder / "checkout"
        try:
            added = git.call("worktree", "add", "--detach", str(tree), commit)
            if added.returncode:
                raise InputError(f"--checkout: git worktree failed ({_last_line(added.stderr)})")
            applied = Git(tree).call("apply", *_AS_IT_IS, given=patch) if patch else added
            if applied.returncode:
                raise InputError(
                    "--checkout: the recorded diff.patch does not apply "
                    f"({_last_line(applied.stderr)}); leave --checkout out to run today's code"
                )
            yield tree
        finally:
            git.run("worktree", "remove", "--force", str(tree))


def _forget_deleted(git: Git) -> None:
    """Remove worktrees from git's list whose folders were left by a killed process."""
    listed = git.text("worktree", "list", "--porcelain") or ""
    for line in listed.splitlines():
        tree = Path(line.removeprefix("worktree "))
        if tree.parent.name.startswith(PREFIX) and not tree.exists():
            git.run("worktree", "remove", "--force", str(tree))


def list_patched(repository: Path, patch: bytes) -> list[str]:
    """List the files that a patch changes; none if it is no patch."""
    shown = Git(repository).text("apply", "--numstat", "-", given=patch) or ""
    return [row.split("\t", 2)[-1] for row in shown.splitlines()]


def list_code(paths: Iterable[str]) -> list[str]:
    """List those of some paths that are the code of a run."""
    # The last of many that were left out stands for those that are not named.
    return [path for path in paths if path == UNNAMED or path.split("/")[0] in _MAKES_A_RUN]


def _is_checkout(git: Git) -> bool:
    root = git.text("rev-parse", "--show-toplevel")
    return root is not None and Path(root).resolve() == git.folder.resolve()


def _last_line(output: bytes) -> str:
    return (os.fsdecode(output).strip().splitlines() or ["no message"])[-1]
