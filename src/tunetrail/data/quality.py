"""Find what is wrong with the rows of each split, and drop such rows."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict

from tunetrail.data.columns import read_targets
from tunetrail.data.duplicates import normalise
from tunetrail.errors import InputError
from tunetrail.served.blank import is_blank
from tunetrail.templates import quote, render

_NUM_EXAMPLES = 5
# In the table of the page; the JSON beside it has all.
_MOST_LABELS = 50
# What UTF-8 bytes look like when they were read as Windows-1252 (é as Ã©): a lead
# character and as many continuation characters as it announces. Only the leads of Latin letters,
# punctuation and emoji, which hardly any language writes before such characters. A word in capitals
# may end in Ã or Â, though: what may follow a word says nothing there (AMANHÃ…, IRMÃ”).
_AFTER_WORDS = "…\u2013—\u2019”»\u203a™®°ªº\xa0"
_TRAIL = "".join(sorted({*bytes(range(0x80, 0xC0)).decode("cp1252", "ignore")})) + "\x80-\xbf"
# Replacement character, private use, and control characters other than tab and line ends.
_BROKEN = re.compile(
    "[\ufffd\ue000-\uf8ff\U000f0000-\U0010ffff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]"
    f"|(?<![^\\W\\d_a-zß-ÿ])[ÂÃ][{_TRAIL}]|[ÂÃ](?![{_AFTER_WORDS}])[{_TRAIL}]|â[{_TRAIL}]{{2}}|ð[{_TRAIL}]{{3}}"
)


@dataclass(frozen=True)
class Example:
    """Rows that share a fault, numbered from 0 as in their source split, and the first's text."""

    rows: tuple[int, ...]
    labels: tuple[str | None, ...]
    text: str


@dataclass(frozen=True)
class Finding:
    """One kind of fault in one split: how many rows have it, as a count and as a share."""

    kind: str
    num_rows: int
    share: float
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class LabelShare:
    """How often a label occurs in the answers of a split, and its share of all that occur."""

    label: str
    number: int
    share: float


@dataclass(frozen=True)
class TextLength:
    """Words of a text (split at white space) over one split."""

    minimum: int
    median: float
    p95: float
    maximum: int


@dataclass(frozen=True)
class SplitQuality:
    """What one split holds and what is wrong with it; ``problems`` counts each row once."""

    split: str
    num_rows: int
    labels: tuple[LabelShare, ...]
    words: TextLength
    findings: tuple[Finding, ...]
    problems: int


@dataclass(frozen=True)
class QualityReport:
    """What ``check_quality`` found, split by split."""

    splits: tuple[SplitQuality, ...]

    @property
    def problems(self) -> int:
        """Rows with at least one fault, over all splits."""
        return sum(split.problems for split in self.splits)

    def summary(self) -> str:
        """Say in one line how many rows are at fault, and how."""
        num_rows = sum(split.num_rows for split in self.splits)
        if not self.problems:
            return f"nothing wrong with {num_rows:,} rows"
        totals: Counter[str] = Counter()
        for split in self.splits:
            totals.update({finding.kind: finding.num_rows for finding in split.findings})
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in totals.items() if number)
        return f"{self.problems:,} of {num_rows:,} rows at fault: {kinds}"

    def to_dict(self) -> dict[str, Any]:
        return {"problems": self.problems, "summary": self.summary(), **asdict(self)}

    def to_markdown(self) -> str:
        """Write the page that a person reads."""
        splits = self.splits
        summary = self.summary()
        shares = [_count_and_share(s.problems, s.problems / s.num_rows) for s in splits]
        return render(
            "quality",
            summary=summary[0].upper() + summary[1:],
            overview_header=["", *(split.split for split in splits)],
            overview=[
                ["rows", *(f"{split.num_rows:,}" for split in splits)],
                ["rows at fault", *shares],
                *_share_rows(
                    [found.kind for found in splits[0].findings],
                    [[(one.num_rows, one.share) for one in split.findings] for split in splits],
                ),
                *_label_rows(splits),
                ["words: fewest", *(split.words.minimum for split in splits)],
                ["words: median", *(f"{split.words.median:g}" for split in splits)],
                ["words: 95 % have at most", *(f"{split.words.p95:g}" for split in splits)],
                ["words: most", *(split.words.maximum for split in splits)],
            ],
            examples=[
                (
                    f"{split.split}: {finding.kind} ({finding.num_rows:,})",
                    [_example_row(example) for example in finding.examples],
                )
                for split in splits
                for finding in split.findings
                if finding.examples
            ],
        )


@dataclass(frozen=True)
class CleaningReport:
    """Rows that ``clean`` dropped: split -> reason -> number of rows."""

    dropped: dict[str, dict[str, int]]

    @property
    def num_dropped(self) -> int:
        """Return the number of rows dropped from all splits."""
        return sum(sum(reasons.values()) for reasons in self.dropped.values())

    def summary(self) -> str:
        """Say in one line what was dropped and why."""
        if not self.num_dropped:
            return "cleaning dropped no rows"
        reasons: Counter[str] = Counter()
        for counts in self.dropped.values():
            reasons.update(counts)
        why = ", ".join(f"{number:,} {kind}" for kind, number in reasons.items() if number)
        return f"cleaning dropped {self.num_dropped:,} rows: {why}"


_EMPTY = "empty texts"
_UNLABELLED = "missing labels"
_EXACT_DUPLICATE = "exact duplicates"
_NORMALISED_DUPLICATE = "normalised duplicates"
_CONFLICT = "conflicting labels"
_BROKEN_TEXT = "broken characters"


def check_quality(dataset: DatasetDict) -> QualityReport:
    """Check each split by itself; nothing is changed."""
    return QualityReport(splits=tuple(_check_split(name, part) for name, part in dataset.items()))


def clean(dataset: DatasetDict) -> tuple[DatasetDict, CleaningReport]:
    """Drop rows that are of no use, within each split by itself.

    These are rows without text or label, every row of a text whose duplicates (after
    ``normalise``) have different labels, and the later duplicates of a text. Broken characters
    stay.

    Raises:
        InputError: nothing of a split is left.

    """
    parts: dict[str, Dataset] = {}
    dropped: dict[str, dict[str, int]] = {}
    for name, part in dataset.items():
        faults = _find_faults(part)
        reasons = [_EMPTY, _UNLABELLED, _CONFLICT, _EXACT_DUPLICATE, _NORMALISED_DUPLICATE]
        gone: set[int] = set()
        dropped[name] = {}
        for reason in reasons:
            rows = {index for group in faults[reason] for index in _at_fault(reason, group)}
            dropped[name][reason] = len(rows - gone)
            gone |= rows
        if len(gone) == len(part):
            raise InputError(
                f"checks.quality=clean leaves no rows of {name} ({len(part):,} before); fix the "
                "data, or set checks.quality=warn"
            )
        parts[name] = part.select([index for index in range(len(part)) if index not in gone])
    return DatasetDict(parts), CleaningReport(dropped=dropped)


def _check_split(name: str, part: Dataset) -> SplitQuality:
    texts: list[str] = [text or "" for text in part["text"][:]]
    labels, numbers = read_targets(part), part["row"][:]
    findings, at_fault = [], set()
    for kind, groups in _find_faults(part).items():
        rows = {index for group in groups for index in _at_fault(kind, group)}
        at_fault |= rows
        examples = tuple(
            Example(
                rows=tuple(numbers[index] for index in group),
                labels=tuple(labels[index] for index in group),
                text=texts[group[0]],
            )
            for group in sorted(groups, key=len, reverse=True)[:_NUM_EXAMPLES]
        )
        findings.append(Finding(kind, len(rows), len(rows) / len(part), examples))
    names = part.features["answers"].feature.names
    counts = Counter(names[code] for codes in part["answers"][:] for code in codes)
    words = [len(text.split()) for text in texts]
    return SplitQuality(
        split=name,
        num_rows=len(part),
        labels=tuple(
            LabelShare(label, counts[label], counts[label] / max(1, counts.total()))
            for label in names
        ),
        words=TextLength(
            minimum=min(words),
            median=float(np.median(words)),
            p95=float(np.percentile(words, 95)),
            maximum=max(words),
        ),
        findings=tuple(findings),
        problems=len(at_fault),
    )


def _find_faults(part: Dataset) -> dict[str, list[list[int]]]:
    """Return groups of indices for each kind; of duplicates the first is the one that stays."""
    empty, unlabelled, broken = [], [], []
    exact, normalised = defaultdict(list), defaultdict(list)
    labels = read_targets(part)
    for index, (text, label) in enumerate(zip(part["text"][:], labels, strict=True)):
        if label is None:
            unlabelled.append([index])
        if is_blank(text):
            empty.append([index])
            continue
        if _BROKEN.search(text):
            broken.append([index])
        if label is not None:
            # A row that is dropped anyway is no duplicate: the labelled one must stay.
            exact[text].append(index)
            normalised[normalise(text)].append(index)
    duplicates = [group for group in exact.values() if len(group) > 1]
    later = {index for group in duplicates for index in group[1:]}
    others = (
        [group[0], *(i for i in group[1:] if i not in later)] for group in normalised.values()
    )
    return {
        _EMPTY: empty,
        _UNLABELLED: unlabelled,
        _EXACT_DUPLICATE: duplicates,
        _NORMALISED_DUPLICATE: [group for group in others if len(group) > 1],
        _CONFLICT: [
            group for group in normalised.values() if len({labels[index] for index in group}) > 1
        ],
        _BROKEN_TEXT: broken,
    }


def _at_fault(kind: str, group: Sequence[int]) -> Sequence[int]:
    return group[1:] if kind in (_EXACT_DUPLICATE, _NORMALISED_DUPLICATE) else group


def _share_rows(
    names: Sequence[str], counted: Sequence[Sequence[tuple[int, float]]]
) -> list[list[str]]:
    """Lay out what was counted, a row for each name and a column for each split."""
    return [
        [name, *(_count_and_share(number, share) for number, share in row)]
        for name, *row in zip(names, *counted, strict=True)
    ]


def _label_rows(splits: Sequence[SplitQuality]) -> list[list[str]]:
    """Lay out the labels in their order; of many, the most frequent ones of the first split."""
    order = range(len(splits[0].labels))
    shown = sorted(sorted(order, key=lambda n: -splits[0].labels[n].number)[:_MOST_LABELS])
    more = len(order) - len(shown)
    return [
        *_share_rows(
            [quote(f"label {splits[0].labels[place].label}") for place in shown],
            [[(s.labels[n].number, s.labels[n].share) for n in shown] for s in splits],
        ),
        *([[f"and {more:,} rarer labels, in data_quality.json", *[""] * len(splits)]] * bool(more)),
    ]


def _count_and_share(number: int, share: float) -> str:
    return f"{number:,} ({share:.1%})" if number else "0"


def _example_row(example: Example) -> list[str]:
    shown = ", ".join(str(row) for row in example.rows[:_NUM_EXAMPLES])
    more = len(example.rows) - _NUM_EXAMPLES
    labels = Counter("none" if label is None else label for label in example.labels)
    counted = (f"{n} {label}" if len(example.rows) > 1 else label for label, n in labels.items())
    return [
        f"{shown} and {more} more" if more > 0 else shown,
        quote(", ".join(counted)),
        quote(example.text),
    ]
