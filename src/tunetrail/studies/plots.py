"""The interactive figures of a study, drawn by Optuna."""

import warnings
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import optuna
import plotly.graph_objects as go
from optuna import visualization
from optuna.exceptions import ExperimentalWarning
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from tunetrail.studies.ranking import find_best, is_feasible
from tunetrail.studies.states import state_of

# With fewer complete trials for each parameter, importances show chance.
_TRIALS_PER_PARAM = 4
# A figure with a point for each trial, and one with a line, or for which time grows faster than the
# number of trials, as for importances; more are thinned out evenly.
_MOST_POINTS, _MOST_LINES = 5_000, 300
# More parameters beside each other cannot be read: the first ones are drawn.
_MOST_PARAMS = 10
# Choices of a parameter whose importance is estimated.
_MOST_CHOICES = 20

_Plot = tuple[Callable[..., go.Figure], dict[str, Any]]
_HAVE_POINTS = (visualization.plot_optimization_history, visualization.plot_pareto_front)


class _Part(optuna.Study):
    """A study of which only some trials are seen, with their numbers."""

    def __init__(self, study: optuna.Study, numbers: Iterable[int]) -> None:
        super().__init__(study.study_name, study._storage)  # noqa: SLF001 - no public name
        self._numbers = frozenset(numbers)

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = super().get_trials(deepcopy=deepcopy, states=states)
        return [trial for trial in trials if trial.number in self._numbers]


def plot_study(study: optuna.Study, objectives: Sequence[str]) -> list[go.Figure]:
    """Draw history, slices, parallel coordinates, importances, curves, Pareto fronts, timeline.

    Figures that the trials so far do not support are left out.

    Args:
        objectives: names of the study's values, in order. If there are several, each has its own
            figures, and each pair of them has a front.

    """
    figures = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # Few trials: ticks of a logarithmic axis with one value, quantiles that coincide.
        warnings.simplefilter("ignore", UserWarning)
        for plot, arguments in _choose_plots(study, objectives):
            try:
                part = _thin(study, _MOST_POINTS if plot in _HAVE_POINTS else _MOST_LINES)
                figures.append(plot(part, **arguments))
            except (ValueError, RuntimeError):  # such as no parameter that all trials have
                continue
            _say_what_is_left_out(figures[-1], study, part, arguments)
            if plot is visualization.plot_optimization_history and len(objectives) == 1:
                _add_pruned(figures[-1], study)
    return [figure.update_layout(template="plotly_white") for figure in figures]


def _thin(study: optuna.Study, most: int) -> optuna.Study:
    """Return a study with at most so many trials, spread evenly; the best one is among them."""
    trials = study.get_trials(deepcopy=False)
    if len(trials) <= most:
        return study
    places = np.linspace(0, len(trials) - 1, most - 1).astype(int)
    best = find_best(study)
    kept = [trials[place].number for place in places]
    return _Part(study, kept if best is None else [*kept, best.number])


def _say_what_is_left_out(
    figure: go.Figure, study: optuna.Study, part: optuna.Study, arguments: Mapping[str, Any]
) -> None:
    shown, whole = len(part.get_trials(deepcopy=False)), len(study.get_trials(deepcopy=False))
    notes = [f"{shown:,} of {whole:,} trials"] * (shown < whole)
    names = {name for trial in study.get_trials(deepcopy=False) for name in trial.params}
    if len(params := arguments.get("params", names)) < len(names):
        notes.append(f"{len(params)} of the parameters")
    if notes:
        figure.update_layout(title=f"{figure.layout.title.text} ({', '.join(notes)})")


def _choose_plots(study: optuna.Study, objectives: Sequence[str]) -> Iterator[_Plot]:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    for index, objective in enumerate(objectives if complete else ()):
        target = {} if len(objectives) == 1 else {"target": _value_at(index)}
        arguments = {"target_name": objective, **target}
        yield visualization.plot_optimization_history, arguments
        names = list(dict.fromkeys(name for trial in complete for name in trial.params))
        if len(names) > _MOST_PARAMS:
            arguments = {**arguments, "params": names[:_MOST_PARAMS]}
        yield visualization.plot_slice, arguments
        yield visualization.plot_parallel_coordinate, arguments
        if _has_importances(complete, index):
            evaluator = FanovaImportanceEvaluator(seed=0)
            few = _few_choices(complete, names[:_MOST_PARAMS])
            # Named, because references have none of them.
            arguments = {**arguments, "params": few, "evaluator": evaluator}
            yield visualization.plot_param_importances, arguments
    if any(trial.intermediate_values for trial in complete):
        yield visualization.plot_intermediate_values, {}
    # Without a trial that meets the constraints Optuna warns instead of drawing a front.
    if any(map(is_feasible, complete)):
        for pair in combinations(range(len(objectives)), 2):
            names = [objectives[index] for index in pair]
            arguments = {"targets": _values_at(pair), "target_names": names}
            yield visualization.plot_pareto_front, arguments
    if any(trial.datetime_complete for trial in study.get_trials(deepcopy=False)):
        yield visualization.plot_timeline, {}


def _few_choices(trials: Sequence[FrozenTrial], names: Sequence[str]) -> list[str]:
    """Leave out what has many choices: each is a column of the trees, and that takes minutes."""
    of = {name: found for trial in trials for name, found in trial.distributions.items()}
    return [name for name in names if len(getattr(of[name], "choices", ())) <= _MOST_CHOICES]


def _has_importances(complete: Sequence[FrozenTrial], index: int) -> bool:
    """Whether there are several parameters, different values, and enough trials."""
    own = [trial for trial in complete if state_of(trial) == "complete"]
    names = {name for trial in own for name in trial.params}
    values = {trial.values[index] for trial in own}
    return len(names) > 1 and len(values) > 1 and len(own) >= _TRIALS_PER_PARAM * len(names)


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


def _values_at(pair: Sequence[int]) -> Callable[[FrozenTrial], list[float]]:
    return lambda trial: [trial.values[index] for index in pair]
