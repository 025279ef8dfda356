"""The verdict follows from the curves."""

import math

import pytest

from tunetrail.evaluation.fit import FitReport, Verdict, check_fit
from tunetrail.tasks.base import Metric
from tunetrail.training.evaluations import Evaluation


def judge(
    train: list[float], validation: list[float], losses: list[float], best: int = -1
) -> FitReport:
    evaluations = [
        Evaluation(
            number=i + 1,
            step=10 * (i + 1),
            epoch=float(i + 1),
            train={"accuracy": train[i], "loss": losses[i]},
            validation={"accuracy": validation[i], "loss": losses[i]},
        )
        for i in range(len(train))
    ]
    return check_fit(
        evaluations,
        evaluations[best],
        main_metric="accuracy",
        metric=Metric(),
        baseline_score=0.42,
        noise={
            name: math.sqrt(score * (1 - score) / num_rows)
            for name, score, num_rows in (
                ("train", train[best], 300),
                ("validation", validation[best], 1000),
            )
        },
    )


@pytest.mark.parametrize(
    ("train", "validation", "losses", "verdict"),
    [
        ([0.43, 0.44], [0.42, 0.43], [1.08, 1.07], Verdict.NO_BETTER_THAN_BASELINE),
        ([0.70, 0.80], [0.70, 0.78], [0.80, 0.60], Verdict.UNDERFITTING),
        ([0.76, 0.79], [0.75, 0.77], [0.60, 0.598], Verdict.GOOD),
        ([0.80, 0.95], [0.74, 0.75], [0.60, 0.595], Verdict.OVERFITTING),
        ([0.76, 0.78], [0.75, 0.76], [0.60, 0.70], Verdict.OVERFITTING),
        ([0.95, 0.99], [0.43, 0.43], [1.20, 1.19], Verdict.OVERFITTING),
    ],
    ids=["learnt nothing", "still falling", "good", "gap", "loss turned", "memorised"],
)
def test_verdict(
    train: list[float], validation: list[float], losses: list[float], verdict: Verdict
) -> None:
    report = judge(train, validation, losses)
    assert report.verdict is verdict
    assert str(verdict) in report.line()
    assert "\n" not in report.line()


def test_a_gap_within_its_noise_is_no_overfitting() -> None:
    """300 and 1,000 rows leave two standard errors of about 0.055 at a score of 0.75."""
    report = judge([0.79, 0.80], [0.75, 0.752], [0.600, 0.599])
    assert report.gap == pytest.approx(0.048)
    assert report.gap_noise == pytest.approx(0.054, abs=0.002)
    assert report.verdict is Verdict.GOOD


def test_if_less_of_a_metric_is_better_the_gap_is_reversed() -> None:
    evaluations = [
        Evaluation(1, 10, 1.0, {"perplexity": 20.0, "loss": 3.0}, {"perplexity": 30.0, "loss": 3.4})
    ]
    report = check_fit(
        evaluations,
        evaluations[0],
        main_metric="perplexity",
        metric=Metric(greater_is_better=False, is_share=False),
        baseline_score=80.0,
        noise={"train": 1.0, "validation": 1.0},
    )
    assert report.gap == 10.0
    assert report.verdict is Verdict.OVERFITTING
