"""The texts on which forgetting is measured: none of the data sets that are shipped has them.

Two come with Python itself (PSF licence), so that they are there without a network: the prose of
its manual, and the summaries of its library with the package that each is from. Any other can be
named by its file.
"""

import contextlib
import hashlib
import re
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, zip_longest
from pathlib import Path

from tunetrail.config.paths import locate
from tunetrail.data.sources import SourceFile, checksum
from tunetrail.data.tables.files import open_table
from tunetrail.data.tables.formats import find_format
from tunetrail.data.tables.rows import BadRow, Row
from tunetrail.errors import InputError, did_you_mean

# A text is measured in passages of so many characters, at most so many of them.
_PASSAGE, _MOST_PASSAGES = 600, 2_000
# Rows of a file that are looked at: a larger one is not read to its end.
_MOST_ROWS = 20_000
# A label of fewer rows cannot be in every fold of the probe.
_FEWEST_OF_LABEL = 5
# Packages of Python's library whose summaries tell them apart.
_PACKAGES = {
    "_pydecimal.py": "decimal",
    **{name: name for name in ("email", "importlib", "logging", "unittest", "xml")},
}
# The first paragraph of a docstring; to parse the sources would take a second.
_DOCSTRING = re.compile(
    r'^ *(?:async )?(?:def|class) [^\n]*:\n +r?"""(.+?)(?:"""|\n *\n)', re.DOTALL | re.MULTILINE
)
_MARKUP = re.compile(r'[`:=<>{}\\|]|__|""|\*\*|\(\)')


@dataclass(frozen=True)
class Reference:
    """Texts in an order in which the first ones stand for all.

    ``key`` is what a person has set to name it, with its value: then its faults end the run. Of a
    reference that comes with the project it is None.
    """

    name: str
    texts: Sequence[str]
    labels: Sequence[str] = ()
    key: str | None = None
    files: tuple[SourceFile, ...] = ()


@lru_cache(maxsize=1)
def read_manual() -> Reference:
    """Read the prose of Python's manual: about 200 paragraphs of English, without code.

    Other releases of Python have other paragraphs. A Python that was built without them has none.
    """
    paragraphs: set[str] = set()
    with contextlib.suppress(ImportError):
        from pydoc_data.topics import topics

        paragraphs = {found for text in topics.values() for found in _find_prose(text, fewest=200)}
    return Reference("English prose (Python's manual)", sorted(paragraphs, key=_hash))


@lru_cache(maxsize=1)
def read_summaries() -> Reference:
    """Read one-sentence summaries of Python's library, labelled with the package each is from.

    The sources are searched, and none of them runs.
    """
    root = Path(sysconfig.get_path("stdlib"))
    found: dict[str, set[str]] = defaultdict(set)
    for place, name in _PACKAGES.items():
        path = root / place
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            found[name] |= {*_find_summaries(file.read_text("utf-8", errors="replace"))}
    # One that two packages have tells nothing.
    alone = {
        name: [s for s in own if sum(s in others for others in found.values()) == 1]
        for name, own in found.items()
    }
    texts, labels = _mix((text, name) for name, own in alone.items() for text in own)
    return Reference("packages of Python's library, told by summaries", texts, labels)


def read_texts(*, path: str, column: str) -> Reference:
    """Read the texts of a column of a file; long ones are cut into passages.

    Raises:
        InputError: the file cannot be read, or has no such column of texts.

    """
    key, file = f"forgetting.text.path={path}", locate(path)
    texts: list[str] = []
    for row in _read_rows(file, key, [column]):
        texts += islice(_cut(row.values[column]), _MOST_PASSAGES)
        if len(texts) >= _MOST_PASSAGES:
            break
    return Reference(file.name, sorted({*texts}, key=_hash), (), key, _describe(file))


def read_labelled(*, path: str, column: str, label_column: str) -> Reference:
    """Read the texts of a file with a label each, the task of a probe.

    Raises:
        InputError: the file cannot be read, or has no two labels with five texts each.

    """
    key, file = f"forgetting.probe.path={path}", locate(path)
    rows: dict[str, str] = {}
    for row in _read_rows(file, key, [column, label_column]):
        first = next(_cut(row.values[column]), "")
        if first:
            rows.setdefault(first, str(row.values[label_column]))
    counts = {name: [*rows.values()].count(name) for name in sorted({*rows.values()})[:1_000]}
    kept = {name for name, count in counts.items() if count >= _FEWEST_OF_LABEL}
    if len(kept) < 2:
        raise InputError(
            f"{key}: {len(kept)} of its labels ({label_column}) have {_FEWEST_OF_LABEL} different "
            "texts or more, and a probe needs two such; set forgetting.probe.label_column, or "
            "name another file"
        )
    texts, labels = _mix(pair for pair in rows.items() if pair[1] in kept)
    return Reference(file.name, texts, labels, key, _describe(file))


def _read_rows(file: Path, key: str, columns: Sequence[str]) -> Iterator[Row]:
    with open_table(file, find_format(file, name=key), name=key) as reader:
        for row in islice(reader, _MOST_ROWS):
            if isinstance(row, BadRow):
                raise InputError(f"{key}: {reader.unit} {row.number}: {row.cause}; fix the file")
            for column in columns:
                if column not in row.values:
                    found = ", ".join([*row.values][:10])
                    hint = did_you_mean(column, row.values)
                    raise InputError(f"{key}: it has no column {column!r} (found: {found}){hint}")
            if any(row.values[column] is None for column in columns):
                continue
            if not isinstance(row.values[columns[0]], str):
                raise InputError(
                    f"{key}: it holds no text in column {columns[0]!r} of {reader.unit} "
                    f"{row.number}; name another column"
                )
            yield row


def _describe(file: Path) -> tuple[SourceFile, ...]:
    found = checksum(file)
    return (SourceFile(file.name, found["checksum"], found["num_bytes"]),)


def _cut(text: str) -> Iterator[str]:
    """Cut a text into passages between words; of a text of megabytes only the first ones."""
    text = " ".join(text[: _PASSAGE * _MOST_PASSAGES].split())
    while text:
        end = len(text) if len(text) <= _PASSAGE else text.rfind(" ", 1, _PASSAGE)
        end = end if end > 0 else _PASSAGE
        yield text[:end]
        text = text[end:].lstrip()


def _find_prose(text: str, *, fewest: int) -> Iterator[str]:
    """Find the paragraphs of a text that are not indented and have no markup."""
    for paragraph in re.split(r"\n\s*\n", text):
        lines = paragraph.strip("\n").split("\n")
        flat = " ".join(" ".join(lines).replace("*", "").split())
        is_prose = len(flat) >= fewest and not _MARKUP.search(flat)
        if is_prose and not any(line.startswith(" ") for line in lines):
            yield flat


def _find_summaries(source: str) -> Iterator[str]:
    for found in _DOCSTRING.finditer(source):
        summary = " ".join(found[1].split())
        if len(summary.split()) >= 5 and len(summary) <= 200 and summary.endswith("."):
            yield summary


def _mix(rows: Iterable[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Put labelled texts into an order in which labels take turns: the first ones have all."""
    by_label: dict[str, list[str]] = defaultdict(list)
    for text, label in rows:
        by_label[label].append(text)
    columns = [
        [(text, label) for text in sorted(by_label[label], key=_hash)] for label in sorted(by_label)
    ]
    mixed = [pair for turn in zip_longest(*columns) for pair in turn if pair is not None]
    return [text for text, _ in mixed], [label for _, label in mixed]


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
