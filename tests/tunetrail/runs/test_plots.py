"""The figure of a rerun."""

import math

from matplotlib.figure import Figure

from tunetrail.runs.plots import plot_rerun

CURVE = {1: 1.0, 2: 0.5, 3: 0.25}


def draw(difference: float) -> Figure:
    rerun = {step: value + difference for step, value in CURVE.items()}
    return plot_rerun(
        {"train/loss": (CURVE, rerun), "validation/loss": (CURVE, {})},
        {"train/loss": dict.fromkeys(CURVE, difference), "epoch": dict.fromkeys(CURVE, 0.0)},
        tolerance=1e-2,
        title="t",
    )


def test_both_runs_and_their_differences_have_panels() -> None:
    figure = draw(1e-5)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["train/loss", "validation/loss"]
    last = figure.axes[-1]
    assert last.get_yscale() == "log"
    # what differs is named, what does not is drawn as equal
    legend = last.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["train/loss"]
    drawn = {float(y) for line in last.get_lines() for y in line.get_ydata()}
    assert {1e-5, 1e-2} < drawn


def test_equal_runs_are_said_to_be_equal() -> None:
    last = draw(0.0).axes[-1]
    assert "every value is the same" in [text.get_text() for text in last.texts]
    assert last.get_legend() is None
    assert all(math.isfinite(limit) and limit > 0 for limit in last.get_ylim())
