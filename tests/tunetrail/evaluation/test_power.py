"""Which difference a comparison could have shown: checked by drawing data that has just that."""

import math

import numpy as np
import pytest

from tunetrail.evaluation.power import measure_power
from tunetrail.evaluation.statistics import compare_rows


def draw(rng, difference, *, rows, seeds, noise, of_seeds):
    """Scores of two sides whose true difference is known, shape (seeds, rows) each."""
    shared = rng.normal(size=rows)
    return [
        shared
        + shift
        + rng.normal(scale=noise, size=rows)
        + rng.normal(scale=of_seeds, size=(seeds, 1))
        for shift in (difference, 0.0)
    ]


ROWS, DRAWS = 100, 100


@pytest.mark.parametrize(
    ("seeds", "of_seeds"),
    [
        pytest.param(1, 0.0, id="rows", marks=pytest.mark.slow),
        pytest.param(6, 0.0, id="many"),
        pytest.param(6, 0.045, id="both"),
    ],
)
def test_what_it_says_is_shown_four_times_in_five(seeds, of_seeds):
    rng = np.random.default_rng(0)
    kinds = {"rows": ROWS, "seeds": seeds, "noise": 0.2, "of_seeds": of_seeds}
    true = 0.2 * math.sqrt(2 / ROWS)
    true = math.hypot(true, of_seeds * math.sqrt(2 / seeds)) * (2.8 if seeds == 1 else 3.0)
    shown, said = 0, []
    for _ in range(DRAWS):
        ones, others = draw(rng, true, **kinds)
        shown += compare_rows(ones, others, seed=1).is_better
        said.append(measure_power(ones, others).detectable)
    # As often as a normal quantile says for the difference that was put in.
    assert shown / DRAWS == pytest.approx(0.8, abs=0.1)
    assert np.median(said) == pytest.approx(true, rel=0.15)


def test_half_of_it_needs_so_many_more_rows_or_seeds_as_it_says():
    rng = np.random.default_rng(1)
    ones, others = draw(rng, 0.0, rows=400, seeds=1, noise=0.3, of_seeds=0.0)
    found = measure_power(ones, others)
    # Four times as many rows halve the error of a mean.
    assert found.more_rows == pytest.approx(3 * 400, rel=0.02)
    assert found.more_seeds is None


@pytest.mark.parametrize(
    ("noise", "of_seeds", "rows_help", "seeds_help"),
    [(0.5, 0.0001, True, False), (0.0001, 0.5, False, True)],
)
def test_where_the_other_noise_is_most_no_number_helps(noise, of_seeds, rows_help, seeds_help):
    rng = np.random.default_rng(2)
    found = measure_power(*draw(rng, 0.0, rows=100, seeds=3, noise=noise, of_seeds=of_seeds))
    assert (found.more_rows is not None) == rows_help
    assert (found.more_seeds is not None) == seeds_help


def test_sides_that_are_the_same_have_no_noise():
    assert measure_power(np.ones((2, 10)), np.ones((2, 10))) is None
    assert measure_power([1.0, 0.0], [1.0, 0.0]) is None
