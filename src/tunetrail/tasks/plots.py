"""Figures of what a task's model got wrong, drawn without pyplot: no display, no global state."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure


def plot_confusion_matrix(counts: np.ndarray, names: Sequence[str], *, split: str) -> Figure:
    """Draw counts of true label (rows) by prediction (columns), coloured by share of the row."""
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    size = max(4.0, 1.1 * len(names) + 1.8)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=30 if len(names) > 4 else 0)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"{split.capitalize()} rows by true and predicted label")
    # Numbers stay readable up to a few dozen cells a side.
    if len(names) <= 20:
        for (row, column), count in np.ndenumerate(counts):
            axes.text(
                column,
                row,
                f"{count}\n{share[row, column]:.0%}",
                ha="center",
                va="center",
                fontsize="small",
                color="white" if share[row, column] > 0.55 else "black",
            )
    figure.colorbar(image, ax=axes, label="share of the true label", shrink=0.8)
    return figure
