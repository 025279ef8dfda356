"""The losses of validation rows, which say what of a change of the loss is noise."""

from pathlib import Path

import numpy as np

from tunetrail.tasks.base import Array

_FILE = "row_losses.npz"


class RowLosses:
    """Keeps the losses of rows at the evaluation with the lowest loss, and at the last two.

    Attributes:
        by_step: step of an evaluation -> of each row the sum of its losses and of how many.

    """

    def __init__(self) -> None:
        self.by_step: dict[int, Array] = {}
        self._means: dict[int, float] = {}

    def add(self, step: int, mean: float, losses: Array) -> None:
        """Add those of an evaluation, whose loss is ``mean``; of equal ones the first is lowest."""
        self.by_step[step], self._means[step] = losses, mean
        lowest = min(self._means, key=lambda step: self._means[step])
        kept = {lowest, *[*self.by_step][-2:]}
        self.by_step = {step: found for step, found in self.by_step.items() if step in kept}
        self._means = {step: mean for step, mean in self._means.items() if step in kept}

    def save(self, checkpoint: Path) -> None:
        """Save them into a checkpoint: a resumed run has no other way to know them."""
        checkpoint.mkdir(parents=True, exist_ok=True)
        means = np.array([*self._means.values()])
        arrays = {"means": means, **{str(step): found for step, found in self.by_step.items()}}
        np.savez(checkpoint / _FILE, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, checkpoint: Path) -> "RowLosses":
        """Load them; none from a checkpoint that has none."""
        found = cls()
        if (checkpoint / _FILE).is_file():
            with np.load(checkpoint / _FILE, allow_pickle=False) as file:
                steps = [name for name in file.files if name != "means"]
                for step, mean in zip(steps, file["means"], strict=True):
                    found.add(int(step), float(mean), file[step])
        return found
