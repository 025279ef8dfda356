"""The figure of a rerun: the curves of both runs, and the differences between them."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's blue, vermilion, green, purple, orange, sky blue and black.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_ORIGINAL, _RERUN, _REST = "#0072B2", "#D55E00", "#BBBBBB"
# Where equal values are drawn, since a logarithmic axis has no 0.
_EQUAL = 1e-18

Curve = Mapping[int, float]


def plot_rerun(
    curves: Mapping[str, tuple[Curve, Curve]],
    differences: Mapping[str, Mapping[int, float]],
    *,
    tolerance: float,
    title: str,
) -> Figure:
    """Draw the curves of both runs in one panel for each metric, and all differences in another.

    Args:
        curves: metric -> (original, rerun), each from step to value.
        differences: metric -> step -> difference as a share of the metric's scale; 0 is equal.
        tolerance: drawn as a line among the differences.

    """
    num_rows = math.ceil((len(curves) + 1) / 2)
    figure = Figure(figsize=(11.0, 3.8 * num_rows), layout="constrained")
    *panels, last = (figure.add_subplot(num_rows, 2, n + 1) for n in range(len(curves) + 1))
    for axes, (name, (original, rerun)) in zip(panels, curves.items(), strict=True):
        _plot_curves(axes, name, original, rerun)
    _plot_differences(last, differences, tolerance=tolerance)
    for axes in (*panels, last):
        axes.set_xlabel("optimizer step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    return figure


def _plot_curves(axes: Axes, name: str, original: Curve, rerun: Curve) -> None:
    # A wide line under a thin one: equal curves are both visible.
    for label, curve, colour, width, alpha in (
        ("original", original, _ORIGINAL, 5.0, 0.35),
        ("rerun", rerun, _RERUN, 1.2, 1.0),
    ):
        steps = sorted(curve)
        values = [curve[step] for step in steps]
        axes.plot(steps, values, "o-", color=colour, label=label, linewidth=width, alpha=alpha,
                  markersize=2 + 1.4 * width)  # fmt: skip
    axes.set_title(name)
    axes.legend(frameon=False, fontsize="small")


def _plot_differences(
    axes: Axes, differences: Mapping[str, Mapping[int, float]], *, tolerance: float
) -> None:
    largest = max((max(found.values(), default=0.0) for found in differences.values()), default=0.0)
    shown = _pick(differences)
    for name, found in differences.items():
        steps = sorted(found)
        heights = [max(found[step], _EQUAL) for step in steps]
        if name in shown:
            colour = _COLOURS[shown.index(name)]
            axes.plot(steps, heights, "o-", color=colour, label=name, markersize=4, linewidth=0.8)
        else:
            axes.plot(steps, heights, "o", color=_REST, markersize=3, zorder=1)
    axes.axhline(tolerance, color="#555555", linestyle="--", linewidth=1.0)
    axes.annotate(
        f"tolerance {tolerance:g}", (1, tolerance), xycoords=("axes fraction", "data"),
        xytext=(0, 3), textcoords="offset points", ha="right", fontsize="small", color="#555555",
    )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(_EQUAL / 10, max(10.0 * tolerance, 10.0 * largest, 1.0))
    ticks = [10.0**power for power in range(-15, 1, 3)]
    axes.set_yticks([_EQUAL, *ticks], ["equal", *(f"$10^{{{p}}}$" for p in range(-15, 1, 3))])
    axes.minorticks_off()
    axes.set_title("difference, as a share of the metric's scale")
    if shown:
        axes.legend(frameon=False, fontsize="x-small", ncols=2, loc="center",
                    title="differ most", title_fontsize="x-small")  # fmt: skip
    else:
        axes.text(0.5, 0.5, "every value is the same", transform=axes.transAxes, ha="center")


def _pick(differences: Mapping[str, Mapping[int, float]]) -> Sequence[str]:
    """Return the metrics that differ most, as many as there are colours."""
    largest = {name: max(found.values(), default=0.0) for name, found in differences.items()}
    names = sorted((name for name in largest if largest[name] > 0), key=lambda n: -largest[n])
    return names[: len(_COLOURS)]
