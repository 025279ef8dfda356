"""The figures and the table of a study: scores over searched numbers, and against costs."""

from typing import Any

import optuna
import pytest
from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial

from hydra_plugins.optuna_study import attributes
from tunetrail.studies.costs import find_baselines, label_trials, list_costs, plot_costs
from tunetrail.studies.curves import plot_curves
from tunetrail.tracking.run_log import RunSummary

NAME = "validation/accuracy"
CHOICES = CategoricalDistribution([0, 1, 2, 4, 8, 16])
METHODS = CategoricalDistribution(["lora", "full", "in_context"])
RATES = FloatDistribution(1e-5, 1e-1, log=True)


def make_study(
    trials: list[tuple[dict[str, Any], list[float]]], direction: str = "maximize"
) -> optuna.Study:
    """Trials as (parameters, scores of the seeds)."""
    known = {"data.per_label": CHOICES, "method": METHODS, "trainer.learning_rate": RATES}
    study = optuna.create_study(direction=direction)
    for params, scores in trials:
        attrs = {attributes.REPEATS: [[score] for score in scores]} if len(scores) > 1 else {}
        study.add_trial(
            create_trial(
                params=params,
                distributions={name: known[name] for name in params},
                value=sum(scores) / len(scores),
                user_attrs=attrs,
            )
        )
    return study


def draw(study: optuna.Study, **baselines: float) -> dict[str, Figure]:
    figures = plot_curves(study, [NAME], baselines=baselines)
    for figure in figures.values():
        figure.canvas.draw_idle()
        figure.savefig("/dev/null", format="png")
    return figures


def test_a_curve_has_mean_band_and_dots_of_the_seeds() -> None:
    study = make_study([({"data.per_label": k}, [0.4, 0.5 + k / 100]) for k in CHOICES.choices])
    figures = draw(study, **{NAME: 0.42})
    assert list(figures) == ["data.per_label"]
    (axes,) = figures["data.per_label"].axes
    line, baseline = axes.lines
    assert list(line.get_xdata()) == [0, 1, 2, 4, 8, 16]
    assert list(line.get_ydata())[:2] == pytest.approx([0.45, 0.455])
    assert list(baseline.get_ydata()) == [0.42, 0.42]
    assert len(axes.collections) == 1 + 6
    assert axes.get_xscale() == "symlog"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("data.per_label", NAME)


def test_each_choice_of_what_else_is_searched_has_a_line() -> None:
    study = make_study(
        [
            ({"data.per_label": k, "method": m}, [0.5 + k / 100])
            for k in (1, 16)
            for m in ("lora", "full")
        ]
    )
    figures = draw(study)
    assert list(figures) == ["data.per_label"]
    (axes,) = figures["data.per_label"].axes
    assert [line.get_label() for line in axes.lines] == ["method=full", "method=lora"]
    assert axes.get_xscale() == "log"


@pytest.mark.parametrize(
    "trials",
    [
        [],
        [({"data.per_label": 1}, [0.5])],
        [({"method": "lora"}, [0.5]), ({"method": "full"}, [0.6])],
        [({"trainer.learning_rate": 10.0**-k, "data.per_label": k}, [0.5]) for k in (1, 2, 4)],
    ],
    ids=["none", "one", "no number", "no two that differ in one number"],
)
def test_trials_that_are_no_line_have_no_curve(
    trials: list[tuple[dict[str, Any], list[float]]],
) -> None:
    assert not draw(make_study(trials))


def run(weights: int, seconds: float, *, score: float, baseline: float = 0.4) -> RunSummary:
    metrics = {
        "model/trainable_parameters": float(weights),
        "speed/seconds": seconds,
        "best/standard_error": 0.02,
        f"best/{NAME}": score,
        "best/above_baseline": score - baseline,
    }
    return RunSummary("id", {}, metrics)


def test_a_study_whose_trials_train_different_weights_has_a_table_of_costs() -> None:
    study = make_study(
        [
            ({"method": "lora"}, [0.5]),
            ({"method": "in_context"}, [0.3]),
            ({"method": "full"}, [0.6]),
        ]
    )
    runs = {
        0: [run(1000, 20.0, score=0.5)],
        1: [run(0, 3.0, score=0.3)],
        2: [run(135_000_000, 60.0, score=0.6)],
    }
    table = list_costs(study, [NAME], runs, main_metric="accuracy")
    assert list(table["method"]) == ["full", "lora", "in_context"]
    assert list(table["trainable parameters"]) == [135_000_000, 1000, 0]
    assert list(table["seconds"]) == [60.0, 20.0, 3.0]
    assert list(table[f"± {NAME}"]) == pytest.approx([0.0392] * 3)
    baselines = find_baselines(study, [NAME], runs, main_metric="accuracy")
    assert baselines == {NAME: pytest.approx(0.4)}
    figure = plot_costs(table, NAME, baselines=baselines)
    figure.savefig("/dev/null", format="png")
    weights, seconds = figure.axes
    assert (weights.get_xscale(), seconds.get_xscale()) == ("symlog", "log")
    assert [text.get_text() for text in weights.texts] == ["full", "lora", "in_context"]


def test_costs_of_several_seeds_are_means_and_spreads() -> None:
    study = make_study([({"method": "lora"}, [0.5, 0.7]), ({"method": "full"}, [0.6, 0.6])])
    runs = {
        0: [run(10, 1.0, score=0.5), run(10, 3.0, score=0.7)],
        1: [run(20, 5.0, score=0.6), run(20, 5.0, score=0.6)],
    }
    table = list_costs(study, [NAME], runs, main_metric="accuracy").set_index("method")
    assert dict(table.loc["lora"][["runs", "seconds"]]) == {"runs": 2, "seconds": 2.0}
    assert table.loc["lora", f"± {NAME}"] == pytest.approx(0.1414, abs=1e-4)


def test_trials_are_told_apart_by_their_numbers_with_names_whatever_a_reference_sets() -> None:
    study = optuna.create_study(direction="maximize")
    library = {"trainer.learning_rate": 5e-5, "trainer.weight_decay": 0.1, "model.layers": [1, 2]}
    attrs = {attributes.REFERENCE: "library", attributes.REFERENCE_VALUES: library}
    study.add_trial(create_trial(value=0.7, user_attrs={**attrs, attributes.FINALIST_OF: 3}))
    for score, rate, number in ((0.6, 2.279e-4, 16), (0.5, 1e-4, 8)):
        study.add_trial(
            create_trial(
                params={"trainer.learning_rate": rate, "data.per_label": number},
                distributions={"trainer.learning_rate": RATES, "data.per_label": CHOICES},
                value=score,
            )
        )
    runs = {number: [run(number, 1.0, score=0.5)] for number in range(3)}
    table = list_costs(study, [NAME], runs, main_metric="accuracy")
    assert list(table["trial"]) == [3, 1, 2]
    assert label_trials(table) == [
        "lr 5e-5, wd 0.1, layers [1, 2]",
        "lr 2.3e-4, per label 16",
        "lr 1e-4, per label 8",
    ]


def test_whole_numbers_stay_whole_and_keys_with_one_last_part_apart() -> None:
    names = {"trainer.max_steps": 1, "trainer.size": 2, "model.size": 3}
    numbers = dict.fromkeys(names, IntDistribution(1, 5000))
    study = optuna.create_study(direction="maximize")
    for score, steps in ((0.6, 1024), (0.5, 1020)):
        params = {**names, "trainer.max_steps": steps, "model.size": steps}
        study.add_trial(create_trial(params=params, distributions=numbers, value=score))
    library = {attributes.REFERENCE: "library", attributes.REFERENCE_VALUES: {"warmup": 0.5}}
    study.add_trial(create_trial(value=0.4, user_attrs=library))
    runs = {number: [run(number, 1.0, score=0.5)] for number in range(3)}
    table = list_costs(study, [NAME], runs, main_metric="accuracy")
    assert list(table.columns[1:5]) == ["max_steps", "trainer.size", "model.size", "warmup"]
    assert list(table["model.size"][:2]) == [1024, 1020]
    assert label_trials(table[:2]) == ["1024 steps, size 1024", "1020 steps, size 1020"]


def test_equal_weights_or_unknown_costs_are_no_table() -> None:
    study = make_study([({"method": "lora"}, [0.5]), ({"method": "full"}, [0.6])])
    equal = {n: [run(10, 1.0, score=0.5)] for n in (0, 1)}
    assert list_costs(study, [NAME], equal, main_metric="accuracy").empty
    assert list_costs(study, [NAME], {}, main_metric="accuracy").empty


def test_baselines_that_differ_or_are_of_another_metric_are_not_drawn() -> None:
    study = make_study([({"method": "lora"}, [0.5]), ({"method": "full"}, [0.6])])
    runs = {n: [run(10, 1.0, score=0.5, baseline=0.4 + n / 10)] for n in (0, 1)}
    assert find_baselines(study, [NAME], runs, main_metric="accuracy") == {}
    assert find_baselines(study, [NAME], runs, main_metric="macro_f1") == {}
