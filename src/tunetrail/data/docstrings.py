"""Questions about the documentation of installed packages, with answers that stand in it.

Docstrings in numpydoc's form are read with ``ast``: no package is imported. Each function gives a
context, its signature line and its sections of parameters and returned values as they are written,
and up to four questions about it.
"""

import ast
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from inspect import cleandoc
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features, List, Value

from tunetrail.errors import InputError

_SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}\s*$", re.MULTILINE)
_ENTRY = re.compile(r"^(\w+) : (.+)$")
_DEFAULT = re.compile(r"(?:default(?:s to|:| is|=)?|by default)\s*:?=?\s*([^\s,;()]+)")
_RETURNED = re.compile(r"^(?:\w+ : )?(\S.*)$")
# Longer contexts are left out: they would take most of the time of a training.
_MOST_CHARACTERS = 1_200
_PER_FUNCTION = 4
_SPLITS = (("test", 15), ("validation", 30), ("train", 100))
_FEATURES = Features(
    {
        "question": Value("string"),
        "context": Value("string"),
        "answers": {"text": List(Value("string")), "answer_start": List(Value("int64"))},
        "module": Value("string"),
    }
)


@dataclass(frozen=True)
class _Question:
    text: str
    answer: str
    start: int


def load_docstring_questions(*, distributions: Sequence[str]) -> DatasetDict:
    """Make questions from the docstrings of installed distributions, in three splits.

    All functions of a subpackage (``scipy.stats``) are in one split, chosen by a hash of its name:
    modules share paragraphs. The same context is used once.

    Raises:
        InputError: a distribution is not installed.

    """
    rows: dict[str, list[dict[str, Any]]] = {split: [] for split, _ in _SPLITS}
    checksums, seen = {}, set[str]()
    for name in distributions:
        folder, version = _locate(name)
        digest, num_bytes = hashlib.sha256(), 0
        for path in sorted(folder.rglob("*.py")):
            source = path.read_bytes()
            digest.update(source)
            num_bytes += len(source)
            parts = path.relative_to(folder.parent).with_suffix("").parts
            if any(part.startswith("_test") or part in ("tests", "conftest") for part in parts):
                continue
            package = ".".join(parts[:2])
            for function, context, questions in _read(source, ".".join(parts)):
                if context in seen:
                    continue
                seen.add(context)
                # Few parameters have a default. Which of the others is asked, their words decide.
                chosen = sorted(
                    questions,
                    key=lambda q: ("default" not in q.text, _hash(f"{function} {q.text}")),
                )
                rows[_choose_split(package)] += [
                    {
                        "question": question.text,
                        "context": context,
                        "answers": {"text": [question.answer], "answer_start": [question.start]},
                        "module": package,
                    }
                    for question in chosen[:_PER_FUNCTION]
                ]
        checksums[f"{name} {version}"] = {"checksum": digest.hexdigest(), "num_bytes": num_bytes}
    parts_read = DatasetDict()
    for split in (name for name in ("train", "validation", "test") if rows[name]):
        parts_read[split] = Dataset.from_list(rows[split], features=_FEATURES)
        parts_read[split].info.download_checksums = checksums
    return parts_read


def _locate(name: str) -> tuple[Path, str]:
    try:
        found = distribution(name)
    except PackageNotFoundError:
        raise InputError(
            f"data.distributions: {name} is not installed; run `make setup`, or leave it out"
        ) from None
    folder = {"scikit-learn": "sklearn"}.get(name, name)
    return Path(str(found.locate_file(folder))), found.version


def _choose_split(package: str) -> str:
    place = _hash(package) % 100
    return next(split for split, below in _SPLITS if place < below)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def _read(source: bytes, module: str) -> Iterator[tuple[str, str, list[_Question]]]:
    """Give name, context and questions of each function and class that has some."""
    if b"Parameters\n" not in source:
        return
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        docstring = ast.get_docstring(node, clean=False)
        context = None if docstring is None else _cut_context(cleandoc(docstring))
        if context is None or len(context) > _MOST_CHARACTERS:
            continue
        if questions := list(_ask(node.name, context)):
            yield f"{module}.{node.name}", context, questions


def _cut_context(docstring: str) -> str | None:
    """Keep the summary and the sections of parameters and results; None without parameters."""
    heads = list(_SECTION.finditer(docstring))
    if not heads:
        return None
    parts = [docstring[: heads[0].start()].split("\n\n", maxsplit=1)[0].strip()]
    ends = [*(head.start() for head in heads[1:]), len(docstring)]
    for head, end in zip(heads, ends, strict=True):
        if head[1] in ("Parameters", "Returns"):
            parts.append(docstring[head.start() : end].strip())
    return "\n\n".join(parts) if any(part.startswith("Parameters\n") for part in parts) else None


def _ask(function: str, context: str) -> Iterator[_Question]:
    """Ask for type, default and choices of parameters, and for the type of what is returned."""
    section, position = "", 0
    for line in context.splitlines(keepends=True):
        text, start = line.rstrip("\n"), position
        position += len(line)
        if text in ("Parameters", "Returns"):
            section = text
            continue
        if not text or text.startswith((" ", "-")):
            continue
        if section == "Returns" and (found := _RETURNED.match(text)):
            yield _at(f"What type does {function} return?", found, 1, start)
            section = ""
        elif section == "Parameters" and (found := _ENTRY.match(text)):
            yield from _ask_of_parameter(function, found, start)


def _ask_of_parameter(function: str, entry: re.Match[str], start: int) -> Iterator[_Question]:
    name, described = entry[1], entry[2]
    place = start + entry.start(2)
    if default := _DEFAULT.search(described):
        value = default[1].strip("`'\".")
        if value:
            at = place + default.start(1) + default[1].index(value)
            yield _Question(f"What is the default of {name} in {function}?", value, at)
    kind = re.split(r",? *(?:\(?optional|\(?default|by default)", described)[0].strip(" ,(")
    if kind and kind in described:
        text = f"What type is the parameter {name} of {function}?"
        yield _Question(text, kind, place + described.index(kind))


def _at(text: str, found: re.Match[str], group: int, start: int) -> _Question:
    answer = found[group].strip()
    return _Question(text, answer, start + found.start(group) + found[group].index(answer))
