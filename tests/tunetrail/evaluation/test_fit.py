"""The verdict follows from the curves, and noise gives none."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tunetrail.evaluation.fit import Fit, Verdict, judge_fit
from tunetrail.evaluation.statistics import (
    errors_of_changes,
    noise_of_gap,
    noise_of_mean,
    row_scores,
)
from tunetrail.tasks.base import Metric
from tunetrail.training.evaluations import Evaluation

Curve = Sequence[float]


def share(score: float, num_rows: int) -> np.ndarray:
    """Rows of which this share are right."""
    return (np.arange(num_rows) < round(score * num_rows)).astype(float)


def judge(
    train: Curve,
    validation: Curve,
    losses: Curve,
    *,
    train_losses: Curve | None = None,
    best: int = -1,
    num_rows: tuple[int, int] = (300, 1000),
    spread: float = 0.1,
    num_steps: int = 100,
    beats: bool = True,
) -> Fit:
    """Judge accuracies; ``spread`` is that of the losses of rows around their mean."""
    curves = {"train": train_losses or losses, "validation": losses}
    evaluations = [
        Evaluation(
            number=i + 1,
            step=10 * (i + 1),
            epoch=float(i + 1),
            train={"accuracy": train[i], "loss": curves["train"][i]},
            validation={"accuracy": validation[i], "loss": losses[i]},
        )
        for i in range(len(train))
    ]
    draw = np.random.default_rng(0)
    rows: dict[str, dict[int, np.ndarray]] = {}
    for (split, curve), number in zip(curves.items(), num_rows, strict=True):
        noise = [draw.normal(size=number) for _ in curve]
        rows[split] = {
            10 * (i + 1): np.column_stack(
                [loss + spread * (n - n.mean()) / max(n.std(), 1e-9), np.ones(number)]
            )
            for i, (loss, n) in enumerate(zip(curve, noise, strict=True))
        }
    return judge_fit(
        evaluations,
        evaluations[best],
        main_metric="accuracy",
        metric=Metric(),
        scores={
            "train": share(train[best], num_rows[0]),
            "validation": share(validation[best], num_rows[1]),
        },
        losses=rows,
        num_steps=num_steps,
        beats_baseline=beats,
        baseline_score=0.42,
    )


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        (
            {"train": [0.43, 0.44], "validation": [0.42, 0.43], "losses": [1.08, 1.07],
             "beats": False},
            Verdict.NO_BETTER_THAN_BASELINE,
        ),
        (
            {"train": [0.70, 0.80], "validation": [0.70, 0.78], "losses": [0.80, 0.60]},
            Verdict.UNDERFITTING,
        ),
        (
            {"train": [0.76, 0.79], "validation": [0.75, 0.77], "losses": [0.60, 0.598]},
            Verdict.GOOD,
        ),
        (
            {"train": [0.80, 0.95], "validation": [0.74, 0.75], "losses": [0.60, 0.595]},
            Verdict.OVERFITTING,
        ),
        (
            {"train": [0.76, 0.78], "validation": [0.75, 0.76], "losses": [0.60, 0.70],
             "train_losses": [0.60, 0.50]},
            Verdict.OVERFITTING,
        ),
        (
            {"train": [0.95, 0.99], "validation": [0.43, 0.43], "losses": [1.20, 1.19],
             "beats": False},
            Verdict.OVERFITTING,
        ),
        (
            # The loss of train, too, ends far above its lowest: training has diverged.
            {"train": [0.76, 0.44], "validation": [0.75, 0.43], "losses": [0.60, 1.08], "best": 0},
            Verdict.UNSTABLE,
        ),
        (
            {"train": [0.75] * 4, "validation": [0.74] * 4, "losses": [0.60, 0.72, 0.60, 0.60],
             "train_losses": [0.6, 0.58, 0.57, 0.56]},
            Verdict.UNSTABLE,
        ),
        (
            {"train": [0.75], "validation": [0.74], "losses": [0.60]},
            Verdict.TOO_SHORT,
        ),
        (
            {"train": [0.43, 0.44], "validation": [0.42, 0.43], "losses": [1.08, 1.07],
             "num_steps": 8, "beats": False},
            Verdict.TOO_SHORT,
        ),
        (
            # One evaluation is enough to see that the model knows its train rows.
            {"train": [0.99], "validation": [0.74], "losses": [0.60]},
            Verdict.OVERFITTING,
        ),
        (
            {"train": [0.75], "validation": [0.74], "losses": [0.60], "num_steps": 0},
            Verdict.UNTRAINED,
        ),
        (
            {"train": [0.42], "validation": [0.42], "losses": [1.1], "num_steps": 0,
             "beats": False},
            Verdict.NO_BETTER_THAN_BASELINE,
        ),
    ],
)  # fmt: skip
def test_verdict(case: Any, verdict: Verdict) -> None:
    assert judge(**case).verdict is verdict


@pytest.mark.parametrize(
    ("case", "epoch"),
    [
        # The lowest is at 2; at 3 the loss is above it by no more than noise.
        ({"losses": [0.70, 0.60, 0.602, 0.65, 0.70], "train_losses": [0.7, 0.6, 0.5, 0.4, 0.3]}, 4),
        ({"losses": [0.70, 0.60, 0.64, 0.602, 0.70], "train_losses": [0.7, 0.6, 0.5, 0.4, 0.3]}, 5),
        ({"losses": [0.70, 0.60, 0.60, 0.60, 0.60], "train": [0.72, 0.76, 0.86, 0.90, 0.95]}, 3),
    ],
)
def test_the_epoch_where_overfitting_begins(case: Any, epoch: int) -> None:
    curves = {"train": [0.78] * 5, "validation": [0.75] * 5, **case}
    fit = judge(**curves)
    assert fit.verdict is Verdict.OVERFITTING
    assert fit.begins is not None
    assert fit.begins.epoch == epoch


def test_a_gap_within_its_noise_is_no_overfitting() -> None:
    """300 and 1,000 rows leave two standard errors of about 0.055 at a score of 0.75."""
    fit = judge([0.79, 0.80], [0.75, 0.752], [0.600, 0.599])
    assert fit.gap == pytest.approx(0.048)
    assert fit.gap_noise == pytest.approx(0.054, abs=0.002)
    assert fit.verdict is Verdict.GOOD


@pytest.mark.parametrize(("score", "verdict"), [(20.0, "overfitting"), (28.5, "too short to say")])
def test_a_gap_of_a_metric_that_is_no_share_is_a_share_of_it(score: float, verdict: str) -> None:
    """And reversed where less is better. A twentieth is usual, however many rows show it."""
    evaluation = Evaluation(
        1, 10, 1.0, {"perplexity": score, "loss": 3.0}, {"perplexity": 30.0, "loss": 3.4}
    )
    draw = np.random.default_rng(0)
    fit = judge_fit(
        [evaluation],
        evaluation,
        main_metric="perplexity",
        metric=Metric(greater_is_better=False, is_share=False),
        scores={"train": draw.normal(score, 1, size=4000), "validation": draw.normal(30, 1, 4000)},
        losses={},
        num_steps=100,
        beats_baseline=True,
        baseline_score=80.0,
    )
    assert fit.gap == 30.0 - score > fit.gap_noise
    assert str(fit.verdict) == verdict


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        ((0.95, 0.75, [0.60, 0.595], 16, 0.1), Verdict.UNCLEAR),
        ((0.95, 0.75, [0.60, 0.595], 100, 0.1), Verdict.OVERFITTING),
        ((0.78, 0.76, [0.60, 0.64], 400, 1.0), Verdict.UNCLEAR),
        ((0.78, 0.76, [0.60, 0.64], 400, 0.2), Verdict.OVERFITTING),
        ((0.76, 0.76, [0.64, 0.60], 400, 1.0), Verdict.GOOD),
        ((0.76, 0.76, [0.64, 0.60], 400, 0.2), Verdict.UNDERFITTING),
    ],
)
def test_what_may_be_chance_decides_nothing(case: Any, verdict: Verdict) -> None:
    train, validation, losses, num_rows, spread = case
    fit = judge(
        [train] * 2, [validation] * 2, losses, num_rows=(300, num_rows), spread=spread,
        train_losses=[0.6, 0.6],
    )  # fmt: skip
    assert fit.verdict is verdict
    assert np.isfinite(fit.gap_noise)


slow = [pytest.mark.slow]
NOISE = {
    # A good model whose training is over, and one that has learnt nothing.
    "good": (0.75, 0.60),
    "no effect": (0.42, 1.08),
}


@pytest.mark.parametrize(
    ("model", "num_evaluations", "num_rows"),
    [
        pytest.param(model, number, rows, marks=[] if number == 10 and rows == 300 else slow)
        for model in NOISE
        for number in (3, 10, 30)
        for rows in (40, 300)
    ],
)
def test_pure_noise_is_called_something_in_at_most_one_run_of_twenty(
    model: str, num_evaluations: int, num_rows: int
) -> None:
    """The losses and answers of each row wander from one evaluation to the next, around a mean.

    The noise of a change of the loss is then 0.02 to 0.1 of it: as large as what decides.
    """
    score, loss = NOISE[model]
    draw = np.random.default_rng(num_evaluations)
    found: Counter[str] = Counter()
    for _ in range(1000):
        shape = (2, num_evaluations, num_rows)
        # The rows differ, most of all in how hard they are.
        hard = draw.gamma(1.5, loss / 1.5, size=(2, 1, num_rows))
        rows = np.maximum(hard + draw.normal(0, 0.3, size=shape), 0)
        easy = draw.random((2, 1, num_rows)) < score
        right = np.where(draw.random(shape) < 0.2, draw.random(shape) < score, easy)
        means, scores = rows.mean(axis=2), right.mean(axis=2)
        evaluations = [
            Evaluation(
                i + 1,
                10 * (i + 1),
                i + 1.0,
                {"accuracy": float(scores[0, i]), "loss": float(means[0, i])},
                {"accuracy": float(scores[1, i]), "loss": float(means[1, i])},
            )
            for i in range(num_evaluations)
        ]
        best = int(scores[1].argmax())
        pairs = np.stack([rows, np.ones(shape)], axis=-1)
        above = noise_of_mean(
            right[1, best] - np.full(num_rows, 0.42), null=0.0, num_choices=num_evaluations
        )
        fit = judge_fit(
            evaluations,
            evaluations[best],
            main_metric="accuracy",
            metric=Metric(),
            scores={
                "train": right[0, best].astype(float),
                "validation": right[1, best].astype(float),
            },
            losses={
                name: {10 * (i + 1): pairs[s, i] for i in range(num_evaluations)}
                for s, name in enumerate(("train", "validation"))
            },
            num_steps=100,
            beats_baseline=bool(scores[1, best] - 0.42 > above),
            baseline_score=0.42,
        )
        found[str(fit.verdict)] += 1
    alarms = found["overfitting"] + found["underfitting"] + found["unstable"]
    assert alarms <= 50, found
    if model == "no effect":
        assert 1000 - found["no better than the baseline"] <= 50 + alarms, found


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

    def draw_losses() -> np.ndarray:
        tokens = draw.integers(1, 20, size=400)
        sums = draw.gamma(2.0, size=400) * tokens
        later = sums + 0.1 * draw.normal(size=400) * tokens
        return np.stack([np.column_stack([found, tokens]) for found in (sums, later)])

    pairs = [draw_losses() for _ in range(300)]
    means = [pair[..., 0].sum(axis=1) / pair[..., 1].sum(axis=1) for pair in pairs]
    spread = np.std([later - earlier for earlier, later in means])
    assert errors_of_changes(pairs[0])[0, 1] == pytest.approx(spread, rel=0.2)
    part = pairs[0][:, ::4]
    assert errors_of_changes(part, num_rows=400)[0, 1] == pytest.approx(spread, rel=0.3)
