"""What the checks of quality found, as numbers and as pages for people."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tunetrail.data.quality.cleaning import CleaningReport
from tunetrail.data.quality.labels import FEW_ROWS, AlikeLabels, Balance
from tunetrail.data.quality.lengths import Lengths, TokenLengths
from tunetrail.templates import begin_sentence, quote, render
from tunetrail.templates.sections import Section, Table

_NUM_ROWS_SHOWN = 5
# In the table of the page, and in the JSON beside it.
_MOST_LABELS = 50
MOST_LABELS_RECORDED = 1_000
_EXAMPLES_HEADER = ("rows", "labels", "text", "what it is")


@dataclass(frozen=True)
class Example:
    """Rows that share a fault: the first few, numbered from 0 as in their source split.

    ``labels`` has the number of rows of each, ``text`` is that of the first row, and ``note`` says
    what it does not show: the repaired text, its script or its language.
    """

    rows: tuple[int, ...]
    num_rows: int
    labels: Mapping[str, int]
    text: str
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """One kind of fault in one split: how many rows have it, as a count and as a share.

    A remark is no fault in every data set: a person must look.
    """

    kind: str
    num_rows: int
    share: float
    examples: tuple[Example, ...]
    is_remark: bool = False


@dataclass(frozen=True)
class LabelShare:
    """How often a label occurs in the answers of a split, and its share of all that occur."""

    label: str
    number: int
    share: float


@dataclass(frozen=True)
class SplitQuality:
    """What one split holds and what is wrong with it.

    ``problems`` counts each row with a fault once; ``tokens`` are there once rows are encoded;
    ``left_out`` says what was not looked at.
    """

    split: str
    num_rows: int
    labels: tuple[LabelShare, ...]
    balance: Balance | None
    words: Lengths
    characters: Lengths
    tokens: TokenLengths | None
    findings: tuple[Finding, ...]
    problems: int
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class QualityReport:
    """What ``check_quality`` found, split by split."""

    splits: tuple[SplitQuality, ...]
    alike: tuple[AlikeLabels, ...] = ()
    cleaning: CleaningReport | None = None

    @property
    def problems(self) -> int:
        """Rows with at least one fault, over all splits."""
        return sum(split.problems for split in self.splits)

    def with_tokens(self, tokens: Mapping[str, TokenLengths]) -> "QualityReport":
        """Add what was measured where rows were encoded."""
        splits = tuple(replace(one, tokens=tokens.get(one.split)) for one in self.splits)
        return replace(self, splits=splits)

    def summary(self) -> str:
        """Say in one line how many rows are at fault, and how."""
        num_rows = sum(split.num_rows for split in self.splits)
        remarks = self._total(is_remark=True)
        also = f"; to look at: {remarks}" if remarks else ""
        if not self.problems:
            return f"nothing wrong with {num_rows:,} rows{also}"
        faults = self._total(is_remark=False)
        return f"{self.problems:,} of {num_rows:,} rows at fault: {faults}{also}"

    def _total(self, *, is_remark: bool) -> str:
        totals: Counter[str] = Counter()
        for split in self.splits:
            found = [one for one in split.findings if one.is_remark == is_remark]
            totals.update({finding.kind: finding.num_rows for finding in found})
        return ", ".join(f"{number:,} {kind}" for kind, number in totals.items() if number)

    def alike_line(self) -> str | None:
        """Say in one line which labels are spelled alike; None if there are none."""
        if not self.alike:
            return None
        first = self.alike[0]
        more = f", and {len(self.alike) - 1:,} more pairs" if len(self.alike) > 1 else ""
        return (
            f"labels {first.label!r} ({first.number:,}) and {first.other!r} "
            f"({first.other_number:,}) differ in their spelling only{more}; are they one label?"
        )

    def to_dict(self) -> dict[str, Any]:
        return {"problems": self.problems, "summary": self.summary(), **asdict(self)}

    def to_markdown(self) -> str:
        """Write the page that a person reads."""
        header, overview = self._overview()
        summary = self.summary()
        return render(
            "quality",
            summary=begin_sentence(summary),
            overview_header=header,
            overview=overview,
            examples_header=_EXAMPLES_HEADER,
            examples=self._examples(),
            alike=_alike_rows(self.alike),
            cleaned=None if self.cleaning is None else self.cleaning.summary(),
            repaired=self._repaired_rows(),
            left_out=self._left_out(),
            has_tokens=any(split.tokens is not None for split in self.splits),
        )

    def section(self) -> Section:
        """Offer what was found for the page of the run."""
        header, overview = self._overview()
        summary = self.summary()
        tables = [Table(header, overview)]
        tables += [Table(_EXAMPLES_HEADER, rows, caption=title) for title, rows in self._examples()]
        if self.alike:
            caption = "labels that differ in their spelling only"
            tables.append(
                Table(("label", "rows", "other", "rows"), _alike_rows(self.alike), caption)
            )
        if repaired := self._repaired_rows():
            tables.append(Table(("split", "row", "before", "after"), repaired, "repaired"))
        said = ". ".join([summary, *self._left_out()])
        return Section("Data quality", f"{begin_sentence(said)}.", tables)

    def _overview(self) -> tuple[list[str], list[list[object]]]:
        splits = self.splits
        kinds = [(found.kind, found.is_remark) for found in splits[0].findings]
        counted = [[(one.num_rows, one.share) for one in split.findings] for split in splits]
        rows: list[list[object]] = [
            ["rows", *(f"{split.num_rows:,}" for split in splits)],
            [
                "rows at fault",
                *(_count_and_share(s.problems, s.problems / s.num_rows) for s in splits),
            ],
            *_share_rows([f"{kind} (to look at)" if odd else kind for kind, odd in kinds], counted),
            *_label_rows(splits),
            *_balance_rows(splits),
            *_length_rows("words", [split.words for split in splits]),
            *_length_rows("characters", [split.characters for split in splits]),
        ]
        measured = [split.tokens for split in splits if split.tokens is not None]
        if len(measured) == len(splits):
            rows += _token_rows(measured)
        return ["", *(split.split for split in splits)], rows

    def _examples(self) -> list[tuple[str, list[list[object]]]]:
        return [
            (
                f"{split.split}: {finding.kind} ({finding.num_rows:,})",
                [_example_row(example) for example in finding.examples],
            )
            for split in self.splits
            for finding in split.findings
            if finding.examples
        ]

    def _left_out(self) -> list[str]:
        return [f"{split.split}: {what}" for split in self.splits for what in split.left_out]

    def _repaired_rows(self) -> list[list[object]]:
        if self.cleaning is None:
            return []
        return [
            [split, one.row, quote(one.before), quote(one.after)]
            for split, found in self.cleaning.repaired.items()
            for one in found.shown
        ]


def _share_rows(
    names: Sequence[str], counted: Sequence[Sequence[tuple[int, float]]]
) -> list[list[object]]:
    """Lay out what was counted, a row for each name and a column for each split."""
    return [
        [name, *(_count_and_share(number, share) for number, share in row)]
        for name, *row in zip(names, *counted, strict=True)
    ]


def _label_rows(splits: Sequence[SplitQuality]) -> list[list[object]]:
    """Lay out the labels in their order; of many, the most frequent ones of the first split."""
    order = range(len(splits[0].labels))
    shown = sorted(sorted(order, key=lambda n: -splits[0].labels[n].number)[:_MOST_LABELS])
    more = len(order) - len(shown)
    rest: list[object] = [f"and {more:,} rarer labels, in data_quality.json", *[""] * len(splits)]
    return [
        *_share_rows(
            [quote(f"label {splits[0].labels[place].label}") for place in shown],
            [[(s.labels[n].number, s.labels[n].share) for n in shown] for s in splits],
        ),
        *([rest] * bool(more)),
    ]


def _balance_rows(splits: Sequence[SplitQuality]) -> list[list[object]]:
    found = [split.balance for split in splits]
    if not any(found):
        return []
    return [
        [
            "balance: most to least frequent",
            *("" if one is None else f"{one.ratio:.3g} to 1" for one in found),
        ],
        [
            f"balance: labels with fewer than {FEW_ROWS} rows",
            *("" if one is None else f"{one.num_few:,} of {one.num_labels:,}" for one in found),
        ],
    ]


def _length_rows(what: str, found: Sequence[Lengths]) -> list[list[object]]:
    return [
        [f"{what}: fewest", *(f"{one.minimum:,}" for one in found)],
        [f"{what}: median", *(f"{one.median:g}" for one in found)],
        [f"{what}: 95 % have at most", *(f"{one.p95:g}" for one in found)],
        [f"{what}: most", *(f"{one.maximum:,}" for one in found)],
    ]


def _token_rows(found: Sequence[TokenLengths]) -> list[list[object]]:
    rows: list[list[object]] = [
        *_length_rows("tokens", [one.tokens for one in found]),
        ["rows that are cut", *(_count_and_share(o.num_cut_rows, o.cut_rows_share) for o in found)],
        ["tokens that are cut", *(f"{one.cut_tokens_share:.1%}" for one in found)],
    ]
    for what, numbers in (
        ("rows read in several windows", [one.num_windowed_rows for one in found]),
        ("rows left out, being too long or empty", [one.num_left_out for one in found]),
    ):
        if any(numbers):
            rows.append([what, *(f"{number:,}" for number in numbers)])
    return rows


def _count_and_share(number: int, share: float) -> str:
    return f"{number:,} ({share:.1%})" if number else "0"


def _example_row(example: Example) -> list[object]:
    shown = ", ".join(str(row) for row in example.rows[:_NUM_ROWS_SHOWN])
    more = example.num_rows - _NUM_ROWS_SHOWN
    counted = (
        f"{n} {label}" if example.num_rows > 1 else label for label, n in example.labels.items()
    )
    return [
        f"{shown} and {more:,} more" if more > 0 else shown,
        quote(", ".join(counted)),
        quote(example.text),
        quote(example.note),
    ]


def _alike_rows(found: Sequence[AlikeLabels]) -> list[list[object]]:
    return [
        [quote(one.label), f"{one.number:,}", quote(one.other), f"{one.other_number:,}"]
        for one in found
    ]
