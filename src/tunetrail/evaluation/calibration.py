"""Whether probabilities mean what they say, and a temperature that makes them mean it.

The expected calibration error is that of Naeini et al., Obtaining Well Calibrated Probabilities
Using Bayesian Binning, AAAI 2015, with the fifteen bins of Guo et al., On Calibration of Modern
Neural Networks, ICML 2017, which is where the temperature is from, too. Few rows show an error by
chance: what a calibrated model would show on as many is drawn, as in Bröcker and Smith, Increasing
the Reliability of Reliability Diagrams, Weather and Forecasting 2007.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from scipy.special import softmax as softmax_of

from tunetrail.data.columns import count_of
from tunetrail.tasks.base import Decisions, Task
from tunetrail.training.tokens import Split
from tunetrail.training.trainer import MeasuringTrainer

NUM_BINS = 15
_NUM_FOLDS = 5
# Fewer rows, or fewer of those that are right or wrong, say too little of a temperature: where all
# are right the best one would be 0, where all are wrong without end.
_FEWEST_ROWS, _FEWEST_OF_EACH = 50, 5
_LOWEST, _HIGHEST = 0.1, 10.0
# Cells of logits that a temperature is fitted on, and random numbers: a second at most.
_MOST_FITTED, _MOST_DRAWN = 100_000, 1_000_000
_FEWEST_DRAWS, _MOST_DRAWS = 20, 500
_HIGH = 95

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """Decisions whose confidence lies in [low, high]: how many, how sure, and how often right."""

    low: float
    high: float
    number: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class CalibrationReport:
    """How far confidence is from accuracy on validation, before and after a temperature.

    ``ece_of_calibrated`` is what a calibrated model with the same confidences would show on so many
    rows, on average and at most (of 95 draws in 100). ``fitted`` is of the rows that the
    temperature was fitted on, ``cross_fitted`` of rows that it was not: five times one is fitted on
    four fifths of the rows and applied to the others. Where none could be fitted ``temperature`` is
    1, ``reason`` says why, and nothing differs after it.
    """

    decided: str
    num_rows: int
    num_decisions: int
    accuracy: float
    confidence: float
    ece: float
    ece_of_calibrated: float
    ece_of_calibrated_high: float
    temperature: float
    reason: str | None
    ece_fitted: float
    ece_cross_fitted: float
    nll: float
    nll_cross_fitted: float
    is_applied: bool
    before: tuple[Bin, ...]
    after: tuple[Bin, ...]

    @property
    def is_noticeable(self) -> bool:
        """Whether the error is more than a calibrated model would show by chance."""
        return self.ece > self.ece_of_calibrated_high

    def finding(self) -> str:
        """Say in a few words which way the probabilities are wrong."""
        if not self.is_noticeable:
            return "no more than chance shows on so many rows"
        if abs(self.confidence - self.accuracy) < self.ece / 2:
            return "sure where it should not be, and unsure where it could be sure"
        return "over-confident" if self.confidence > self.accuracy else "under-confident"

    def line(self) -> str:
        """Say in one line how far confidence is from accuracy, and what a temperature does."""
        return (
            f"expected calibration error {self.ece:.3f} (a calibrated model: "
            f"{self.ece_of_calibrated:.3f}, at most {self.ece_of_calibrated_high:.3f}): "
            f"{self.finding()}; {self.remedy()}"
        )

    def remedy(self) -> str:
        """Say what a temperature does, or why there is none."""
        if self.reason is not None:
            return f"no temperature: {self.reason}"
        after = f"{self.ece_cross_fitted:.3f} on rows that it was not fitted on"
        if self.is_applied:
            return f"the model divides its logits by {self.temperature:.3f}, which gives {after}"
        if not self.is_noticeable:
            return f"a temperature of {self.temperature:.3f} would give {after}"
        return (
            f"calibrate=true would divide its logits by {self.temperature:.3f}, which gives {after}"
        )

    def metrics(self) -> dict[str, float]:
        return {
            "calibration/ece": self.ece,
            "calibration/ece_of_calibrated": self.ece_of_calibrated,
            "calibration/ece_fitted": self.ece_fitted,
            "calibration/ece_cross_fitted": self.ece_cross_fitted,
            "calibration/temperature": self.temperature,
        }

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "line": self.line()}


def calibrate(
    trainer: MeasuringTrainer, task: Task, split: Split, *, step: int, cfg: DictConfig
) -> tuple[Task, CalibrationReport | None]:
    """Measure a classifier; with ``calibrate=true`` its task comes back with a temperature.

    Args:
        trainer: which has measured the split at ``step``.

    """
    if not (cfg.diagnostics.calibration and task.says_probabilities):
        return task, None
    outputs = trainer.outputs_of("validation", step=step)
    decisions = task.decisions(split.rows, split.encoded, outputs)
    if decisions is None:
        return task, None
    found = check_calibration(decisions, seed=cfg.seed, is_applied=cfg.calibrate)
    return (task.at_temperature(found.temperature) if found.is_applied else task), found


def check_calibration(found: Decisions, *, seed: int, is_applied: bool) -> CalibrationReport:
    """Compare confidence with accuracy, and fit a temperature.

    Args:
        found: the logits of decisions and what is right.
        seed: of the folds and draws; no other generator is used.
        is_applied: whether the model will divide its logits by the temperature.

    """
    draw = np.random.default_rng(seed)
    logits, targets = np.asarray(found.logits, dtype=np.float64), np.asarray(found.targets)
    right = logits.argmax(axis=-1) == targets
    confidence = _confidence(logits)
    calibrated = _draw_calibrated(confidence, draw)
    temperature, reason = _fit(found, logits, targets, right, draw)
    folds = draw.permutation(found.num_rows)[found.row_of_decision()] % _NUM_FOLDS
    crossed, crossed_nll = confidence.copy(), _nll(logits, targets)
    if reason is None:
        for own in _each_fold(folds):
            fitted = _search(*_some(logits[~own], targets[~own], draw))
            crossed[own] = _confidence(logits[own] / fitted)
            crossed_nll[own] = _nll(logits[own] / fitted, targets[own])
    return CalibrationReport(
        decided=found.decided,
        num_rows=found.num_rows,
        num_decisions=len(logits),
        accuracy=float(right.mean()),
        confidence=float(confidence.mean()),
        ece=expected_error(confidence, right),
        ece_of_calibrated=float(calibrated.mean()),
        ece_of_calibrated_high=float(np.percentile(calibrated, _HIGH)),
        temperature=temperature,
        reason=reason,
        ece_fitted=expected_error(_confidence(logits / temperature), right),
        ece_cross_fitted=expected_error(crossed, right),
        nll=float(_nll(logits, targets).mean()),
        nll_cross_fitted=float(crossed_nll.mean()),
        is_applied=is_applied and reason is None,
        before=list_bins(confidence, right),
        after=list_bins(crossed, right),
    )


def expected_error(confidence: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Return the mean distance of confidence and accuracy over bins, weighted by their rows."""
    places = _places(confidence)
    gaps = np.bincount(places, weights=confidence - right, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def list_bins(confidence: Floats, right: npt.NDArray[np.bool_]) -> tuple[Bin, ...]:
    """List the bins that are not empty, the least confident first."""
    places = _places(confidence)
    found = []
    for place in np.unique(places):
        own = places == place
        low, high = place / NUM_BINS, (place + 1) / NUM_BINS
        mean, share = float(confidence[own].mean()), float(right[own].mean())
        found.append(Bin(float(low), float(high), int(own.sum()), mean, share))
    return tuple(found)


def _places(confidence: Floats) -> npt.NDArray[np.intp]:
    return np.minimum((confidence * NUM_BINS).astype(np.intp), NUM_BINS - 1)


def _confidence(logits: Floats) -> Floats:
    best: Floats = softmax_of(logits, axis=-1).max(axis=-1)
    return best


def _nll(logits: Floats, targets: npt.NDArray[Any]) -> Floats:
    chosen = np.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    losses: Floats = logsumexp(logits, axis=-1) - chosen
    return losses


def _draw_calibrated(confidence: Floats, draw: np.random.Generator) -> Floats:
    """Draw errors of a model that is right as often as its confidence says."""
    number = int(np.clip(_MOST_DRAWN // len(confidence), _FEWEST_DRAWS, _MOST_DRAWS))
    found = [
        expected_error(confidence, draw.random(len(confidence)) < confidence) for _ in range(number)
    ]
    return np.asarray(found)


def _fit(
    found: Decisions,
    logits: Floats,
    targets: npt.NDArray[Any],
    right: npt.NDArray[np.bool_],
    draw: np.random.Generator,
) -> tuple[float, str | None]:
    """Fit the temperature; with a reason where there is none."""
    num_right = int(right.sum())
    if found.num_rows < _FEWEST_ROWS:
        rows = count_of(found.num_rows, "row")
        return 1.0, f"validation has {rows}, and {_FEWEST_ROWS} are needed"
    for number, word in ((num_right, "right"), (len(right) - num_right, "wrong")):
        if number < _FEWEST_OF_EACH:
            return 1.0, (
                f"{number:,} of {len(right):,} {found.decided} are {word}, and "
                f"{_FEWEST_OF_EACH} are needed"
            )
    temperature = _search(*_some(logits, targets, draw))
    if not _LOWEST * 1.01 < temperature < _HIGHEST / 1.01:
        return 1.0, f"the best one lies beyond {_LOWEST:g} to {_HIGHEST:g}"
    return temperature, None


def _search(logits: Floats, targets: npt.NDArray[Any]) -> float:
    """Return the temperature with the lowest negative log-likelihood.

    In the inverse temperature that is convex, so there is one minimum.
    """
    best = minimize_scalar(
        lambda log: float(_nll(logits * np.exp(-log), targets).mean()),
        bounds=(np.log(_LOWEST), np.log(_HIGHEST)),
        method="bounded",
        options={"xatol": 1e-5},
    )
    return float(np.exp(best.x))


def _some(
    logits: Floats, targets: npt.NDArray[Any], draw: np.random.Generator
) -> tuple[Floats, npt.NDArray[Any]]:
    """Take as many decisions as a temperature needs, where there are very many."""
    most = max(_MOST_FITTED // logits.shape[1], 1)
    if len(logits) <= most:
        return logits, targets
    chosen = draw.choice(len(logits), size=most, replace=False)
    return logits[chosen], targets[chosen]


def _each_fold(folds: npt.NDArray[np.intp]) -> Iterator[npt.NDArray[np.bool_]]:
    for fold in range(_NUM_FOLDS):
        yield folds == fold
