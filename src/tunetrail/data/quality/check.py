"""Check the rows of each split."""

from collections import Counter

from datasets import Dataset, DatasetDict

from tunetrail.data.columns import read_targets
from tunetrail.data.quality import faults
from tunetrail.data.quality.cleaning import CleaningReport
from tunetrail.data.quality.encodings import repair_text
from tunetrail.data.quality.labels import find_alike, measure_balance
from tunetrail.data.quality.languages import MOST_LANGUAGE_TEXTS
from tunetrail.data.quality.lengths import measure
from tunetrail.data.quality.report import (
    MOST_LABELS_RECORDED,
    Example,
    Finding,
    LabelShare,
    QualityReport,
    SplitQuality,
)
from tunetrail.templates import caption

_NUM_EXAMPLES = 5
_NUM_ROWS_SHOWN = 10
_NUM_LABELS_SHOWN = 10
# Of a text that is shown, and of the name of a label.
_MOST_SHOWN = 500
_MOST_NAME = 200


def check_quality(dataset: DatasetDict, cleaning: CleaningReport | None = None) -> QualityReport:
    """Check each split by itself; nothing is changed.

    1,000 tweets take 0.2 s, and half a second once to load what recognises languages. Whatever
    would take longer than seconds is left out, and said: ``left_out`` of the report.

    Args:
        dataset: canonical rows.
        cleaning: what was dropped and repaired before.

    """
    counts = {name: _count_labels(part) for name, part in dataset.items()}
    total: Counter[str] = Counter()
    for part in counts.values():
        total.update(part)
    return QualityReport(
        splits=tuple(_check_split(name, part, counts[name]) for name, part in dataset.items()),
        alike=find_alike(total),
        cleaning=cleaning,
    )


def _count_labels(part: Dataset) -> Counter[str]:
    names = part.features["answers"].feature.names
    codes = Counter(code for found in part["answers"][:] for code in found)
    return Counter({name: codes[code] for code, name in enumerate(names)})


def _check_split(name: str, part: Dataset, counts: Counter[str]) -> SplitQuality:
    texts: list[str] = [text or "" for text in part["text"][:]]
    groups = faults.find_faults(part)
    wrong = {i for kind, found in groups.items() for g in found for i in faults.at_fault(kind, g)}
    remarks, other = faults.find_remarks(texts)
    findings = []
    for kind, found in (groups | remarks).items():
        number = len({index for group in found for index in faults.at_fault(kind, group)})
        examples = tuple(
            _show(part, group, note=_note(kind, texts[group[0]], other.get(group[0], "")))
            for group in sorted(found, key=len, reverse=True)[:_NUM_EXAMPLES]
        )
        is_remark = kind in faults.REMARKS
        findings.append(Finding(kind, number, number / len(part), examples, is_remark=is_remark))
    shares = [(label, number, number / max(1, counts.total())) for label, number in counts.items()]
    return SplitQuality(
        split=name,
        num_rows=len(part),
        labels=tuple(
            LabelShare(caption(label, _MOST_NAME), number, share)
            for label, number, share in shares[:MOST_LABELS_RECORDED]
        ),
        balance=measure_balance(list(counts.values())),
        words=measure([len(text.split()) for text in texts]),
        characters=measure([len(text) for text in texts]),
        tokens=None,
        findings=tuple(findings),
        problems=len(wrong),
        left_out=tuple(_left_out(texts, counts)),
    )


def _left_out(texts: list[str], counts: Counter[str]) -> list[str]:
    said = []
    if num_long := sum(len(text) > faults.MOST_READ for text in texts):
        said.append(
            f"of {num_long:,} texts the first {faults.MOST_READ:,} characters are read; of these "
            "texts only exact duplicates are found"
        )
    if len(texts) > faults.MOST_NEAR_TEXTS:
        said.append(
            f"near duplicates are looked for among the first {faults.MOST_NEAR_TEXTS:,} "
            "different texts"
        )
    if len(texts) > MOST_LANGUAGE_TEXTS:
        step = -(-len(texts) // MOST_LANGUAGE_TEXTS)
        said.append(f"the language of one in {step} texts is looked for")
    if len(counts) > MOST_LABELS_RECORDED:
        said.append(
            f"{len(counts) - MOST_LABELS_RECORDED:,} of {len(counts):,} labels are not shown"
        )
    return said


def _note(kind: str, text: str, other: str) -> str:
    """Say of an example what its text does not show."""
    if kind == faults.MISREAD:
        return repair_text(text[: faults.MOST_READ])[:_MOST_SHOWN]
    return other if kind in (faults.OTHER_SCRIPT, faults.OTHER_LANGUAGE) else ""


def _show(part: Dataset, group: list[int], *, note: str) -> Example:
    labels = Counter(read_targets(part.select(group)))
    return Example(
        rows=tuple(part.select(group[:_NUM_ROWS_SHOWN])["row"]),
        num_rows=len(group),
        labels={
            "none" if label is None else caption(label, _MOST_NAME): number
            for label, number in labels.most_common(_NUM_LABELS_SHOWN)
        },
        text=(part[group[0]]["text"] or "")[:_MOST_SHOWN],
        note=note,
    )
