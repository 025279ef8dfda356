"""Figures of a study: each kind of study gets those it supports, and none fails."""

import datetime as dt
import math
import random

import optuna
import pytest
from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from tunetrail.studies.page import plot_study_interactive
from tunetrail.studies.plots import plot_study

SPACE = {
    "trainer.learning_rate": FloatDistribution(1e-5, 1e-2, log=True),
    "trainer.lr_scheduler_type": CategoricalDistribution(["linear", "cosine", None]),
    "trainer.num_train_epochs": IntDistribution(1, 9),
}
NAMES = ["validation/accuracy", "validation/loss", "gap/loss"]


def make_study(count: int, *, num_objectives: int = 1, broken: bool = False) -> optuna.Study:
    """Every third trial was pruned, every seventh failed."""
    draw = random.Random(0)
    study = optuna.create_study(directions=["maximize", "minimize", "minimize"][:num_objectives])
    begin = dt.datetime(2026, 11, 24)  # noqa: DTZ001 - Optuna's times are local
    for number in range(count):
        rate = 10 ** draw.uniform(-5, -2)
        state = TrialState.COMPLETE
        if number % 3 == 2 and num_objectives == 1:
            state = TrialState.PRUNED
        elif number % 7 == 6:
            state = TrialState.FAIL
        complete = state is TrialState.COMPLETE
        value = 1 - abs(math.log10(rate) + 3.5) / 4
        trial = create_trial(
            state=state,
            values=[value, draw.random(), draw.random()][:num_objectives] if complete else None,
            params={
                "trainer.learning_rate": rate,
                "trainer.lr_scheduler_type": draw.choice(["linear", "cosine", None]),
                "trainer.num_train_epochs": draw.randint(1, 9),
            },
            distributions=SPACE,
            intermediate_values={1: value / 2, 2: value} if num_objectives == 1 else None,
            constraints={"gap": 1.0 if broken or draw.random() < 0.3 else -1.0},
            user_attrs={"worker": {"pid": number % 2}},
        )
        trial.datetime_start = begin + dt.timedelta(minutes=number)
        trial.datetime_complete = begin + dt.timedelta(minutes=number + 1)
        study.add_trial(trial)
    return study


def texts(figure: Figure) -> set[str]:
    legends = [label.get_text() for legend in figure.legends for label in legend.get_texts()]
    return {*legends, *(text for axes in figure.axes for text in _labels(axes))}


def _labels(axes: object) -> list[str]:
    return [axes.get_xlabel(), axes.get_ylabel(), axes.get_title()]  # type: ignore[attr-defined]


def test_a_study_gets_every_figure_that_its_trials_support() -> None:
    figures = plot_study(make_study(40), NAMES[:1])
    assert set(figures) == {
        "timeline",
        "optimization_history",
        "slice",
        "parallel_coordinate",
        "param_importances",
        "intermediate_values",
    }
    history = texts(figures["optimization_history"])
    assert {"pruned, its last value", "constraints not met", "best so far"} <= history
    assert {"learning_rate", "num_train_epochs"} <= texts(figures["slice"])


def test_several_objectives_get_a_front_and_figures_of_their_own() -> None:
    figures = plot_study(make_study(40, num_objectives=3), NAMES)
    assert {"pareto_front", "slice_gap_loss", "optimization_history_validation_loss"} <= set(
        figures
    )
    front = figures["pareto_front"]
    assert len(front.axes) == 3
    assert {"Pareto front", "constraints not met"} <= texts(front)


@pytest.mark.parametrize("num_objectives", [1, 2])
def test_a_trial_that_breaks_a_constraint_is_never_the_best(num_objectives: int) -> None:
    study = make_study(30, num_objectives=num_objectives, broken=True)
    for name, figure in plot_study(study, NAMES[:num_objectives]).items():
        assert not any(text.startswith("best") for text in texts(figure)), name
        for axes in figure.axes if name == "pareto_front" else ():
            (front,) = axes.lines
            assert len(front.get_xdata()) == 0


def test_importances_need_enough_trials_to_mean_something() -> None:
    assert "param_importances" not in plot_study(make_study(12), NAMES[:1])
    assert "param_importances" in plot_study(make_study(24), NAMES[:1])


@pytest.mark.parametrize("count", [0, 1, 2, 7])
@pytest.mark.parametrize("num_objectives", [1, 2])
def test_the_smallest_studies_are_drawn_without_a_warning(count: int, num_objectives: int) -> None:
    study = make_study(count, num_objectives=num_objectives)
    for figure in plot_study(study, NAMES[:num_objectives]).values():
        figure.canvas.draw()
    pages = plot_study_interactive(study, NAMES[:num_objectives])
    assert bool(pages) == bool(count)


def test_pruned_trials_are_in_the_interactive_history_too() -> None:
    history = plot_study_interactive(make_study(12), NAMES[:1])[0]
    assert "pruned, its last value" in {trace.name for trace in history.data}
