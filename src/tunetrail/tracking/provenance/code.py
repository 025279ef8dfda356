"""The code of a run: a commit, and a patch with the uncommitted changes.

The patch has changed tracked files and untracked source files. ``git apply`` must restore the same
code from it, so it has the bytes that git wrote. It must have no secret: a file with one is left
out whole, with the reason.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from tunetrail.config.git import Git
from tunetrail.config.scratch import scratch
from tunetrail.config.secrets import redact
from tunetrail.tracking.provenance.leaks import holds_secret

# Limit of the patch of one file, and of an untracked file.
MAX_BYTES = 1 << 20
# Limit of the list of files that were left out.
MAX_NAMED = 200
UNNAMED = "…"

_SOURCE_SUFFIXES = frozenset((
    ".py", ".pyi", ".pyx", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".rs", ".go", ".js",
    ".ts", ".sh", ".bash", ".sql", ".proto", ".jinja", ".j2", ".yaml", ".yml", ".toml", ".cfg",
    ".ini", ".json", ".md", ".rst", ".ipynb", ".mk", ".cmake", ".css", ".html",
))  # fmt: skip
_SOURCE_NAMES = frozenset(["Makefile", "Dockerfile", "LICENSE", ".gitignore", ".gitattributes"])
_SECRET_NAMES = (
    ".env*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.asc",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*credential*", "*secrets.*", "secret.*",
    "*password*", ".netrc", "_netrc", ".npmrc", ".pypirc", ".pgpass", ".htpasswd",
    "*kubeconfig*", ".git-credentials", ".dockercfg", "*service_account*.json", "token", "token.*",
    ".my.cnf", "auth.json", "*.ppk", "*.ovpn", "*.tfvars", "*.tfstate",
)  # fmt: skip
# Source code is no secret because of its name: config/secrets.py is none.
_CODE_SUFFIXES = (".py", ".pyi", ".md", ".rst")

# The same output whatever the user's settings are.
_DIFF = ("diff", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", "--no-relative",
         "--ignore-submodules=none")  # fmt: skip
_PATCH = (*_DIFF, "--full-index", "--src-prefix=a/", "--dst-prefix=b/", "--unified=3",
          "--inter-hunk-context=0")  # fmt: skip
_SUBMODULE, _UNMERGED = b"160000", b"U"


@dataclass(frozen=True)
class LeftOut:
    """A changed file that is not in the patch."""

    path: str
    reason: str


@dataclass(frozen=True)
class Code:
    """The code of a run. ``commit`` is None outside of a checkout and before its first commit.

    ``diff`` is a patch for ``git apply`` on ``commit``; ``patched`` are the paths in it.
    """

    commit: str | None
    branch: str | None
    dirty: bool
    diff: bytes
    patched: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


_UNKNOWN = Code(commit=None, branch=None, dirty=False, diff=b"", patched=(), left_out=())


def describe_code(folder: Path) -> Code:
    """Read commit, branch and uncommitted changes of the checkout around a folder.

    Nothing in the checkout is changed, not even its index.
    """
    git = Git(folder)
    commit = git.text("rev-parse", "--verify", "HEAD")
    root = git.text("rev-parse", "--show-toplevel")
    # A virtual environment inside of another project's checkout is ignored there.
    if commit is None or root is None or git.run("check-ignore", "-q", ".") is not None:
        return _UNKNOWN
    with scratch() as own:
        index = _copy_index(git, own)
        # Paths are no patterns.
        environment = {"GIT_INDEX_FILE": str(index), "GIT_LITERAL_PATHSPECS": "1"}
        checkout = Git(Path(root), environment)
        return _describe(checkout, commit)


def _describe(git: Git, commit: str) -> Code:
    left_out, sections, patched = [], [], []
    untracked, refused = _sort_untracked(git)
    left_out += refused
    if untracked:
        names = b"\0".join(os.fsencode(path) for path in untracked)
        # -N writes nothing to the checkout's object store.
        git.run("add", "-N", "--pathspec-from-file=-", "--pathspec-file-nul", given=names)
    for path, status, modes in _list_changes(git, commit):
        reason, section = _refuse(path, status, modes), None
        if reason is None:
            section = git.run(*_PATCH, "--binary", commit, "--", path)
            reason = _refuse_content(git, commit, path, section)
        if reason is not None:
            left_out.append(LeftOut(path, reason))
        elif section:
            sections.append(section)
            patched.append(path)
    return Code(
        commit=commit,
        branch=git.text("rev-parse", "--abbrev-ref", "HEAD"),
        dirty=bool(patched or left_out),
        diff=b"".join(sections),
        patched=tuple(patched),
        left_out=_shorten(sorted(left_out, key=lambda file: file.path)),
    )


def _list_changes(git: Git, commit: str) -> Iterator[tuple[str, bytes, tuple[bytes, bytes]]]:
    """List what differs from the commit in the working tree: path, status, modes."""
    # Pairs of ":OLDMODE NEWMODE OLDHASH NEWHASH STATUS" and path, each ended by a zero byte.
    fields = (git.run(*_DIFF, "--raw", "-z", commit, "--") or b"").split(b"\0")
    for head, path in zip(fields[::2], fields[1::2], strict=False):
        old, new, _, _, status = head.removeprefix(b":").split(b" ")
        yield os.fsdecode(path), status, (old, new)


def _sort_untracked(git: Git) -> tuple[list[str], list[LeftOut]]:
    """Sort untracked files into those for the patch and those that are left out."""
    listed = (git.run("ls-files", "--others", "--exclude-standard", "-z") or b"").split(b"\0")
    wanted, refused = [], []
    for path in map(os.fsdecode, filter(None, listed)):
        reason = _refuse_untracked(git.folder / path, path)
        if reason is None:
            wanted.append(path)
        else:
            refused.append(LeftOut(path, reason))
    return wanted, refused


def _refuse_untracked(file: Path, path: str) -> str | None:
    name = PurePosixPath(path)
    if path.endswith("/"):
        return "a separate git repository"
    if _is_secret_name(path):
        return "its name is that of a file with secrets"
    if name.suffix.lower() not in _SOURCE_SUFFIXES and name.name not in _SOURCE_NAMES:
        return "untracked and no source code"
    return _refuse_file(file)


def _refuse_file(file: Path) -> str | None:
    """Check an untracked file before git reads it."""
    try:
        found = file.lstat()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if found.st_size > MAX_BYTES:
        return f"larger than {MAX_BYTES} bytes"
    if stat.S_ISREG(found.st_mode) and not os.access(file, os.R_OK):
        return "cannot be read"
    return None


def _refuse(path: str, status: bytes, modes: tuple[bytes, bytes]) -> str | None:
    if _SUBMODULE in modes:
        return "a submodule: its changes are in a separate git repository"
    if status == _UNMERGED:
        return "an unfinished merge"
    if _is_secret_name(path):
        return "its name is that of a file with secrets"
    return None


def _refuse_content(git: Git, commit: str, path: str, section: bytes | None) -> str | None:
    if section is None:
        return "git could not compare it"
    if len(section) > MAX_BYTES:
        return f"its change is larger than {MAX_BYTES} bytes"
    shown, is_binary = section, b"\nGIT binary patch\n" in section
    if is_binary and b"\nnew file mode" in section:
        return "a new binary file"
    if is_binary:
        # The patch has it compressed: look at the text.
        shown = git.run(*_PATCH, "--text", commit, "--", path) or b""
    # UTF-16 has zero bytes between its letters.
    text = shown.replace(b"\0", b"").decode("utf-8", "replace")
    lines = (line[1:] if line[:1] in ("+", "-", " ") else line for line in text.split("\n"))
    if holds_secret(path, "\n".join(lines)) or redact(path) != path:
        return "its change has what looks like a secret"
    return None


def _is_secret_name(path: str) -> bool:
    name = PurePosixPath(path).name.lower()
    if name.endswith(_CODE_SUFFIXES):
        return False
    return any(fnmatch(name, pattern) for pattern in _SECRET_NAMES)


def _shorten(files: list[LeftOut]) -> tuple[LeftOut, ...]:
    if len(files) <= MAX_NAMED:
        return tuple(files)
    rest = LeftOut(UNNAMED, f"and {len(files) - MAX_NAMED} more")
    return (*files[:MAX_NAMED], rest)


def _copy_index(git: Git, folder: Path) -> Path:
    """Copy the checkout's index, with which git knows unchanged files without reading them.

    The copy keeps its time: git compares it with the times of files that have just been written.
    """
    target = folder / "index"
    found = git.text("rev-parse", "--git-path", "index")
    if found is not None and (source := git.folder / found).is_file():
        shutil.copy2(source, target)
    return target
