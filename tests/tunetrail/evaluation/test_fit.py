"""The verdict follows from the curves."""

from typing import Any

import numpy as np
import pytest

from tunetrail.evaluation.fit import FitReport, Verdict, check_fit
from tunetrail.evaluation.outcome import Baseline
from tunetrail.evaluation.statistics import noise_of_change, noise_of_gap, noise_of_mean, row_scores
from tunetrail.tasks.base import Metric
from tunetrail.training.evaluations import Evaluation


def share(score: float, num_rows: int) -> np.ndarray:
    """Rows of which this share are right."""
    return (np.arange(num_rows) < round(score * num_rows)).astype(float)


def judge(
    train: list[float],
    validation: list[float],
    losses: list[float],
    *,
    num_rows: tuple[int, int] = (300, 1000),
    spread: float = 0.1,
) -> FitReport:
    """Judge accuracies; ``spread`` is that of the losses of rows around their mean."""
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
    draw = np.random.default_rng(0)
    noise = [draw.normal(size=num_rows[1]) for _ in losses]
    rows = {
        10 * (i + 1): np.column_stack(
            [loss + spread * (n - n.mean()) / max(n.std(), 1e-9), np.ones(num_rows[1])]
        )
        for i, (loss, n) in enumerate(zip(losses, noise, strict=True))
    }
    return check_fit(
        evaluations,
        evaluations[-1],
        main_metric="accuracy",
        metric=Metric(),
        baseline=Baseline(0.42),
        scores={
            "train": share(train[-1], num_rows[0]),
            "validation": share(validation[-1], num_rows[1]),
        },
        losses=rows,
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
        baseline=Baseline(80.0),
        scores={
            "train": np.random.default_rng(0).normal(20, 10, size=400),
            "validation": np.random.default_rng(1).normal(30, 10, size=400),
        },
        losses={},
    )
    assert report.gap == 10.0
    assert report.verdict is Verdict.OVERFITTING


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        # A gap of 0.017 with a noise of 0.2: validation is no more above the baseline than chance.
        ((0.53, 0.51, [1.0752, 1.0855], 20, 0.3), Verdict.NO_BETTER_THAN_BASELINE),
        ((0.95, 0.75, [0.60, 0.595], 16, 0.1), Verdict.UNCLEAR),
        ((0.95, 0.75, [0.60, 0.595], 100, 0.1), Verdict.OVERFITTING),
        ((0.78, 0.76, [0.60, 0.64], 400, 1.0), Verdict.UNCLEAR),
        ((0.78, 0.76, [0.60, 0.64], 400, 0.2), Verdict.OVERFITTING),
        ((0.76, 0.76, [0.64, 0.60], 400, 1.0), Verdict.GOOD),
        ((0.76, 0.76, [0.64, 0.60], 400, 0.2), Verdict.UNDERFITTING),
        ((1.00, 0.50, [0.60, 0.60], 2, 0.0), Verdict.NO_BETTER_THAN_BASELINE),
        ((1.00, 1.00, [0.60, 0.60], 3, 0.0), Verdict.NO_BETTER_THAN_BASELINE),
        ((1.00, 1.00, [0.60, 0.60], 1, 0.0), Verdict.NO_BETTER_THAN_BASELINE),
    ],
)
def test_what_may_be_chance_decides_nothing(case: Any, verdict: Verdict) -> None:
    train, validation, losses, num_rows, spread = case
    report = judge([train] * 2, [validation] * 2, losses, num_rows=(300, num_rows), spread=spread)
    assert report.verdict is verdict, report.line()
    assert np.isfinite(report.gap_noise)


# More is better.
SAMPLES = {
    "shares": lambda draw, n: draw.random(n) < 0.7,
    "nearly always right": lambda draw, n: draw.random(n) < 0.95,
    "losses": lambda draw, n: -draw.exponential(size=n),
    "perplexities": lambda draw, n: -np.exp(draw.normal(size=n)),
}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("num_rows", [(300, 5), (300, 30), (300, 1000), (8, 8)])
def test_without_a_difference_a_gap_beyond_its_noise_is_rare(
    name: str, num_rows: tuple[int, int]
) -> None:
    """Train is better by more than the noise in about 2.5 % of splits, as a 95 % interval says."""
    draw = np.random.default_rng(0)
    pairs = [[SAMPLES[name](draw, n).astype(float) for n in num_rows] for _ in range(1000)]
    beyond = np.mean([t.mean() - v.mean() > noise_of_gap(t, v) for t, v in pairs])
    assert beyond < 0.05


def test_the_noise_of_f1_and_of_a_paired_loss_are_those_of_repeated_draws() -> None:
    draw = np.random.default_rng(0)

    def f1(sums: np.ndarray) -> dict[str, np.ndarray]:
        return {"f1": 2 * sums[..., 2] / (sums[..., 0] + sums[..., 1])}

    def draw_rows() -> np.ndarray:
        true, found = draw.random((2, 400)) < 0.4
        return np.column_stack([true, found | (true & (draw.random(400) < 0.5)), true & found])

    scores = [row_scores(draw_rows().astype(float), f1, "f1") for _ in range(300)]
    spread = np.std([rows.mean() for rows in scores])
    assert noise_of_mean(scores[0], null=0.0) == pytest.approx(2 * spread, rel=0.2)

    def draw_losses() -> tuple[np.ndarray, np.ndarray]:
        tokens = draw.integers(1, 20, size=400)
        sums = draw.gamma(2.0, size=400) * tokens
        later = sums + 0.1 * draw.normal(size=400) * tokens
        return np.column_stack([sums, tokens]), np.column_stack([later, tokens])

    pairs = [draw_losses() for _ in range(300)]
    changes = [b[:, 0].sum() / b[:, 1].sum() - a[:, 0].sum() / a[:, 1].sum() for a, b in pairs]
    assert noise_of_change(*pairs[0]) == pytest.approx(2 * np.std(changes), rel=0.2)
