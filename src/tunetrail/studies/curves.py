"""The objective over a searched number, with its spread over seeds."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    EngFormatter,
    FixedLocator,
    LogLocator,
    MaxNLocator,
    NullLocator,
    StrMethodFormatter,
)
from optuna.trial import FrozenTrial

from hydra_plugins.optuna_study import attributes
from tunetrail.studies.ranking import rank
from tunetrail.templates import caption, short

# Okabe and Ito's colours.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE, MARK = _COLOURS[0], "#555555"
# From this ratio of the largest to the smallest value on, an axis is logarithmic.
_WIDE = 8
# So many values of a parameter each get a tick.
_MOST_TICKS = 8
# From here on numbers are written as 1k, 1M, …
_LARGE = 1000

# What else a trial has beside the parameter on the axis -> its value there -> all its scores, shape
# (seeds, objectives).
_Groups = Mapping[tuple[object, ...], Mapping[float, np.ndarray[Any, Any]]]


def plot_curves(
    study: optuna.Study, objectives: Sequence[str], *, baselines: Mapping[str, float]
) -> dict[str, Figure]:
    """Draw every objective over each searched number, by the name of the parameter.

    Trials that are equal in all other parameters are a line. A number over which there are more
    lines than colours, or a line has only one point, has no figure.

    Args:
        objectives: names of the study's values, in order.
        baselines: of objectives, drawn as a line; may be empty.

    """
    trials = [trial for trial in rank(study) if trial.params]
    names = sorted({name for trial in trials for name in trial.params})
    varying = [name for name in names if len({t.params.get(name) for t in trials}) > 1]
    figures = {}
    for name in varying:
        others = [other for other in varying if other != name]
        groups = _group(trials, name, others)
        points = [len(line) for line in groups.values()]
        if points and min(points) > 1 and len(points) <= len(_COLOURS):
            figures[name] = _plot(groups, name, others, objectives, baselines)
    return figures


def _group(trials: Sequence[FrozenTrial], name: str, others: Sequence[str]) -> _Groups:
    groups: dict[tuple[object, ...], dict[float, np.ndarray[Any, Any]]] = defaultdict(dict)
    for trial in trials:
        value = trial.params.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return {}
        key = tuple(trial.params.get(other) for other in others)
        scores = trial.user_attrs.get(attributes.REPEATS) or [trial.values]
        groups[key].setdefault(value, np.asarray(scores, dtype=float))
    return dict(sorted(groups.items(), key=lambda item: [str(part) for part in item[0]]))


def _plot(
    groups: _Groups,
    name: str,
    others: Sequence[str],
    objectives: Sequence[str],
    baselines: Mapping[str, float],
) -> Figure:
    figure = Figure(figsize=(1.4 + 5.4 * len(objectives), 4.4), layout="constrained")
    panels = figure.subplots(1, len(objectives), squeeze=False)[0]
    seeds = max(len(scores) for line in groups.values() for scores in line.values())
    for index, (axes, objective) in enumerate(zip(panels, objectives, strict=True)):
        for (key, line), colour in zip(groups.items(), _COLOURS, strict=False):
            label = ", ".join(
                f"{other.rpartition('.')[2]}={caption(short(value))}"
                for other, value in zip(others, key, strict=True)
            )
            scores = {value: line[value][:, index] for value in sorted(line)}
            _plot_line(axes, scores, colour, label or "mean over seeds" * (seeds > 1))
        if objective in baselines:
            axes.axhline(
                baselines[objective], color=MARK, linestyle=":", label="baseline", zorder=1
            )
        spread_axis(axes, [value for line in groups.values() for value in line])
        axes.set_xlabel(name)
        axes.set_ylabel(objective)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[1]:
            legend = axes.legend(frameon=False, fontsize="small")
            for text in legend.get_texts():
                text.set_parse_math(False)
    spread = f"\nband: ± a standard deviation over {seeds} seeds; dots: seeds" if seeds > 1 else ""
    figure.suptitle(f"{', '.join(objectives)} over {name}{spread}", fontsize="medium")
    return figure


def _plot_line(
    axes: Axes, scores: Mapping[float, np.ndarray[Any, Any]], colour: str, label: str
) -> None:
    values = list(scores)
    means = np.array([found.mean() for found in scores.values()])
    if all(len(found) > 1 for found in scores.values()):
        spread = np.array([found.std(ddof=1) for found in scores.values()])
        axes.fill_between(
            values, means - spread, means + spread, color=colour, alpha=0.15, linewidth=0
        )
        for value, found in scores.items():
            axes.scatter([value] * len(found), found, s=14, color=colour, alpha=0.5, linewidths=0)
    axes.plot(values, means, "o-", color=colour, label=label or None)


def spread_axis(axes: Axes, values: Sequence[float]) -> None:
    """Make the x axis logarithmic where values are far apart, linear from 0 to the least of them.

    Few whole numbers each get a tick, and small shares no more than there is room for.
    """
    distinct = sorted({float(value) for value in values})
    above = [value for value in distinct if value > 0]
    axes.xaxis.set_major_locator(MaxNLocator(6))
    if distinct[0] >= 0 and above and (ratio := distinct[-1] / above[0]) > _WIDE:
        room = ratio**0.15
        if distinct[0] == 0:
            axes.set_xscale("symlog", linthresh=above[0], linscale=0.5)
            axes.set_xlim(-0.3 * above[0], distinct[-1] * room)
        else:
            axes.set_xscale("log")
            axes.set_xlim(above[0] / room, distinct[-1] * room)
            if ratio < 100:
                axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        large = distinct[-1] >= _LARGE and above[0] >= 1
        axes.xaxis.set_major_formatter(
            EngFormatter(sep="") if large else StrMethodFormatter("{x:g}")
        )
    if len(distinct) <= _MOST_TICKS and all(value == int(value) < _LARGE for value in distinct):
        axes.xaxis.set_major_locator(FixedLocator(distinct))
