"""Labels that no row of a split has: what they do to scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import DatasetDict

from tunetrail.tasks.base import Metric
from tunetrail.templates import list_names

# Names in a sentence, and in the record of a run.
_MOST_SAID, _MOST_RECORDED = 5, 100


@dataclass(frozen=True)
class MissingLabels:
    """Labels of which a split has no row; ``consequence`` ends the sentence."""

    split: str
    labels: Sequence[str]
    num_labels: int
    consequence: str

    def line(self) -> str:
        """Say in one line what is missing, and what follows."""
        names = ", ".join(list_names(self.labels, _MOST_SAID))
        return (
            f"{self.split} has no row with {len(self.labels):,} of {self.num_labels:,} labels "
            f"({names}): {self.consequence}"
        )

    def to_dict(self) -> dict[str, Any]:
        names = list_names(self.labels, _MOST_RECORDED)
        return {"number": len(self.labels), "labels": names, "line": self.line()}


def find_missing_labels(
    dataset: DatasetDict, metrics: Mapping[str, Metric]
) -> tuple[MissingLabels, ...]:
    """Find the labels that train lacks, and those that a held-out split lacks where it matters.

    A label that no row has scores 0 and counts in a mean over labels, as it does with
    scikit-learn's ``labels=`` and ``zero_division=0``.
    """
    means = [name for name, metric in metrics.items() if metric.is_mean_of_labels]
    consequences = {"train": "the model cannot learn them"}
    if means:
        says = f"each counts as 0 in {', '.join(means)}"
        consequences |= dict.fromkeys(("validation", "test"), says)
    found = []
    for split, consequence in consequences.items():
        if split in dataset:
            names = dataset[split].features["answers"].feature.names
            seen = {code for codes in dataset[split]["answers"][:] for code in codes}
            missing = [name for code, name in enumerate(names) if code not in seen]
            if missing:
                found.append(MissingLabels(split, missing, len(names), consequence))
    return tuple(found)
