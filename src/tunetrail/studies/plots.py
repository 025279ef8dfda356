"""Figures of a study. Trials that do not meet the constraints are marked and never the best.

Drawn here, not by Optuna: it shows no pruned trial, labels axes until they overlap, and sets
pyplot's style for the whole process. Its interactive figures are in :mod:`.study_page`.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study import attributes
from tunetrail.studies.importances import find_importances
from tunetrail.studies.states import STATES, is_feasible, seconds_of, state_of

# Okabe and Ito's colours: told apart by every kind of colour vision.
_COLOURS = {
    "complete": "#0072B2",
    "reused": "#56B4E9",
    "pruned": "#E69F00",
    "infeasible": "#999999",
    "failed": "#D55E00",
    "interrupted": "#CC79A7",
    "running": "#009E73",
}
_BEST, _REST = "#D55E00", "#999999"
_MAX_COLUMNS = 3
# More labels than these cannot be read.
_MAX_LABELS = 40


def plot_study(study: optuna.Study, objectives: Sequence[str]) -> dict[str, Figure]:
    """Draw history, slices, parallel coordinates, importances, curves, Pareto front, timeline.

    Args:
        objectives: names of the study's values, in order. Each gets its own figures where there
            are several, and the front of each two is drawn.

    Returns:
        Figures by file name. What the trials so far do not support is left out.

    """
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    figures = {}
    if any(trial.datetime_complete for trial in trials):
        figures["timeline"] = _plot_timeline(trials)
    if not complete:
        return figures
    for index, objective in enumerate(objectives):
        suffix = "" if len(objectives) == 1 else f"_{objective.replace('/', '_')}"
        maximize = study.directions[index] is StudyDirection.MAXIMIZE
        figures[f"optimization_history{suffix}"] = _plot_history(
            trials, index, objective, maximize=maximize, single=len(objectives) == 1
        )
        if names := _names(complete):
            figures[f"slice{suffix}"] = _plot_slices(complete, names, index, objective, maximize)
        if len(names) > 1 and len(complete) > 1:
            figures[f"parallel_coordinate{suffix}"] = _plot_parallel(
                complete, names, index, objective, maximize
            )
        if importances := find_importances(study, index):
            figures[f"param_importances{suffix}"] = _plot_importances(importances, objective)
    if any(len(trial.intermediate_values) > 1 for trial in trials):
        figures["intermediate_values"] = _plot_reports(trials, objectives[0], study)
    if len(objectives) > 1:
        figures["pareto_front"] = _plot_front(study, complete, objectives)
    return figures


def _plot_history(
    trials: Sequence[FrozenTrial], index: int, objective: str, *, maximize: bool, single: bool
) -> Figure:
    figure, axes = _new_figure(f"{objective} by trial")
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    _scatter_complete(axes, [(float(t.number), t) for t in complete], index)
    # A study of several objectives has no reports: its trials cannot be pruned.
    stopped = [t for t in trials if state_of(t) == "pruned" and t.intermediate_values and single]
    if stopped:
        axes.scatter(
            [t.number for t in stopped],
            [t.intermediate_values[max(t.intermediate_values)] for t in stopped],
            s=_size(trials),
            color=_COLOURS["pruned"],
            marker="v",
            label="pruned, its last value",
        )
    failed = [t.number for t in trials if state_of(t) in ("failed", "interrupted", "infeasible")]
    if failed:
        axes.plot(
            failed,
            [0.02] * len(failed),
            "|",
            markersize=9,
            markeredgewidth=1.6,
            color=_COLOURS["failed"],
            transform=axes.get_xaxis_transform(),
            label="failed, interrupted or out of memory",
        )
    feasible = [trial for trial in complete if is_feasible(trial)]
    if feasible:
        best = np.maximum.accumulate if maximize else np.minimum.accumulate
        numbers = [trial.number for trial in feasible] + [trials[-1].number]
        reached = best([trial.values[index] for trial in feasible])
        axes.step(numbers, [*reached, reached[-1]], where="post", color=_BEST, label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(objective)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _legend(figure, axes)
    return figure


def _plot_slices(
    complete: Sequence[FrozenTrial],
    names: Sequence[str],
    index: int,
    objective: str,
    maximize: bool,
) -> Figure:
    columns = min(len(names), _MAX_COLUMNS)
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(max(3.4 * columns, 5.0), 3.2 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    best = _best(complete, index, maximize)
    for position, axes in enumerate(grid.flat):
        if position >= len(names):
            axes.set_visible(False)
            continue
        name = names[position]
        having = [trial for trial in complete if name in trial.params]
        distribution = having[-1].distributions[name]
        points = [(_place(trial.params[name], distribution), trial) for trial in having]
        _scatter_complete(axes, points, index)
        if best is not None and name in best.params:
            place = _place(best.params[name], distribution)
            axes.scatter(
                [place], [best.values[index]], s=130, facecolors="none", edgecolors=_BEST,
                linewidths=1.8, label=f"best (trial {best.number})", zorder=4,
            )  # fmt: skip
        _mark_axis(axes.xaxis, axes, distribution)
        axes.set_xlabel(name.rpartition(".")[2])
        if position % columns == 0:
            axes.set_ylabel(objective)
        _tidy(axes)
    _legend(figure, grid.flat[0])
    figure.suptitle(f"{objective} by parameter")
    return figure


def _plot_parallel(
    complete: Sequence[FrozenTrial],
    names: Sequence[str],
    index: int,
    objective: str,
    maximize: bool,
) -> Figure:
    """Draw a line for each trial through its parameters, the better the darker."""
    having = [trial for trial in complete if all(name in trial.params for name in names)]
    values = np.array([trial.values[index] for trial in having])
    figure, axes = _new_figure(
        f"{objective} by all parameters", width=max(7.0, 1.9 * (len(names) + 1))
    )
    norm = Normalize(values.min(), values.max())
    colours = ScalarMappable(norm, "viridis_r" if maximize else "viridis")
    heights = [np.asarray(norm(values))]
    axes.set_ylim(-0.04, 1.04)
    _mark_column(axes, 0, [(float(norm(v)), f"{v:.3g}") for v in _spaced(values)])
    for column, name in enumerate(names, start=1):
        distribution = having[-1].distributions[name]
        places = np.array([_place(t.params[name], distribution, as_log=True) for t in having])
        low, span = places.min(), (places.max() - places.min()) or 1.0
        heights.append((places - low) / span)
        marks = dict(zip(heights[-1], (trial.params[name] for trial in having), strict=True))
        shown = sorted(marks.items(), key=lambda mark: float(mark[0]))
        if len(shown) > 6:
            shown = [(h, _unplace(low + h * span, distribution)) for h in np.linspace(0, 1, 5)]
        _mark_column(axes, column, [(h, _text(value)) for h, value in shown])
    # The best last, on top of the others.
    for row in np.argsort(values if maximize else -values):
        axes.plot(
            range(len(heights)),
            [height[row] for height in heights],
            color=colours.to_rgba(values[row]),
            linestyle="-" if is_feasible(having[row]) else ":",
            linewidth=1.4,
            alpha=0.85 if len(having) <= 100 else 0.4,
        )
    axes.set_xticks(
        range(len(heights)), [objective, *(name.rpartition(".")[2] for name in names)],
        fontsize="small",
    )  # fmt: skip
    for label in axes.get_xticklabels():
        label.set_wrap(True)
    axes.set_xlim(-0.25, len(names) + 0.55)
    axes.yaxis.set_major_locator(NullLocator())
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    figure.colorbar(colours, ax=axes, label=objective, pad=0.01)
    if not all(map(is_feasible, having)):
        axes.set_title("dotted: constraints not met", fontsize="small", loc="left")
    return figure


def _plot_importances(importances: Mapping[str, float], objective: str) -> Figure:
    figure, axes = _new_figure(
        f"Which parameter moved {objective}", height=1.6 + 0.45 * len(importances)
    )
    names = [name.rpartition(".")[2] for name in importances][::-1]
    shares = list(importances.values())[::-1]
    axes.bar_label(
        axes.barh(names, shares, color=_COLOURS["complete"], height=0.6),
        [f"{share:.2f}" if share >= 0.01 else "< 0.01" for share in shares],
        padding=3,
    )
    axes.set_xlim(0, max(shares) * 1.12)
    axes.set_xlabel("share of the variance between trials (fANOVA)")
    axes.grid(visible=False, axis="y")
    return figure


def _plot_reports(trials: Sequence[FrozenTrial], objective: str, study: optuna.Study) -> Figure:
    figure, axes = _new_figure(f"{objective} during the trials")
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    best = _best(complete, 0, study.directions[0] is StudyDirection.MAXIMIZE)
    faint = 0.7 if len(trials) <= _MAX_LABELS else 0.25
    for trial in trials:
        if not trial.intermediate_values or state_of(trial) not in ("complete", "pruned"):
            continue
        numbers, values = zip(*sorted(trial.intermediate_values.items()), strict=True)
        state, chosen = state_of(trial), best is not None and trial.number == best.number
        axes.plot(
            numbers,
            values,
            marker="o" if state == "complete" else "v",
            markersize=4,
            color=_BEST if chosen else _COLOURS[state],
            linewidth=2.2 if chosen else 1.0,
            alpha=1.0 if chosen else faint,
            zorder=3 if chosen else 2,
            label=f"best (trial {trial.number})" if chosen else state,
        )
    axes.set_xlabel("evaluation")
    axes.set_ylabel(objective)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _legend(figure, axes)
    return figure


def _plot_front(
    study: optuna.Study, complete: Sequence[FrozenTrial], objectives: Sequence[str]
) -> Figure:
    pairs = list(combinations(range(len(objectives)), 2))
    columns = min(len(pairs), _MAX_COLUMNS)
    rows = math.ceil(len(pairs) / columns)
    figure = Figure(figsize=(max(4.2 * columns, 6.5), 4.0 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    front = study.best_trials if any(map(is_feasible, complete)) else []
    numbers = {trial.number for trial in front}
    dominated = [trial for trial in complete if trial.number not in numbers]
    for axes, (one, two) in zip(grid.flat, pairs, strict=False):
        _scatter_complete(axes, [(trial.values[one], trial) for trial in dominated], two)
        ordered = sorted(front, key=lambda trial: trial.values[one])
        axes.plot(
            [t.values[one] for t in ordered],
            [t.values[two] for t in ordered],
            "o--" if len(objectives) == 2 else "o",
            color=_BEST,
            linewidth=1.0,
            label="Pareto front",
        )
        for trial in ordered if len(ordered) <= _MAX_LABELS else ():
            axes.annotate(
                str(trial.number), (trial.values[one], trial.values[two]), xytext=(5, 4),
                textcoords="offset points", fontsize="small",
            )  # fmt: skip
        for label, index in ((axes.set_xlabel, one), (axes.set_ylabel, two)):
            label(f"{objectives[index]} ({study.directions[index].name.lower()})")
        _tidy(axes)
    for axes in grid.flat[len(pairs) :]:
        axes.set_visible(False)
    _legend(figure, grid.flat[0])
    figure.suptitle("Trials that no other beats in every objective")
    return figure


def _plot_timeline(trials: Sequence[FrozenTrial]) -> Figure:
    """Draw who worked on what when: a row for each worker, a bar for each trial."""
    shown = [t for t in trials if t.datetime_start is not None and t.datetime_complete is not None]
    workers = list(dict.fromkeys(str(t.user_attrs.get(attributes.WORKER)) for t in shown))
    begin = min(t.datetime_start for t in shown if t.datetime_start is not None)
    longest = max(
        (t.datetime_complete - begin).total_seconds() for t in shown if t.datetime_complete
    )
    unit, seconds = ("hours", 3600) if longest > 7200 else ("minutes", 60)
    figure, axes = _new_figure("Trials over time", width=9.0, height=1.8 + 0.5 * len(workers))
    for trial in shown:
        assert trial.datetime_start is not None
        start = (trial.datetime_start - begin).total_seconds() / seconds
        width = (seconds_of(trial) or 0.0) / seconds
        row = workers.index(str(trial.user_attrs.get(attributes.WORKER)))
        # A trial of no length, such as a reused one, is still a line.
        axes.barh(
            row, width, left=start, height=0.7, color=_COLOURS[state_of(trial)],
            edgecolor="white" if width * seconds > longest / 200 else _COLOURS[state_of(trial)],
            linewidth=0.6,
        )  # fmt: skip
        if width * seconds > longest / 60:
            axes.text(
                start + width / 2, row, str(trial.number), ha="center", va="center",
                color="white", fontsize="x-small", clip_on=True,
            )  # fmt: skip
    axes.set_yticks(range(len(workers)), [f"worker {n + 1}" for n in range(len(workers))])
    axes.invert_yaxis()
    axes.set_xlabel(f"{unit} since {begin:%Y-%m-%d %H:%M}")
    axes.grid(visible=False, axis="y")
    states = {state_of(trial) for trial in shown}
    handles = [Patch(color=_COLOURS[name], label=name) for name in STATES if name in states]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False,
        fontsize="small",
    )  # fmt: skip
    return figure


def _scatter_complete(axes: Axes, points: Sequence[tuple[float, FrozenTrial]], index: int) -> None:
    """Draw complete trials at the places given, those that break a constraint apart."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for place, trial in points:
        label = state_of(trial) if is_feasible(trial) else "constraints not met"
        groups.setdefault(label, []).append((place, trial.values[index]))
    size = _size(points)
    for label, members in groups.items():
        xs, ys = zip(*members, strict=True)
        if label == "constraints not met":
            axes.scatter(xs, ys, s=size, color=_REST, marker="x", label=label, zorder=2)
        else:
            axes.scatter(xs, ys, s=size, color=_COLOURS[label], label=label, zorder=3)


def _size(points: Sequence[object]) -> int:
    """Area of a marker, in points squared."""
    return 36 if len(points) <= 200 else 12


def _best(complete: Sequence[FrozenTrial], index: int, maximize: bool) -> FrozenTrial | None:
    feasible = [trial for trial in complete if is_feasible(trial)]
    sign = 1 if maximize else -1
    return max(feasible, key=lambda trial: sign * trial.values[index], default=None)


def _names(complete: Sequence[FrozenTrial]) -> list[str]:
    """List the parameters in which these trials differ."""
    names = dict.fromkeys(name for trial in complete for name in trial.params)
    if len(complete) == 1:
        return list(names)
    return [name for name in names if len({str(t.params.get(name)) for t in complete}) > 1]


def _place(value: Any, distribution: BaseDistribution, *, as_log: bool = False) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return float(distribution.choices.index(value))
    return math.log10(value) if as_log and getattr(distribution, "log", False) else float(value)


def _unplace(place: float, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[round(place)]
    return 10**place if getattr(distribution, "log", False) else place


def _mark_axis(axis: Any, axes: Axes, distribution: BaseDistribution) -> None:
    if isinstance(distribution, CategoricalDistribution):
        axis.set_ticks(range(len(distribution.choices)), map(_text, distribution.choices))
        axes.margins(x=0.15)
    elif getattr(distribution, "log", False):
        axes.set_xscale("log")
        low, high = axis.get_view_interval()
        subs = (1.0, 2.0, 5.0) if high / low < 30 else (1.0,)
        axis.set_major_locator(LogLocator(subs=subs, numticks=6))
        axis.set_major_formatter(FuncFormatter(lambda value, _: _text(float(value))))
        axis.set_minor_locator(NullLocator())
    else:
        whole = isinstance(distribution, optuna.distributions.IntDistribution)
        axis.set_major_locator(MaxNLocator(nbins=5, integer=whole, min_n_ticks=1))


def _mark_column(axes: Axes, column: int, marks: Sequence[tuple[float, str]]) -> None:
    axes.axvline(column, color="#555555", linewidth=0.8)
    for height, text in marks:
        axes.annotate(
            text, (column, height), xytext=(4, 0), textcoords="offset points", va="center",
            fontsize="x-small", zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
        )  # fmt: skip


def _spaced(values: np.ndarray) -> np.ndarray:
    return np.linspace(values.min(), values.max(), 5 if values.min() < values.max() else 1)


def _text(value: object) -> str:
    if not isinstance(value, float):
        text = str(value)
        return text if len(text) <= 14 else text[:13] + "…"
    return f"{value:.2g}".replace("e-0", "e-").replace("e+0", "e")


def _new_figure(title: str, *, width: float = 7.0, height: float = 4.2) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    figure.suptitle(title)
    _tidy(axes)
    return figure, axes


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, axes: Axes) -> None:
    """Below the axes, where it hides nothing; one entry for each label."""
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    if unique:
        figure.legend(
            unique.values(), unique.keys(), loc="outside lower center", ncols=min(len(unique), 4),
            frameon=False, fontsize="small",
        )  # fmt: skip
