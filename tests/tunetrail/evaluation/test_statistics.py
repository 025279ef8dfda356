"""Intervals and the paired test: known answers, and the error rates they promise."""

import time

import numpy as np
import pytest
from scipy import stats

from tunetrail.evaluation.statistics import compare_rows, percentile_interval


def right(num_rows: int, share: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(num_rows) < share).astype(float)


def test_the_same_predictions_are_no_difference() -> None:
    scores = right(500, 0.7, 0)
    found = compare_rows(scores, scores, seed=0)
    assert (found.difference, found.p_value) == (0, 1)
    assert (found.interval.low, found.interval.high) == (0, 0)
    assert not found.is_better
    assert not found.is_worse


def test_a_clear_difference_is_found_and_has_a_sign() -> None:
    better, worse = right(500, 0.9, 0), right(500, 0.5, 1)
    found, turned = (compare_rows(*pair, seed=0) for pair in ((better, worse), (worse, better)))
    assert found.is_better
    assert turned.is_worse
    assert found.p_value == turned.p_value == pytest.approx(1 / 10_001)
    assert found.difference == better.mean() - worse.mean() == -turned.difference


def test_the_sign_test_is_exact_where_it_can_be_counted() -> None:
    """Ten rows of eleven differ, nine of them one way: 2 * (1 + 10) / 2**10."""
    found = compare_rows([1.0] * 9 + [0.0, 1.0], [0.0] * 9 + [1.0, 1.0], seed=0)
    assert found.p_value == pytest.approx(22 / 1024, abs=0.004)


def test_the_seed_decides_the_draws() -> None:
    pair = right(300, 0.7, 0), right(300, 0.66, 1)
    assert compare_rows(*pair, seed=1) == compare_rows(*pair, seed=1)
    assert compare_rows(*pair, seed=1) != compare_rows(*pair, seed=2)


def test_seeds_that_disagree_widen_the_interval() -> None:
    """With rows alone, one far better and one far worse seed would prove something."""
    other = right(2000, 0.6, 9)
    agreeing = np.stack([right(2000, 0.7, 0), right(2000, 0.7, 1)])
    differing = np.stack([right(2000, 0.8, 0), right(2000, 0.6, 1)])
    assert compare_rows(agreeing, other, seed=0).is_better
    found = compare_rows(differing, other, seed=0)
    assert (found.num_seeds, found.num_rows) == (2, 2000)
    assert found.interval.low < 0
    assert found.p_value > 0.05
    assert found.difference == pytest.approx(0.1, abs=0.02)


def test_two_seeds_that_agree_by_chance_prove_nothing() -> None:
    """Many rows make each seed's lead certain; another seed might well lead the other way."""
    other = right(20_000, 0.6, 9)
    found = compare_rows(np.stack([right(20_000, 0.68, 0), right(20_000, 0.62, 1)]), other, seed=0)
    assert found.difference == pytest.approx(0.05, abs=0.02)
    assert not found.is_better
    assert found.p_value > 0.05


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_one_row_and_rows_with_equal_differences_work(num_seeds: int) -> None:
    one_row = compare_rows(np.ones((num_seeds, 1)), [0.0], seed=0)
    assert one_row.p_value == 1
    alike = compare_rows(np.ones((num_seeds, 20)), np.zeros(20), seed=0)
    assert (alike.interval.low, alike.interval.high) == (1, 1)
    assert 0 < alike.p_value < 0.001


def test_scores_may_be_any_numbers() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.normal(0.2, 1, 400), draw.normal(0, 1, 400)
    found = compare_rows(one, other, seed=0)
    differences = one - other
    error = differences.std(ddof=1) / 20
    assert found.interval.low == pytest.approx(differences.mean() - 1.96 * error, abs=0.01)
    assert found.interval.high == pytest.approx(differences.mean() + 1.96 * error, abs=0.01)


@pytest.mark.slow
def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    held = false_alarms = 0
    for seed in range(400):
        draw = np.random.default_rng(seed)
        rows = draw.random(300)  # a row's own difficulty makes both right or wrong together
        one = (rows + draw.normal(0, 0.2, 300) < 0.70).astype(float)
        other = (rows + draw.normal(0, 0.2, 300) < 0.70).astype(float)
        found = compare_rows(one, other, seed=seed)
        held += found.interval.low <= 0 <= found.interval.high
        false_alarms += found.p_value <= 0.05
    assert 0.92 <= held / 400 <= 0.975
    assert false_alarms / 400 <= 0.075


@pytest.mark.slow
@pytest.mark.parametrize("num_seeds", [2, 3])
@pytest.mark.parametrize("num_rows", [300, 5000])
@pytest.mark.parametrize("seed_noise", [0.0, 0.02])
def test_seeds_that_differ_as_much_as_rows_raise_few_false_alarms(
    num_seeds: int, num_rows: int, seed_noise: float
) -> None:
    """Two equal recipes, of which each seed is a little better or worse than the recipe."""
    false_alarms = rejected = 0
    for seed in range(300):
        draw = np.random.default_rng(seed)
        rows = draw.random(num_rows)
        one, other = (
            np.stack(
                [
                    (rows + draw.normal(0, 0.2, num_rows) < draw.normal(0.7, seed_noise))
                    for _ in range(num_seeds)
                ]
            ).astype(float)
            for _ in range(2)
        )
        found = compare_rows(one, other, seed=seed)
        false_alarms += found.is_better or found.is_worse
        rejected += found.p_value <= 0.05
    assert false_alarms == rejected
    assert false_alarms / 300 <= 0.1


def test_the_interval_is_the_middle_of_the_resamples() -> None:
    found = percentile_interval(np.arange(1001))
    assert (found.low, found.high) == (25, 975)


def test_many_rows_take_less_than_a_second() -> None:
    started = time.perf_counter()
    compare_rows(right(100_000, 0.7, 0), right(100_000, 0.7, 1), seed=0)
    assert time.perf_counter() - started < 1


def test_a_paired_test_agrees_with_scipy_s() -> None:
    """Slow and general there, fast here: all sign flips of twelve rows, resamples of all rows."""
    draw = np.random.default_rng(3)
    one, other = draw.normal(0.5, 1, 12), draw.normal(0, 1, 12)

    def difference(one: np.ndarray, other: np.ndarray, axis: int) -> np.ndarray:
        return (one - other).mean(axis=axis)

    found = compare_rows(one, other, seed=0)
    exact = stats.permutation_test(
        (one, other), difference, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert found.difference == pytest.approx(exact.statistic)
    assert found.p_value == pytest.approx(exact.pvalue, abs=0.01)
    resampled = stats.bootstrap(
        (one, other), difference, paired=True, method="percentile", vectorized=True, rng=0
    ).confidence_interval
    assert found.interval.low == pytest.approx(resampled.low, abs=0.05)
    assert found.interval.high == pytest.approx(resampled.high, abs=0.05)
