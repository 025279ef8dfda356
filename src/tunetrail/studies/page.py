"""The interactive figures of a study, drawn by Optuna."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import optuna
import plotly.graph_objects as go
from optuna import visualization
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from tunetrail.studies.importances import find_importances
from tunetrail.studies.ranking import is_feasible
from tunetrail.studies.states import state_of


def plot_study_interactive(study: optuna.Study, objectives: Sequence[str]) -> list[go.Figure]:
    """Draw what :func:`~tunetrail.studies.plots.plot_study` does, to be hovered over."""
    figures = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # Few trials: ticks of a logarithmic axis with one value, quantiles that coincide.
        warnings.simplefilter("ignore", UserWarning)
        for plot, arguments in _plots(study, objectives):
            try:
                figures.append(plot(study, **arguments))
            except (ValueError, RuntimeError):  # what the trials so far do not support
                continue
            if plot is visualization.plot_optimization_history and len(objectives) == 1:
                _add_pruned(figures[-1], study)
    return [figure.update_layout(template="plotly_white") for figure in figures]


def _plots(
    study: optuna.Study, objectives: Sequence[str]
) -> list[tuple[Callable[..., go.Figure], dict[str, Any]]]:
    plots: list[tuple[Callable[..., go.Figure], dict[str, Any]]] = []
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    for index, objective in enumerate(objectives if complete else ()):
        shown: dict[str, Any] = {"target_name": objective}
        if len(objectives) > 1:
            shown["target"] = _value_at(index)
        plots += [
            (visualization.plot_optimization_history, shown),
            (visualization.plot_slice, shown),
            (visualization.plot_parallel_coordinate, shown),
        ]
        if find_importances(study, index):
            plots.append((visualization.plot_param_importances, shown))
    if any(trial.intermediate_values for trial in complete):
        plots.append((visualization.plot_intermediate_values, {}))
    # Without a trial that meets the constraints Optuna warns instead of drawing a front.
    if any(map(is_feasible, complete)) and 1 < len(objectives) <= 3:
        plots.append((visualization.plot_pareto_front, {"target_names": list(objectives)}))
    if any(trial.datetime_complete for trial in study.get_trials(deepcopy=False)):
        plots.append((visualization.plot_timeline, {}))
    return plots


def _add_pruned(figure: go.Figure, study: optuna.Study) -> None:
    """Put pruned trials into the history, at the last value they reported."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
    stopped = [t for t in trials if state_of(t) == "pruned" and t.intermediate_values]
    if stopped:
        figure.add_scatter(
            x=[trial.number for trial in stopped],
            y=[trial.intermediate_values[max(trial.intermediate_values)] for trial in stopped],
            mode="markers",
            marker={"symbol": "triangle-down", "color": "#E69F00"},
            name="pruned, its last value",
        )


def _value_at(index: int) -> Callable[[FrozenTrial], float]:
    return lambda trial: trial.values[index]
