"""Figures. Each function takes numbers and returns a figure; none writes a file.

Drawn on ``Figure`` itself, not through pyplot: no display, no global state to leak from one
trial of a study into the next.
"""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from plotly.subplots import make_subplots

from tunetrail.evaluation.calibration import Bin

# Okabe and Ito's blue and vermilion: different for every kind of colour vision.
_TRAIN, _VALIDATION, _MARK = "#0072B2", "#D55E00", "#555555"
# From this ratio of the largest to the smallest value on, an axis is logarithmic.
_WIDE = 10

Curve = Sequence[float]


def plot_learning_curves(
    epochs: Curve,
    curves: Mapping[str, tuple[Curve, Curve]],
    *,
    best_epoch: float,
    title: str,
) -> Figure:
    """Draw train and validation of each measure over epochs, the gap between them shaded.

    Args:
        epochs: where the evaluations lie, length n.
        curves: measure -> (train, validation), each of length n.
        best_epoch: marked on every panel.

    """
    figure = Figure(figsize=(5.2 * len(curves), 4.0), layout="constrained")
    for axes, (name, (train, validation)) in zip(
        figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True
    ):
        axes.fill_between(epochs, train, validation, color=_VALIDATION, alpha=0.12, label="gap")
        axes.plot(epochs, train, "o-", color=_TRAIN, label="train sample")
        axes.plot(epochs, validation, "o-", color=_VALIDATION, label="validation")
        axes.axvline(best_epoch, color=_MARK, linestyle=":", label=f"best: epoch {best_epoch:g}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.set_title(name)
        if _is_wide([*train, *validation]):
            axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=len(epochs) > 2))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small")
    figure.suptitle(title)
    return figure


def plot_reliability(
    before: Sequence[Bin], after: Sequence[Bin], *, decided: str, title: str
) -> Figure:
    """Draw how often decisions are right over how sure the model is of them.

    Args:
        before, after: bins of confidence without and with a temperature; no second curve if they
            are the same.
        decided: what is decided, such as "rows".
        title: of the figure.

    """
    figure = Figure(figsize=(5.2, 5.2), layout="constrained")
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    axes.plot([0, 1], [0, 1], color=_MARK, linestyle=":", label="calibrated")
    axes.bar(
        [one.low for one in before],
        [one.accuracy for one in before],
        width=[one.high - one.low for one in before],
        align="edge", color=_VALIDATION, alpha=0.35, edgecolor="white", label="share that is right",
    )  # fmt: skip
    for bins, name, colour in ((before, "as it is", _VALIDATION), (after, "tempered", _TRAIN)):
        if bins is before or after != before:
            points = [one.confidence for one in bins], [one.accuracy for one in bins]
            axes.plot(*points, "o-", color=colour, label=name, markersize=4)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_ylabel("share that is right")
    axes.set_title(title)
    axes.legend(frameon=False, fontsize="small", loc="upper left")
    counts.bar(
        [one.low for one in before],
        [one.number for one in before],
        width=[one.high - one.low for one in before],
        align="edge", color=_MARK, alpha=0.5, edgecolor="white",
    )  # fmt: skip
    counts.set_xlabel("confidence")
    counts.set_ylabel(decided)
    counts.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    for part in (axes, counts):
        part.grid(alpha=0.25)
        part.spines[["top", "right"]].set_visible(False)
    return figure


def plot_interactive_curves(
    epochs: Curve,
    curves: Mapping[str, tuple[Curve, Curve]],
    *,
    best_epoch: float,
    title: str,
) -> go.Figure:
    """Draw the same as :func:`plot_learning_curves`, to be hovered over and zoomed."""
    figure = make_subplots(rows=1, cols=len(curves), subplot_titles=list(curves))
    for column, (train, validation) in enumerate(curves.values(), start=1):
        shown = column == 1
        for name, values, colour, fill in (
            ("train sample", train, _TRAIN, None),
            ("validation", validation, _VALIDATION, "tonexty"),
        ):
            figure.add_trace(
                go.Scatter(
                    x=list(epochs),
                    y=list(values),
                    name=name,
                    legendgroup=name,
                    showlegend=shown,
                    mode="lines+markers",
                    line={"color": colour},
                    fill=fill,
                    fillcolor="rgba(213, 94, 0, 0.12)",
                ),
                row=1,
                col=column,
            )
        figure.add_vline(x=best_epoch, line={"color": _MARK, "dash": "dot"}, row=1, col=column)
        figure.update_xaxes(title_text="epoch", row=1, col=column)
        if _is_wide([*train, *validation]):
            figure.update_yaxes(type="log", row=1, col=column)
    figure.update_layout(
        title=f"{title} (dotted: best epoch {best_epoch:g})",
        template="plotly_white",
        hovermode="x unified",
    )
    return figure


def _is_wide(values: Curve) -> bool:
    """Whether small values would lie on the axis, as perplexity after that of an untuned model."""
    return min(values) > 0 and max(values) > _WIDE * min(values)
