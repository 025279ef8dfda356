"""Figures of what a task's model got wrong, drawn without pyplot: no display, no global state."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
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


def plot_scores_by_label(scores: pd.DataFrame, *, count: str, split: str) -> Figure:
    """Draw precision, recall and F1 of each label, the most frequent first.

    Args:
        scores: columns ``label``, ``precision``, ``recall``, ``f1`` and ``count``.
        count: the column that says how often a label is there; the first twenty are drawn.
        split: named in the title.

    """
    shown = scores.sort_values(count, ascending=False, kind="stable").head(20)[::-1]
    figure = Figure(figsize=(7.0, 1.6 + 0.42 * len(shown)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(shown))
    for offset, (name, colour) in enumerate(
        (("f1", "#0072B2"), ("recall", "#E69F00"), ("precision", "#009E73"))
    ):
        axes.barh(places + 0.27 * (1 - offset), shown[name], 0.25, color=colour, label=name)
    names = [
        f"{label} ({number})" for label, number in zip(shown["label"], shown[count], strict=True)
    ]
    axes.set_yticks(places, names)
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"score ({count} in brackets)")
    axes.set_title(f"{split.capitalize()}: scores by label")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
    )
    return figure


def plot_scores_by_group(scores: pd.DataFrame, *, title: str, split: str) -> Figure:
    """Draw the mean scores of groups of rows, the largest first.

    Args:
        scores: of each row, a column for each score, and ``group``; fifteen groups are drawn.
        title: what the groups are.
        split: named in the title.

    """
    sizes = scores["group"].value_counts().head(15)[::-1]
    means = scores.groupby("group").mean().loc[sizes.index]
    figure = Figure(figsize=(7.0, 1.6 + 0.42 * len(sizes)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(sizes))
    for number, (name, values) in enumerate(means.items()):
        axes.barh(places - 0.4 * number + 0.2, values, 0.38, label=str(name))
    axes.set_yticks(places, [f"{name} ({size})" for name, size in sizes.items()])
    axes.set_xlim(0, 1)
    axes.set_xlabel("score (rows in brackets)")
    axes.set_title(f"{split.capitalize()}: scores by {title}")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False
    )
    return figure
