"""Whether a score, or a difference on the same rows, is more than noise.

Intervals are percentiles of a bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap,
1993). Why predictions on the same rows are compared in pairs, and by a test that draws instead of
assuming a distribution: Dror et al., The Hitchhiker's Guide to Testing Statistical Significance
in Natural Language Processing, ACL 2018. Several seeds are a second source of noise, and too few
to resample: the variances of both are added, and Student's t says what so few are worth, with
degrees of freedom after Satterthwaite, An Approximate Distribution of Estimates of Variance
Components, Biometrics Bulletin 1946.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.sparse import csr_array

# For an interval, and for a p value: enough for about the last digit that is shown.
NUM_RESAMPLES = 2_000
NUM_DRAWS = 10_000
_SHARES = (2.5, 97.5)
# Draws in memory at once, times the kinds of rows or the statistics: 32 MB.
_CHUNK_CELLS = 4_000_000
# With more statistics, those of many labels, a row has a value in few of them.
_WIDE = 300
# Different differences of rows; of more the normal distribution says the same, and draws take long.
_MOST_KINDS = 1_000
# Choices for which the draws still show the ends of the interval.
_MOST_CHOICES = 50
# From here on two standard errors are a 95 % interval, whatever scores are like.
_MANY_ROWS = 60
# Sums of the same differences in another order differ by less.
_ROUNDING = 1e-9

Scores = npt.NDArray[np.float64]
Score = Callable[[npt.NDArray[Any]], Mapping[str, npt.NDArray[Any]]]


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True)
class PairedTest:
    """A comparison on the same rows: the mean difference of their scores.

    ``p_value`` is two-sided. With several seeds both it and the interval include the noise of
    seeds; with one seed they cannot. Both are corrected for ``num_choices``: the one is the best of
    so many.
    """

    difference: float
    interval: Interval
    p_value: float
    num_rows: int
    num_seeds: int
    num_choices: int = 1

    @property
    def is_better(self) -> bool:
        """Whether the one beats the other by more than noise."""
        return self.interval.low > 0

    @property
    def is_worse(self) -> bool:
        """Whether the other beats the one by more than noise."""
        return self.interval.high < 0

    def __str__(self) -> str:
        low, high = self.interval.low, self.interval.high
        return f"{self.difference:+.4f} [{low:+.4f}, {high:+.4f}], {format_p(self.p_value)}"


def format_p(value: float) -> str:
    """Format a p value with no more digits than the number of draws supports."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def percentile_interval(samples: npt.ArrayLike, *, num_choices: int = 1) -> Interval:
    """Return the middle 95 % of resampled values; of several choices more."""
    shares = (_SHARES[0] / num_choices, 100 - _SHARES[0] / num_choices)
    low, high = np.percentile(np.asarray(samples, dtype=float), shares)
    return Interval(float(low), float(high))


def bootstrap(statistics: npt.NDArray[Any], score: Score, *, seed: int) -> dict[str, Interval]:
    """Resample rows with replacement, and return the middle 95 % of each metric.

    Args:
        statistics: what each row adds, shape (rows, statistics).
        score: of sums of them.

    """
    kinds: Any
    if statistics.shape[1] <= _WIDE:
        kinds, counts = np.unique(statistics, axis=0, return_counts=True)
        kinds, counts = kinds[::-1].astype(float), counts[::-1]
    else:
        # Of many labels a row has few, and hardly two rows are of one kind.
        kinds, counts = csr_array(statistics, dtype=float), np.ones(len(statistics), dtype=int)
    draw = np.random.default_rng(seed)
    found = [score(sums) for sums in _resample(kinds, counts, NUM_RESAMPLES, draw)]
    return {
        name: percentile_interval(np.concatenate([part[name] for part in found]))
        for name in found[0]
    }


def interval_of(statistics: npt.NDArray[Any], score: Score, metric: str, *, seed: int) -> Interval:
    """Return the interval of one metric: of a bootstrap, of many rows by their standard error."""
    if len(statistics) * min(statistics.shape[1], _WIDE) <= _CHUNK_CELLS // 4:
        return bootstrap(statistics, score, seed=seed)[metric]
    found = float(score(statistics.sum(axis=0))[metric])
    reach = _quantile(1) * standard_error(row_scores(statistics, score, metric))
    return Interval(found - reach, found + reach)


def row_scores(statistics: npt.NDArray[Any], score: Score, metric: str) -> Scores:
    """Return what each row contributes to a metric, shape (rows,); their mean is the metric.

    These are the pseudo-values of the jackknife (Tukey, Bias and Confidence in Not-quite Large
    Samples, 1958): n times the metric of all rows, less n - 1 times that of all rows but this one.
    If the metric is a mean over rows they are exactly the rows' own values, such as 1 for a row
    with the right label; of others, such as F1, their mean is the metric except for its bias.
    """
    total = statistics.sum(axis=0)
    whole, size = score(total)[metric], max(1, _CHUNK_CELLS // statistics.shape[1])
    without = np.concatenate(
        [
            score(total - statistics[start : start + size])[metric]
            for start in range(0, len(statistics), size)
        ]
    )
    # Remove rounding errors: a row with the right label scores exactly 1.
    scores: Scores = np.round(whole + (len(statistics) - 1) * (whole - without), 9)
    return scores


def standard_error(scores: Scores) -> float:
    """Return the standard error of the mean of :func:`row_scores`."""
    return float(np.sqrt(scores.var() / len(scores)))


def noise_of_mean(scores: Scores, *, null: float, num_choices: int = 1) -> float:
    """Return how far the mean of scores may be from ``null`` by chance: half a 95 % interval.

    Args:
        scores: of rows.
        null: their mean if there were no difference.
        num_choices: how many such means there are, of which the largest is asked for. Corrected
            as Bonferroni does, which holds however they depend on each other.

    """
    return _noise([scores], null, num_choices)


def noise_of_gap(ones: Scores, others: Scores) -> float:
    """Return how far the means of different rows may be apart by chance: half a 95 % interval."""
    return _noise([ones, others], float(np.concatenate([ones, others]).mean()))


def _noise(samples: Sequence[Scores], null: float, num_choices: int = 1) -> float:
    """Return two standard errors; of few rows more, as Student's t says (Welch, Biometrika 1947).

    Few rows may all score the same by chance. So their spread is taken around ``null``, the mean
    that they would have if there were no difference, as in the test of two proportions.
    """
    errors, freedoms = [], []
    for scores in samples:
        variance, free = scores.var(), len(scores) - 1
        if len(scores) < _MANY_ROWS:
            variance = np.square(scores - null).sum() / max(free, 1)
        errors.append(math.sqrt(variance / len(scores)))
        freedoms.append(max(free, 1))
    error = math.hypot(*errors)
    many = 2.0 if num_choices == 1 else _quantile(num_choices)
    if error == 0 or min(map(len, samples)) >= _MANY_ROWS:
        return many * error
    freedom = error**4 / sum(e**4 / free for e, free in zip(errors, freedoms, strict=True))
    return max(many, _quantile(num_choices, freedom)) * error


@lru_cache(maxsize=1024)
def _quantile(num_choices: int, freedom: float = math.inf) -> float:
    """Return how many standard errors hold 95 % to both sides, corrected for several choices."""
    share = 1 - _SHARES[0] / 100 / num_choices
    return float(stats.norm.ppf(share) if math.isinf(freedom) else stats.t.ppf(share, freedom))


def errors_of_changes(losses: Scores, *, num_rows: int | None = None) -> Scores:
    """Return the standard errors of changes of a mean loss on the same rows.

    Args:
        losses: of each evaluation and row the sum of its losses and of how many, which is the same
            at every evaluation; shape (evaluations, rows, 2).
        num_rows: of which those rows are a sample; all of them are, if it is not given.

    Returns:
        One number for each pair of evaluations, shape (evaluations, evaluations).

    """
    sums, counts = losses[..., 0], losses[0, :, 1]
    total, size, number = sums.sum(axis=1, keepdims=True), counts.sum(), len(counts)
    # Pseudo-values, as in row_scores: for given counts they are linear in the losses.
    rows = number * total / max(size, 1)
    rows = rows - (number - 1) * (total - sums) / np.maximum(size - counts, 1)
    means = rows.mean(axis=1)
    spread = rows - means[:, None]
    shared = spread @ spread.T / number
    variances = np.maximum(np.add.outer(shared.diagonal(), shared.diagonal()) - 2 * shared, 0.0)
    if number < _MANY_ROWS:
        # Around no change, as in _noise.
        variances = (variances + np.subtract.outer(means, means) ** 2) * number / max(number - 1, 1)
    errors: Scores = np.sqrt(variances / (num_rows or number))
    return errors


def half_interval(num_rows: int, *, num_choices: int = 1) -> float:
    """Return how many standard errors of a mean of rows are half a 95 % interval.

    With several choices, of which the largest mean is asked for, of a wider one.
    """
    many = 2.0 if num_choices == 1 else _quantile(num_choices)
    return many if num_rows >= _MANY_ROWS else _quantile(num_choices, max(num_rows - 1, 1))


def compare_rows(
    one: npt.ArrayLike, other: npt.ArrayLike, *, seed: int, num_choices: int = 1
) -> PairedTest:
    """Compare two sets of scores of the same rows.

    With one seed the interval resamples rows, and the p value flips the sign of each row's
    difference at random: if neither is better, both signs are as likely. The observed difference
    counts as one of the draws, so that p is never 0 (Phipson and Smyth, Permutation P-values Should
    Never Be Zero, 2010). With several seeds both come from Student's t: a difference must be larger
    than the noise of rows and of seeds together, and two seeds that agree by chance prove little.

    Args:
        one, other: scores, shape (rows,) or (seeds, rows); without seeds, as of a baseline, they
            are the same for every seed.
        seed: of the draws.
        num_choices: the one was chosen on these rows, as the best of so many. Only with one seed.

    """
    ones, others = (np.atleast_2d(np.asarray(scores, dtype=float)) for scores in (one, other))
    differences = ones - others
    num_seeds, num_rows = differences.shape
    judged = _judge_seeds(ones, others) if num_seeds > 1 else None
    interval, p_value = judged or _judge_rows(differences.mean(axis=0), num_choices, seed=seed)
    return PairedTest(
        difference=float(differences.mean()),
        interval=interval,
        p_value=p_value,
        num_rows=num_rows,
        num_seeds=num_seeds,
        num_choices=num_choices,
    )


def _judge_seeds(ones: Scores, others: Scores) -> tuple[Interval, float] | None:
    """Treat rows and seeds as random samples; None if the difference varies with neither.

    Rows are paired. Seeds are not: a seed's effect on one recipe says nothing about the other, so
    each recipe's spread over seeds is a term of its own.
    """
    differences = (ones - others).mean(axis=0)
    parts = [(differences.var() / len(differences), len(differences) - 1)] + [
        (scores.mean(axis=1).var(ddof=1) / len(scores), len(scores) - 1)
        for scores in (ones, others)
        if len(scores) > 1
    ]
    mean, error = float(differences.mean()), float(np.sqrt(sum(part for part, _ in parts)))
    if error < _ROUNDING:
        return None
    freedom = error**4 / sum(part**2 / max(free, 1) for part, free in parts)
    reach = error * float(stats.t.ppf(_SHARES[1] / 100, freedom))
    return Interval(mean - reach, mean + reach), float(2 * stats.t.sf(abs(mean) / error, freedom))


def _judge_rows(differences: Scores, num_choices: int, *, seed: int) -> tuple[Interval, float]:
    kinds, counts = np.unique(differences, return_counts=True)
    if len(kinds) > _MOST_KINDS or num_choices > _MOST_CHOICES:
        mean, error = float(differences.mean()), standard_error(differences)
        reach = _quantile(num_choices) * error
        p_value = float(2 * stats.norm.sf(abs(mean) / error)) if error else float(mean == 0)
        return Interval(mean - reach, mean + reach), min(1.0, num_choices * p_value)
    draw = np.random.default_rng(seed)
    means = np.concatenate([*_resample(kinds, counts, NUM_DRAWS, draw)]) / len(differences)
    interval = percentile_interval(means, num_choices=num_choices)
    return interval, min(1.0, num_choices * _flip_signs(kinds, counts, draw))


def _resample(
    kinds: Any, counts: npt.NDArray[np.intp], num_draws: int, draw: np.random.Generator
) -> Iterator[Scores]:
    """Draw all rows with replacement, and yield their sums in parts of shape (draws, …).

    Equal rows are interchangeable: drawn is how often each kind of them comes.
    """
    num_rows = counts.sum()
    for size in _chunks(max(len(counts), math.prod(kinds.shape[1:])), num_draws):
        yield draw.multinomial(num_rows, counts / num_rows, size=size) @ kinds


def _flip_signs(kinds: Scores, counts: npt.NDArray[np.intp], draw: np.random.Generator) -> float:
    observed = abs(float(kinds @ counts))
    reached = 0
    for size in _chunks(len(counts), NUM_DRAWS):
        positive = draw.binomial(counts, 0.5, size=(size, len(counts)))
        sums = np.abs((2 * positive - counts) @ kinds)
        reached += int(np.count_nonzero(sums >= observed - _ROUNDING))
    return (reached + 1) / (NUM_DRAWS + 1)


def _chunks(num_kinds: int, num_draws: int) -> list[int]:
    size = max(1, min(num_draws, _CHUNK_CELLS // num_kinds))
    whole, rest = divmod(num_draws, size)
    return [size] * whole + ([rest] if rest else [])
