"""The losses of rows at the evaluations, which say what of a change of the loss is noise."""

from pathlib import Path

import numpy as np

from tunetrail.tasks.base import Array

_FILE, _UNTUNED = "row_losses.npz", "untuned"
# Rows of a split whose losses are kept: their spread is that of all. And evaluations of which they
# are kept; of more, every second one is dropped.
_MOST_ROWS = 5_000
_MOST_EVALUATIONS = 60


class RowLosses:
    """Keeps the losses of rows at the evaluations: always at the lowest, and at the last two.

    Attributes:
        by_split: split -> step of an evaluation -> of each row the sum of its losses and of how
            many, shape (rows, 2).
        untuned: what each row of validation added to the sums of the task before training, shape
            (rows, statistics); None if that was not measured.

    """

    def __init__(self) -> None:
        self.by_split: dict[str, dict[int, Array]] = {}
        self.untuned: Array | None = None
        self._means: dict[str, dict[int, float]] = {}

    def add(self, split: str, step: int, mean: float, losses: Array) -> None:
        """Add those of an evaluation, whose loss is ``mean``; of equal ones the first is lowest."""
        found = self.by_split.setdefault(split, {})
        means = self._means.setdefault(split, {})
        places = np.linspace(0, len(losses) - 1, min(len(losses), _MOST_ROWS)).round().astype(int)
        found[step], means[step] = losses[places], mean
        if len(found) > _MOST_EVALUATIONS:
            lowest = min(means, key=lambda step: means[step])
            kept = {lowest, *[*found][::2], *[*found][-2:]}
            self.by_split[split] = {step: rows for step, rows in found.items() if step in kept}
            self._means[split] = {step: mean for step, mean in means.items() if step in kept}

    def save(self, checkpoint: Path) -> None:
        """Save them into a checkpoint: a resumed run has no other way to know them."""
        checkpoint.mkdir(parents=True, exist_ok=True)
        arrays = {} if self.untuned is None else {_UNTUNED: self.untuned}
        for split, found in self.by_split.items():
            arrays[f"{split}/means"] = np.array([self._means[split][step] for step in found])
            arrays |= {f"{split}/{step}": rows for step, rows in found.items()}
        np.savez(checkpoint / _FILE, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, checkpoint: Path) -> "RowLosses":
        """Load them; none from a checkpoint that has none."""
        found = cls()
        if not (checkpoint / _FILE).is_file():
            return found
        with np.load(checkpoint / _FILE, allow_pickle=False) as file:
            for name in file.files:
                split, _, step = name.partition("/")
                if name == _UNTUNED:
                    found.untuned = file[name]
                elif step == "means":
                    found.by_split[split] = {}
                    found._means[split] = {}
                    means = iter(file[name].tolist())
                else:
                    found.by_split[split][int(step)] = file[name]
                    found._means[split][int(step)] = next(means)
        return found
