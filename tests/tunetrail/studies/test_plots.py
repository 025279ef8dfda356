"""Figures of a study: each kind of study gets those it supports, and none fails."""

import datetime as dt
import math
import random
from pathlib import Path

import optuna
import plotly.graph_objects as go
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from tunetrail.studies.plots import plot_study
from tunetrail.studies.ranking import find_best
from tunetrail.studies.report import write_report
from tunetrail.tracking.run_log import open_run

SPACE = {
    "trainer.learning_rate": FloatDistribution(1e-5, 1e-2, log=True),
    "trainer.lr_scheduler_type": CategoricalDistribution(["linear", "cosine", None]),
    "trainer.num_train_epochs": IntDistribution(1, 9),
}
NAMES = ["validation/accuracy", "validation/loss", "gap/loss", "speed/seconds"]


def make_study(count: int, *, num_objectives: int = 1, broken: bool = False) -> optuna.Study:
    """Every third trial was pruned, every seventh failed."""
    draw = random.Random(0)
    study = optuna.create_study(directions=["maximize", *["minimize"] * 3][:num_objectives])
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
            values=[value, *(draw.random() for _ in range(3))][:num_objectives]
            if complete
            else None,
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


def draw(study: optuna.Study, num_objectives: int = 1) -> dict[str, list[go.Figure]]:
    figures: dict[str, list[go.Figure]] = {}
    for figure in plot_study(study, NAMES[:num_objectives]):
        figures.setdefault(figure.layout.title.text.removesuffix(" Plot"), []).append(figure)
    return figures


def test_a_study_gets_every_figure_that_its_trials_support() -> None:
    figures = draw(make_study(40))
    assert set(figures) == {
        "Optimization History",
        "Slice",
        "Parallel Coordinate",
        "Hyperparameter Importances",
        "Intermediate Values",
        "Timeline",
    }
    (history,) = figures["Optimization History"]
    assert {NAMES[0], "Infeasible Trial", "pruned, its last value"} < {
        trace.name for trace in history.data
    }


@pytest.mark.parametrize("num_objectives", [2, 3, 4])
def test_each_pair_of_objectives_has_a_front(num_objectives: int) -> None:
    figures = draw(make_study(40, num_objectives=num_objectives), num_objectives)
    assert len(figures["Pareto-front"]) == math.comb(num_objectives, 2)
    assert len(figures["Optimization History"]) == num_objectives
    layout = figures["Pareto-front"][-1].layout
    names = (layout.xaxis.title.text, layout.yaxis.title.text)
    assert names == tuple(NAMES[num_objectives - 2 : num_objectives])


@pytest.mark.parametrize("num_objectives", [1, 2])
def test_a_trial_that_violates_a_constraint_is_never_the_best(num_objectives: int) -> None:
    figures = draw(make_study(30, num_objectives=num_objectives, broken=True), num_objectives)
    assert "Pareto-front" not in figures
    for history in figures["Optimization History"]:
        for trace in history.data:
            if trace.name == "Best Value":
                assert not any(map(math.isfinite, trace.y))


def test_importances_need_enough_trials_to_mean_something() -> None:
    assert "Hyperparameter Importances" not in draw(make_study(12))
    assert "Hyperparameter Importances" in draw(make_study(24))


@pytest.mark.parametrize("count", [0, 1, 2, 7])
@pytest.mark.parametrize("num_objectives", [1, 2])
def test_the_smallest_studies_are_drawn_without_a_warning(count: int, num_objectives: int) -> None:
    study = make_study(count, num_objectives=num_objectives)
    assert bool(plot_study(study, NAMES[:num_objectives])) == bool(count)


def test_figures_of_a_large_study_are_thinned_out_and_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The numbers of trials stay, and the best one is among them."""
    monkeypatch.setattr("tunetrail.studies.plots._MOST_LINES", 30)
    monkeypatch.setattr("tunetrail.studies.plots._MOST_PARAMS", 2)
    study = make_study(90)
    figures = {figure.layout.title.text: figure for figure in plot_study(study, NAMES[:1])}
    assert list(figures) == [
        "Optimization History Plot",
        "Slice Plot (29 of 90 trials, 2 of the parameters)",
        "Parallel Coordinate Plot (29 of 90 trials, 2 of the parameters)",
        "Hyperparameter Importances (29 of 90 trials, 2 of the parameters)",
        "Intermediate Values Plot (29 of 90 trials)",
        "Timeline Plot (29 of 90 trials)",
    ]
    lines = figures["Intermediate Values Plot (29 of 90 trials)"].data
    numbers = {int(line.name.removeprefix("Trial")) for line in lines}
    assert max(numbers) > 60
    assert find_best(study).number in numbers
    assert max(len(figure.to_json()) for figure in figures.values()) < 100_000


def test_markup_in_a_study_is_text_on_its_page(workspace: Path) -> None:
    harm = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    study = optuna.create_study(study_name="s", direction="maximize")
    for number in range(4):
        study.add_trial(
            create_trial(
                params={harm: harm, "x": number / 4},
                distributions={harm: CategoricalDistribution([harm]), "x": FloatDistribution(0, 1)},
                values=[float(number)],
                user_attrs={"failure": harm},
                constraints={harm: -1.0},
            )
        )
    with open_run(
        uri="sqlite:///mlruns/mlflow.db", experiment="e", artifact_dir="mlruns/artifacts"
    ) as run_log:
        run_log.page(plot_study(study, [harm]), "figures/study.html")
    page = Path(run_log.artifact_uri.removeprefix("file://"), "figures/study.html").read_text()
    assert harm not in page
    assert "<script>alert(1)" not in page
    assert "<img src=x" not in page
    assert "alert(1)" in page
    report = write_report(study, ["score"], {}, {3: harm})
    assert "<script>" not in report
    assert "<img" not in report
