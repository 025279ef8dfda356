"""How the fit looks: over, under, unstable or sound, from the evaluations of a run."""

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from tunetrail.training.trainer import Evaluation


class Verdict(StrEnum):
    """What the curves say. One holds for each run: the first that applies, in this order."""

    NO_BETTER_THAN_BASELINE = "no better than the baseline"
    UNDERFITTING = "underfitting"
    OVERFITTING = "overfitting"
    GOOD = "good fit"


# Validation loss this much above its minimum at the end is a turn, not noise of batches.
_LOSS_TURN = 0.05
# Validation loss still falling by this share at the last evaluation: training ended early.
_LOSS_FALL = 0.02
# A gap of the main metric below this is usual for a model that has learnt anything at all.
_GAP = 0.05


@dataclass(frozen=True)
class FitReport:
    """The fit at the best evaluation.

    ``gap`` is train minus validation of the main metric there; ``gap_noise`` two standard errors
    of that difference, from the number of rows behind each score. ``loss_rise`` is how far the
    last validation loss lies above the lowest, as a share of it.
    """

    verdict: Verdict
    main_metric: str
    best_epoch: float
    train_score: float
    validation_score: float
    baseline_score: float
    gap: float
    gap_noise: float
    loss_rise: float
    advice: str

    def line(self) -> str:
        """Say it in one line, with the numbers it rests on."""
        return (
            f"{self.verdict}: {self.main_metric} {self.train_score:.3f} on train, "
            f"{self.validation_score:.3f} on validation (gap {self.gap:+.3f}, noise "
            f"±{self.gap_noise:.3f}; baseline {self.baseline_score:.3f}); {self.advice}"
        )

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": str(self.verdict), "line": self.line()}


def check_fit(
    evaluations: list[Evaluation],
    best: Evaluation,
    *,
    main_metric: str,
    baseline_score: float,
    num_train: int,
    num_validation: int,
) -> FitReport:
    """Judge the fit of a run by its evaluations.

    The noise of a score that is a share of n rows is taken as binomial, sqrt(p(1-p)/n). That is
    exact for accuracy and near enough for macro averages to tell a gap from nothing.

    Args:
        num_train, num_validation: rows behind the scores of train and of validation.

    """
    train, validation = best.train[main_metric], best.validation[main_metric]
    gap = train - validation
    noise = 2 * math.hypot(
        _standard_error(train, num_train), _standard_error(validation, num_validation)
    )
    losses = [evaluation.validation["loss"] for evaluation in evaluations]
    rise = losses[-1] / min(losses) - 1
    fell = 1 - losses[-1] / losses[-2] if len(losses) > 1 else 0.0
    ended_best = best.step == evaluations[-1].step
    beats = validation - baseline_score > 2 * _standard_error(validation, num_validation)
    train_beats = train - baseline_score > 2 * _standard_error(train, num_train)

    if not beats and not train_beats:
        verdict = Verdict.NO_BETTER_THAN_BASELINE
        advice = "it has learnt nothing yet: raise the learning rate or train longer"
    elif not beats or rise > _LOSS_TURN or gap > max(_GAP, noise):
        verdict = Verdict.OVERFITTING
        advice = (
            f"validation loss ends {rise:.0%} above its lowest: fewer epochs or more data"
            if rise > _LOSS_TURN
            else "more data, fewer epochs or more weight decay would narrow the gap"
        )
    elif ended_best and fell > _LOSS_FALL:
        verdict = Verdict.UNDERFITTING
        advice = f"validation loss still fell by {fell:.0%} at the end: train longer"
    else:
        verdict = Verdict.GOOD
        advice = "train and validation move together"
    return FitReport(
        verdict=verdict,
        main_metric=main_metric,
        best_epoch=best.epoch,
        train_score=train,
        validation_score=validation,
        baseline_score=baseline_score,
        gap=gap,
        gap_noise=noise,
        loss_rise=rise,
        advice=advice,
    )


def _standard_error(score: float, num_rows: int) -> float:
    share = min(max(score, 0.0), 1.0)
    return math.sqrt(share * (1 - share) / num_rows)
