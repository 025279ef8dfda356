"""Figures of what a task's model got wrong, drawn without pyplot: no display, no global state."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tunetrail.templates import caption

# Labels, types or groups in a figure: numbers and names stay readable up to about so many.
_MOST_LABELS = 20
_MOST_GROUPS = 15
_OTHERS = "all others"


def plot_confusion_matrix(
    targets: pd.Series, predictions: pd.Series, names: Sequence[str], *, split: str
) -> Figure:
    """Draw counts of true label (rows) by prediction (columns), coloured by share of the row.

    Of many labels those with the most wrong rows are drawn, and all others together.
    """
    shown, places = list(names), {name: place for place, name in enumerate(names)}
    if len(names) > _MOST_LABELS:
        wrong = targets[targets != predictions], predictions[targets != predictions]
        errors = pd.concat(wrong).value_counts().reindex(names, fill_value=0)
        worst = errors.sort_values(ascending=False, kind="stable").index[: _MOST_LABELS - 1]
        shown = [*worst, _OTHERS]
        places = dict.fromkeys(names, len(worst)) | {name: i for i, name in enumerate(worst)}
    counts = np.zeros((len(shown), len(shown)), dtype=int)
    np.add.at(counts, (targets.map(places), predictions.map(places)), 1)
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    # The more labels, the less room for each: a side of at most 15 inches.
    size = max(4.0, min(1.1 * len(shown) + 1.8, 0.5 * len(shown) + 5.0))
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    captions = [caption(name) for name in shown]
    longest = max(map(len, captions))
    # Names beside each other need room: at an angle where they are many, upright where long.
    axes.set_xticks(
        range(len(shown)), captions, rotation=(90 if longest > 15 else 30) if len(shown) > 4 else 0,
        parse_math=False,
    )  # fmt: skip
    axes.set_yticks(range(len(shown)), captions, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    title = f"{split.capitalize()} rows by true and predicted label"
    if len(names) > len(shown):
        title += f"\nthe {len(shown) - 1} of {len(names):,} labels with the most wrong rows"
    axes.set_title(title)
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
        count: the column that says how often a label is there; the first ones are drawn.
        split: named in the title.

    """
    shown = scores.sort_values(count, ascending=False, kind="stable").head(_MOST_LABELS)[::-1]
    figure = Figure(figsize=(7.0, 1.6 + 0.42 * len(shown)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(shown))
    for offset, (name, colour) in enumerate(
        (("f1", "#0072B2"), ("recall", "#E69F00"), ("precision", "#009E73"))
    ):
        axes.barh(places + 0.27 * (1 - offset), shown[name], 0.25, color=colour, label=name)
    names = [
        f"{caption(label)} ({number})"
        for label, number in zip(shown["label"], shown[count], strict=True)
    ]
    axes.set_yticks(places, names, parse_math=False)
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"score ({count} in brackets)")
    of = f"\nthe {len(shown)} most frequent of {len(scores):,}" if len(scores) > len(shown) else ""
    axes.set_title(f"{split.capitalize()}: scores by label{of}")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
    )
    return figure


def plot_scores_by_group(scores: pd.DataFrame, *, title: str, split: str) -> Figure:
    """Draw the mean scores of groups of rows, the largest first.

    Args:
        scores: of each row, a column for each score, and ``group``.
        title: what the groups are.
        split: named in the title.

    """
    sizes = scores["group"].value_counts().head(_MOST_GROUPS)[::-1]
    means = scores.groupby("group").mean().loc[sizes.index]
    figure = Figure(figsize=(7.0, 1.6 + 0.42 * len(sizes)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(sizes))
    for number, (name, values) in enumerate(means.items()):
        axes.barh(places - 0.4 * number + 0.2, values, 0.38, label=str(name))
    names = [f"{caption(name)} ({size})" for name, size in sizes.items()]
    axes.set_yticks(places, names, parse_math=False)
    axes.set_xlim(0, 1)
    axes.set_xlabel("score (rows in brackets)")
    axes.set_title(f"{split.capitalize()}: scores by {title}")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False
    )
    return figure
