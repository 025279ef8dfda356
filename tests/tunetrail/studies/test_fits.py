"""Which trials of a study overfit, and where."""

from dataclasses import replace
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial

from hydra_plugins.optuna_study import attributes
from tunetrail.evaluation.fit import Verdict
from tunetrail.studies.fits import describe_fits, describe_stop, find_where, list_fits, plot_fits
from tunetrail.studies.report import write_report

SPACE = {
    "trainer.learning_rate": FloatDistribution(1e-5, 1e-1, log=True),
    "trainer.num_train_epochs": IntDistribution(1, 20),
    "method": CategoricalDistribution(["full", "lora"]),
}


def make_study(fits: list[tuple[dict[str, Any], str]], *, num_runs: int = 1) -> optuna.Study:
    """Trials as (parameters, verdict); the last one is the best."""
    study = optuna.create_study(direction="maximize", study_name="some")
    for number, (params, verdict) in enumerate(fits):
        run = {
            "verdict": verdict,
            "gap": 0.1 * number,
            "loss_rise": 0.2,
            "begins_epoch": 3.0 if verdict == "overfitting" else None,
            "epoch": 5.0,
            "stopped_early": "2 evaluations without a better validation_loss" if number else "",
            "beats_baseline": False,
            "against_baseline": "no better than a linear model of words",
        }
        study.add_trial(
            create_trial(
                params=params,
                distributions={name: SPACE[name] for name in params},
                value=number / 100,
                user_attrs={attributes.FITS: [run] * num_runs},
            )
        )
    return study


def grid(*, edge: float) -> list[tuple[dict[str, Any], str]]:
    """Twelve points, of which those with a learning rate from the edge on overfit."""
    return [
        (
            {"trainer.learning_rate": rate, "trainer.num_train_epochs": epochs, "method": "full"},
            "overfitting" if rate >= edge else "good fit",
        )
        for epochs in (1, 2, 4)
        for rate in (1e-4, 3e-4, 1e-3, 3e-3)
    ]


def test_where_trials_overfit_is_said_with_its_numbers() -> None:
    study = make_study(grid(edge=1e-3))
    counts, where, best = describe_fits(study)
    # Six each: no verdict comes first by its number.
    assert counts == "Of 12 trials: 6 good fit, 6 overfitting"
    assert where.startswith(
        "Overfitting in 6 of 12 trials: from trainer.learning_rate=0.001 in 6 of 6, elsewhere in "
        "0 of 6 (p "
    )
    assert best == "Trial 11, the best: no better than a linear model of words"
    report = write_report(study, ["validation/accuracy"], {}, {})
    assert "## Fit and baselines" in report
    assert where in report
    assert "| 11 | overfitting | +1.100 | 20.0% | 3 |" in report
    assert "stopped early at epoch 5" in report
    assert describe_stop(study.trials[0]) == ""


def test_learning_rate_times_epochs_may_be_the_edge() -> None:
    points = [
        (params, params["trainer.learning_rate"] * params["trainer.num_train_epochs"])
        for params, _ in grid(edge=1.0)
    ]
    study = make_study([(p, "overfitting" if far > 1.1e-3 else "good fit") for p, far in points])
    where = find_where(list_fits(study))
    assert where is not None
    assert ": from trainer.learning_rate x trainer.num_train_epochs=0.0012 in 6 of 6" in where


def test_what_may_be_chance_is_not_said() -> None:
    """Verdicts that do not depend on the parameters have an edge in one study of twenty."""
    draw = np.random.default_rng(0)
    said = 0
    for _ in range(200):
        points = [
            (params, "overfitting" if draw.random() < 0.5 else "good fit")
            for params, _ in grid(edge=1.0)
        ]
        said += find_where(list_fits(make_study(points))) is not None
    assert said <= 16  # 5 %, and two standard errors
    for edge in (0.0, 1.0):
        assert find_where(list_fits(make_study(grid(edge=edge)))) is None


def test_the_figure_has_a_mark_for_each_trial_and_a_name_for_each_verdict() -> None:
    points = [(params, [*Verdict][n % 8]) for n, (params, _) in enumerate(grid(edge=1.0))]
    figure = plot_fits(list_fits(make_study([(p, str(v)) for p, v in points])))
    assert figure is not None
    figure.savefig("/dev/null", format="png")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "trainer.learning_rate"
    assert axes.get_ylabel() == "trainer.num_train_epochs"
    assert sum(len(part.get_offsets()) for part in axes.collections) == 12
    named = {text.get_text().rpartition(" (")[0] for text in axes.get_legend().get_texts()}
    assert named == {str(verdict) for verdict in Verdict}


def test_without_numbers_or_verdicts_there_is_no_figure() -> None:
    assert plot_fits([]) is None
    assert describe_fits(make_study([])) == []
    assert describe_fits(make_study(grid(edge=1.0)[:1]))[0] == "Of 1 trial: 1 good fit"
    study = make_study([({"method": "full"}, "good fit"), ({"method": "lora"}, "good fit")])
    assert plot_fits(list_fits(study)) is None
    # In-context learning: of trials without training a map of the fit says nothing.
    fits = list_fits(make_study(grid(edge=1.0)))
    untrained = [replace(fit, runs=[{**run, "epoch": 0.0} for run in fit.runs]) for fit in fits]
    assert plot_fits(untrained) is None
    assert "Fit" not in write_report(make_study([]), ["validation/accuracy"], {}, {})


def test_of_several_runs_the_verdict_is_that_of_most() -> None:
    study = make_study(grid(edge=1e-3), num_runs=3)
    attrs = study.trials[0].user_attrs[attributes.FITS]
    assert [run["verdict"] for run in attrs] == ["good fit"] * 3
    assert list_fits(study)[0].verdict is Verdict.GOOD
    assert describe_fits(study)[-1].startswith("Trial 11, the best, by its last of 3 runs: ")
