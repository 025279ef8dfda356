"""Calibration: a planted temperature is found, and what few rows cannot show is not claimed."""

import math
import random
from dataclasses import asdict

import numpy as np
import pytest
import torch

from tunetrail.evaluation.calibration import check_calibration, expected_error
from tunetrail.served.text_classification import sigmoid, temper
from tunetrail.tasks.base import Decisions


def plant(num_rows: int, *, temperature: float, num_labels: int = 3, seed: int = 0) -> Decisions:
    """Logits whose probabilities are right once they are divided by a temperature."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(num_rows, num_labels)) * 2
    shares = np.exp(logits)
    shares /= shares.sum(axis=1, keepdims=True)
    targets = (shares.cumsum(axis=1) > draw.random((num_rows, 1))).argmax(axis=1)
    return Decisions.of_rows(temperature * logits, targets, decided="rows")


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_planted_temperature_is_recovered_also_for_rows_that_it_was_not_fitted_on(
    temperature: float,
) -> None:
    found = check_calibration(plant(3000, temperature=temperature), seed=1, is_applied=False)
    assert found.temperature == pytest.approx(temperature, rel=0.07)
    assert found.reason is None
    assert found.is_noticeable == (temperature != 1)
    assert found.ece_cross_fitted < 0.03
    assert found.ece_fitted < 0.03
    if temperature != 1:
        assert found.ece > 0.1
        assert found.nll_cross_fitted < found.nll
        assert found.finding() == ("over-confident" if temperature > 1 else "under-confident")
    assert sum(one.number for one in found.before) == 3000
    assert set(found.metrics()) >= {"calibration/ece", "calibration/temperature"}


def test_a_calibrated_model_is_seldom_said_not_to_be() -> None:
    alarms = [
        check_calibration(
            plant(200, temperature=1, seed=seed), seed=seed + 999, is_applied=False
        ).is_noticeable
        for seed in range(60)
    ]
    assert sum(alarms) <= 7


def test_each_label_of_a_text_is_a_decision_between_no_and_yes() -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(500, 6)) * 2
    targets = (draw.random(logits.shape) < sigmoid(logits)).astype(int)
    pairs = np.stack([np.zeros_like(logits), 2 * logits], axis=-1)
    decisions = Decisions.of_rows(pairs, targets, decided="labels of rows")
    found = check_calibration(decisions, seed=0, is_applied=True)
    assert (found.num_rows, found.num_decisions) == (500, 3000)
    assert found.temperature == pytest.approx(2, rel=0.1)
    assert found.is_applied


@pytest.mark.parametrize(
    ("num_rows", "num_right", "cause"),
    [
        (1, 1, "validation has 1 row, and 50 are needed"),
        (49, 30, "validation has 49 rows, and 50 are needed"),
        (200, 200, "0 of 200 rows are wrong, and 5 are needed"),
        (200, 0, "0 of 200 rows are right, and 5 are needed"),
        (200, 196, "4 of 200 rows are wrong, and 5 are needed"),
    ],
)
def test_rows_that_say_too_little_give_no_temperature_and_the_reason(
    num_rows: int, num_right: int, cause: str
) -> None:
    logits = np.tile([40.0, -40.0], (num_rows, 1)).astype(np.float32)
    targets = np.r_[np.zeros(num_right, int), np.ones(num_rows - num_right, int)]
    decisions = Decisions.of_rows(logits, targets, decided="rows")
    found = check_calibration(decisions, seed=0, is_applied=True)
    assert (found.temperature, found.reason, found.is_applied) == (1.0, cause, False)
    assert cause in found.line()
    assert all(math.isfinite(value) for value in found.metrics().values())
    assert found.before == found.after


def test_nothing_but_its_own_seed_decides_and_no_other_generator_moves() -> None:
    decisions = plant(400, temperature=2)
    generator = np.random.mtrand._rand
    states = random.getstate(), generator.get_state()[1].tolist(), torch.get_rng_state()
    one, other = (check_calibration(decisions, seed=3, is_applied=False) for _ in range(2))
    assert asdict(one) == asdict(other)
    assert random.getstate() == states[0]
    assert generator.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_the_error_is_the_weighted_distance_of_confidence_and_accuracy() -> None:
    confidence = np.array([0.95, 0.95, 0.61, 0.61])
    right = np.array([True, False, True, True])
    # Two bins of two rows: |0.95 - 0.5| and |0.61 - 1|.
    assert expected_error(confidence, right) == pytest.approx((0.45 + 0.39) / 2)


def test_of_very_many_rows_a_part_is_looked_at() -> None:
    found = Decisions.of_rows(np.zeros((2000, 1000)), np.arange(2000) % 1000, decided="rows")
    assert found.logits.shape == (500, 1000)
    assert found.targets[-1] == 999
    assert found.num_rows == 500


def test_a_threshold_is_tempered_like_the_probabilities_that_reach_it() -> None:
    logits = np.linspace(-4, 4, 81)
    for threshold in (0.2, 0.5, 0.77):
        before = sigmoid(logits) >= threshold
        assert (sigmoid(logits / 2.5) >= temper(threshold, 2.5)).tolist() == before.tolist()
