"""Figures of a study, drawn by Optuna: as pictures, and as one interactive page."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import optuna
import plotly.graph_objects as go
from matplotlib.figure import Figure
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState

Target = Callable[[optuna.trial.FrozenTrial], float]


def plot_study(study: optuna.Study, objectives: list[str]) -> dict[str, Figure]:
    """Draw history, importances, parallel coordinates, slices, intermediate values, Pareto front.

    Args:
        objectives: names of the study's values, in order. Each gets its own figures where there
            are several; the Pareto front is drawn for two or three.

    Returns:
        Figures by file name. What the trials so far do not support is left out: importances
        need two finished trials that differ.

    """
    mpl.use("Agg")
    # Choices that look like numbers are drawn as the categories they are; matplotlib would say so.
    logging.getLogger("matplotlib.category").setLevel(logging.WARNING)
    from matplotlib import pyplot as plt
    from optuna.visualization import matplotlib as drawn

    figures = {}
    for name, plot, arguments in _plots(drawn, study, objectives):
        # Optuna sets a style for the whole process: rc_context puts ours back.
        with _quiet(), mpl.rc_context():
            try:
                axes = plot(study, **arguments)
            except (ValueError, RuntimeError):
                continue
        figure: Any = getattr(axes, "figure", None)
        if figure is None:  # slice gives an array of axes
            figure = axes.flat[0].figure
        figure.set_size_inches(max(7.0, figure.get_size_inches()[0]), 4.5)
        # Out of pyplot's hands: it would keep every figure of the process alive.
        plt.close(figure)
        figures[name] = figure
    return figures


def plot_study_interactive(study: optuna.Study, objectives: list[str]) -> list[go.Figure]:
    """Draw the same as :func:`plot_study`, to be hovered over and zoomed."""
    from optuna import visualization

    figures = []
    for _, plot, arguments in _plots(visualization, study, objectives):
        with _quiet():
            try:
                figures.append(plot(study, **arguments).update_layout(template="plotly_white"))
            except (ValueError, RuntimeError):
                continue
    return figures


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # Optuna marks its whole matplotlib module as experimental.
        warnings.simplefilter("ignore", ExperimentalWarning)
        # Few trials: ticks of a logarithmic axis with one value, quantiles that coincide.
        warnings.simplefilter("ignore", UserWarning)
        yield


def _plots(
    module: Any, study: optuna.Study, objectives: list[str]
) -> list[tuple[str, Callable[..., Any], dict[str, Any]]]:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return []
    single = len(objectives) == 1
    plots: list[tuple[str, Callable[..., Any], dict[str, Any]]] = []
    for index, objective in enumerate(objectives):
        suffix = "" if single else f"_{objective.replace('/', '_')}"
        shown: dict[str, Any] = {"target_name": objective}
        if not single:
            shown["target"] = _value_at(index)
        plots += [
            (f"optimization_history{suffix}", module.plot_optimization_history, shown),
            (f"param_importances{suffix}", module.plot_param_importances, shown),
            (f"parallel_coordinate{suffix}", module.plot_parallel_coordinate, shown),
            (f"slice{suffix}", module.plot_slice, shown),
        ]
    if single:
        plots.append(("intermediate_values", module.plot_intermediate_values, {}))
    elif len(objectives) <= 3:
        plots.append(("pareto_front", module.plot_pareto_front, {"target_names": objectives}))
    return plots


def _value_at(index: int) -> Target:
    return lambda trial: trial.values[index]
