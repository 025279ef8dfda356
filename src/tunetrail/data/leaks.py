"""Reports of rows that are in two splits, or that an earlier run trained on."""

from dataclasses import asdict, dataclass
from typing import Any

from tunetrail.data.near import NEAR
from tunetrail.templates import begin_sentence, quote, render
from tunetrail.templates.sections import Section, Table

NUM_EXAMPLES = 5
# Of an earlier run, in the report that programs read.
_MOST_ROWS = 1000
INCOMPLETE = (
    "not all pairs of texts were compared, because too many share too many words: near rows may be "
    "missing"
)
_HEADER = ("held out", "found in", "rows", "exact", "normalised", "near", "share", "other label")


@dataclass(frozen=True)
class Leak:
    """A row of the held-out split and the row of the other split that it matches best.

    ``kind`` is exact, normalised or near; rows are numbered from 0 in their source split.
    """

    kind: str
    similarity: float
    held_out_row: int
    held_out_label: str
    held_out_text: str
    source_row: int
    source_label: str
    source_text: str


@dataclass(frozen=True)
class PairLeakage:
    """Rows of ``held_out`` that are in ``source`` too; each counts once, for its best match.

    If it is not ``complete``, near rows may be missing: not all pairs of texts were compared.
    """

    source: str
    held_out: str
    num_rows: int
    num_exact: int
    num_normalised: int
    num_near: int
    num_other_label: int
    examples: tuple[Leak, ...]
    is_complete: bool = True

    @property
    def num_leaked(self) -> int:
        """Return the number of held-out rows that match any row of the source."""
        return self.num_exact + self.num_normalised + self.num_near

    @property
    def share(self) -> float:
        """Return the share of the held-out split that is leaked."""
        return self.num_leaked / self.num_rows


@dataclass(frozen=True)
class EarlierRun:
    """Rows of the held-out splits that a run trained on, from whose model this one started.

    Attributes:
        run_id, name: of the run.
        known: split -> rows that are the same as one of its rows, after ``normalise``.
        num_rows: split -> all rows.
        unknown: why it is not known, or "".
        is_sample: whether the run recorded a part of its rows only: there may be more.

    """

    run_id: str
    name: str
    known: dict[str, tuple[int, ...]]
    num_rows: dict[str, int]
    unknown: str = ""
    is_sample: bool = False

    @property
    def num_leaked(self) -> int:
        """Return the number of held-out rows that it trained on."""
        return sum(map(len, self.known.values()))

    def line(self) -> str:
        """Say in one line what the run trained on."""
        if self.unknown:
            return f"what run {self.run_id[:8]} trained on is unknown: {self.unknown}"
        few = "at least " if self.is_sample else ""
        found = " and ".join(
            f"{few}{len(rows):,} of {self.num_rows[split]:,} {split} rows"
            for split, rows in self.known.items()
            if rows
        )
        which = f"run {self.run_id[:8]}, which this model comes from, trained"
        return f"{which} on {found or 'no row of validation or test'}"


@dataclass(frozen=True)
class LeakageReport:
    """What ``check_leakage`` found for each pair of splits, and what earlier runs trained on."""

    pairs: tuple[PairLeakage, ...]
    earlier: tuple[EarlierRun, ...] = ()

    @property
    def problems(self) -> int:
        """Held-out rows that leaked, summed over the pairs and the earlier runs."""
        leaked = sum(pair.num_leaked for pair in self.pairs)
        return leaked + sum(run.num_leaked for run in self.earlier)

    def summary(self) -> str:
        """Say in one line how many rows of each held-out split are in another."""
        found = [
            f"{p.num_leaked:,} of {p.num_rows:,} {p.held_out} rows are in {p.source} too "
            f"({p.num_exact:,} exact, {p.num_normalised:,} normalised, {p.num_near:,} near)"
            for p in self.pairs
            if p.num_leaked
        ]
        return "; ".join(
            [
                *(found or ["no row is in two splits"]),
                *(run.line() for run in self.earlier if run.num_leaked or run.unknown),
                *([] if all(pair.is_complete for pair in self.pairs) else [INCOMPLETE]),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        pairs = [
            asdict(pair) | {"num_leaked": pair.num_leaked, "share": pair.share}
            for pair in self.pairs
        ]
        earlier = [
            asdict(run)
            | {
                "num_leaked": run.num_leaked,
                "known": {s: list(rows[:_MOST_ROWS]) for s, rows in run.known.items()},
            }
            for run in self.earlier
        ]
        found = {"problems": self.problems, "summary": self.summary()}
        return {**found, "pairs": pairs, "earlier_runs": earlier}

    def to_markdown(self) -> str:
        """Write the page that a person reads."""
        summary = self.summary()
        return render(
            "leakage",
            summary=begin_sentence(summary),
            near=NEAR,
            pairs=self._pair_rows(),
            earlier=[quote(run.line()) for run in self.earlier],
            examples=[
                (pair.held_out, pair.source, [_example_row(leak) for leak in pair.examples])
                for pair in self.pairs
                if pair.examples
            ],
        )

    def section(self) -> Section:
        """Show it on the page of a run."""
        tables = [Table(_HEADER, self._pair_rows())]
        if self.earlier:
            rows = [[run.run_id, run.name, run.line()] for run in self.earlier]
            tables.append(Table(["run", "name", "trained on"], rows, caption="Earlier runs"))
        for pair in self.pairs:
            if pair.examples:
                header = ["kind", "similarity", pair.held_out, "label", pair.source, "label"]
                shown = [
                    [
                        leak.kind,
                        f"{leak.similarity:.2f}",
                        leak.held_out_text,
                        leak.held_out_label,
                        leak.source_text,
                        leak.source_label,
                    ]
                    for leak in pair.examples
                ]
                caption = f"{pair.held_out} rows in {pair.source}"
                tables.append(Table(header, shown, caption=caption))
        summary = self.summary()
        return Section("Leakage", f"{begin_sentence(summary)}.", tables)

    def _pair_rows(self) -> list[list[str]]:
        return [
            [
                pair.held_out,
                pair.source,
                f"{pair.num_rows:,}",
                f"{pair.num_exact:,}",
                f"{pair.num_normalised:,}",
                f"{pair.num_near:,}",
                f"{pair.share:.1%}",
                f"{pair.num_other_label:,}",
            ]
            for pair in self.pairs
        ]


@dataclass(frozen=True)
class LeakageCleaning:
    """Rows that ``drop_leaks`` dropped from each split."""

    dropped: dict[str, int]
    is_complete: bool = True

    def summary(self) -> str:
        """Say in one line what was dropped."""
        found = [f"{number:,} from {split}" for split, number in self.dropped.items() if number]
        if not found:
            return "no row was in two splits"
        limit = "" if self.is_complete else f"; {INCOMPLETE}"
        return f"rows that are in a held-out split too were dropped: {', '.join(found)}{limit}"


def _example_row(leak: Leak) -> list[str]:
    return [
        leak.kind,
        f"{leak.similarity:.2f}",
        quote(f"{leak.held_out_row}: {leak.held_out_text}"),
        quote(leak.held_out_label),
        quote(f"{leak.source_row}: {leak.source_text}"),
        quote(leak.source_label),
    ]
