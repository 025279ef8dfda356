"""Rows that are of no use are dropped; what was read in a wrong encoding is repaired."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from datasets import Dataset, DatasetDict

from tunetrail.data.quality import faults
from tunetrail.data.quality.encodings import Repairs
from tunetrail.errors import InputError


@dataclass(frozen=True)
class CleaningReport:
    """Rows that ``clean`` dropped, split -> reason -> number, and what was repaired before."""

    dropped: Mapping[str, Mapping[str, int]]
    repaired: Mapping[str, Repairs] = field(default_factory=dict)

    @property
    def num_dropped(self) -> int:
        """Return the number of rows dropped from all splits."""
        return sum(sum(reasons.values()) for reasons in self.dropped.values())

    @property
    def num_repaired(self) -> int:
        """Return the number of rows repaired in all splits."""
        return sum(found.num_rows for found in self.repaired.values())

    def summary(self) -> str:
        """Say in one line what was dropped and why, and what was repaired."""
        repaired = (
            f"; it repaired the encoding of {self.num_repaired:,} rows" if self.num_repaired else ""
        )
        if not self.num_dropped:
            return f"cleaning dropped no rows{repaired}"
        reasons: Counter[str] = Counter()
        for counts in self.dropped.values():
            reasons.update(counts)
        why = ", ".join(f"{number:,} {kind}" for kind, number in reasons.items() if number)
        return f"cleaning dropped {self.num_dropped:,} rows: {why}{repaired}"


def clean(
    dataset: DatasetDict, repaired: Mapping[str, Repairs] | None = None
) -> tuple[DatasetDict, CleaningReport]:
    """Drop rows that are of no use, within each split by itself.

    These are rows without text or label, every row of a text whose duplicates (after
    ``normalise``) have different labels, and the later duplicates of a text. Broken characters
    stay.

    Args:
        dataset: canonical rows.
        repaired: what :func:`tunetrail.data.quality.encodings.repair` has repaired of them.

    Raises:
        InputError: nothing of a split is left.

    """
    parts: dict[str, Dataset] = {}
    dropped: dict[str, dict[str, int]] = {}
    for name, part in dataset.items():
        found = faults.find_faults(part)
        gone: set[int] = set()
        dropped[name] = {}
        for reason in (
            *(faults.EMPTY, faults.UNLABELLED, faults.CONFLICT),
            *(faults.EXACT_DUPLICATE, faults.NORMALISED_DUPLICATE),
        ):
            rows = {index for group in found[reason] for index in faults.at_fault(reason, group)}
            dropped[name][reason] = len(rows - gone)
            gone |= rows
        if len(gone) == len(part):
            raise InputError(
                f"checks.quality=clean leaves no rows of {name} ({len(part):,} before); fix the "
                "data, or set checks.quality=warn"
            )
        parts[name] = part.select([index for index in range(len(part)) if index not in gone])
    return DatasetDict(parts), CleaningReport(dropped=dropped, repaired=repaired or {})
