"""Questions about the documentation of installed packages, with answers that stand in it.

Each docstring in numpydoc's form gives a context, its summary and its sections of parameters and
returned values as they are written, and up to four questions about it.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, DatasetDict, Features, List, Value

from tunetrail.data.documentation import read_documentation

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
    seen = set[str]()
    documented, checksums = read_documentation(distributions)
    for found in documented:
        context = _cut_context(found.docstring)
        if context is None or context in seen or len(context) > _MOST_CHARACTERS:
            continue
        seen.add(context)
        package = ".".join(found.name.split(".")[:2])
        questions = _ask(found.name.rpartition(".")[2], context)
        # Few parameters have a default. Which of the others is asked, their words decide.
        chosen = sorted(
            questions,
            key=lambda q: ("default" not in q.text, _hash(f"{found.name} {q.text}")),
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
    parts_read = DatasetDict()
    for split in (name for name in ("train", "validation", "test") if rows[name]):
        parts_read[split] = Dataset.from_list(rows[split], features=_FEATURES)
        parts_read[split].info.download_checksums = checksums
    return parts_read


def _choose_split(package: str) -> str:
    place = _hash(package) % 100
    return next(split for split, below in _SPLITS if place < below)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


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
