"""Which difference a comparison on the same rows could have shown, and what shows half of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

POWER, LEVEL = 0.8, 0.05
# No one asks for more: a search ends here.
_MOST_ROWS, _MOST_SEEDS = 10**8, 10**4


@dataclass(frozen=True)
class Power:
    """The smallest true difference that a comparison shows four times in five.

    ``more_rows`` and ``more_seeds`` are how many more of either alone would show half of it; None
    if no number does, because the other is most of the noise.
    """

    detectable: float
    num_rows: int
    num_seeds: int
    more_rows: int | None
    more_seeds: int | None


def measure_power(one: npt.ArrayLike, other: npt.ArrayLike) -> Power | None:
    """Return the minimum detectable difference at 80 % power and a two-sided level of 5 %.

    It is ``(t(0.975, f) + t(0.8, f)) * error`` with quantiles of Student's t (Bloom, Minimum
    Detectable Effects, Evaluation Review 1995). As in :func:`.statistics.compare_rows`,
    ``error**2`` is the variance of the paired differences over the number of rows, plus for each
    side the variance of its seeds' means over the number of seeds; ``f`` are the degrees of
    freedom of that sum after Satterthwaite.

    Args:
        one, other: scores, shape (rows,) or (seeds, rows).

    Returns:
        None if nothing varies, so that there is no noise to measure.

    """
    ones, others = (np.atleast_2d(np.asarray(scores, dtype=float)) for scores in (one, other))
    differences = (ones - others).mean(axis=0)
    num_seeds, num_rows = max(len(ones), len(others)), len(differences)
    of_rows = float(differences.var())
    of_seeds = [float(s.mean(axis=1).var(ddof=1)) for s in (ones, others) if len(s) > 1]

    def detect(rows: int, seeds: int) -> float:
        parts = [(of_rows / rows, rows - 1), *((part / seeds, seeds - 1) for part in of_seeds)]
        total = sum(part for part, _ in parts)
        if total <= 0:
            return 0.0
        freedom = total**2 / sum(part**2 / max(free, 1) for part, free in parts)
        quantiles = stats.t.ppf([1 - LEVEL / 2, POWER], freedom)
        return float(quantiles.sum() * math.sqrt(total))

    found = detect(num_rows, num_seeds)
    if found <= 1e-9:
        return None
    rows = _find_least(lambda n: detect(n, num_seeds) <= found / 2, num_rows, _MOST_ROWS)
    seeds = None
    if of_seeds:
        seeds = _find_least(lambda n: detect(num_rows, n) <= found / 2, num_seeds, _MOST_SEEDS)
    return Power(
        detectable=found,
        num_rows=num_rows,
        num_seeds=num_seeds,
        more_rows=None if rows is None else rows - num_rows,
        more_seeds=None if seeds is None else seeds - num_seeds,
    )


def _find_least(holds: Callable[[int], bool], low: int, most: int) -> int | None:
    """Find the smallest number above ``low`` for which something holds that holds for all above."""
    high = low
    while not holds(high):
        if high >= most:
            return None
        low, high = high, min(high * 2, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
