"""Judge the fit of a run from its evaluations."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from tunetrail.tasks.base import Metric
from tunetrail.training.evaluations import Evaluation


class Verdict(StrEnum):
    """The verdict on a run: the first of these that applies, in this order."""

    NO_BETTER_THAN_BASELINE = "no better than the baseline"
    UNDERFITTING = "underfitting"
    OVERFITTING = "overfitting"
    GOOD = "good fit"
    # Of a model that was not trained there is no fit to judge.
    UNTRAINED = "better than the baseline"


# Validation loss that ends this far above its minimum has turned; less may be noise.
_LOSS_TURN = 0.05
# Validation loss that still falls by this share at the last evaluation: training ended too early.
_LOSS_FALL = 0.02
# A smaller gap of the main metric is usual for a model that has learnt something.
_GAP = 0.05


@dataclass(frozen=True)
class FitReport:
    """The fit at the best evaluation.

    ``gap`` is how much better train is than validation in the main metric, and ``gap_noise`` two
    standard errors of it, from the scores of the rows. ``loss_rise`` is how far the last validation
    loss is above the lowest, as a share of the lowest.
    """

    verdict: Verdict
    main_metric: str
    best_epoch: float
    train_score: float
    validation_score: float
    baseline_score: float | None
    gap: float
    gap_noise: float
    loss_rise: float
    advice: str

    def line(self) -> str:
        """Return the verdict in one line, with its numbers."""
        baseline = "" if self.baseline_score is None else f"; baseline {self.baseline_score:.3f}"
        return (
            f"{self.verdict}: {self.main_metric} {self.train_score:.3f} on train, "
            f"{self.validation_score:.3f} on validation (gap {self.gap:+.3f}, noise "
            f"±{self.gap_noise:.3f}{baseline}); {self.advice}"
        )

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": str(self.verdict), "line": self.line()}


def check_fit(
    evaluations: list[Evaluation],
    best: Evaluation,
    *,
    main_metric: str,
    metric: Metric,
    baseline_score: float | None,
    noise: Mapping[str, float],
    is_trained: bool = True,
) -> FitReport:
    """Judge the fit of a run by its evaluations.

    Args:
        evaluations: in order.
        best: the one whose weights are kept.
        baseline_score: of a simple baseline on validation; None if there is none.
        noise: split -> standard error of its score at the best evaluation.
        is_trained: whether the model was trained at all.

    """
    train, validation = best.train[main_metric], best.validation[main_metric]
    gap = metric.sign * (train - validation)
    gap_noise = 2 * math.hypot(noise["train"], noise["validation"])
    losses = [evaluation.validation["loss"] for evaluation in evaluations]
    rise = losses[-1] / min(losses) - 1
    # What the first epoch brings against the untuned model says nothing of a further one.
    tuned = [evaluation.validation["loss"] for evaluation in evaluations if evaluation.number]
    fell = 1 - tuned[-1] / tuned[-2] if len(tuned) > 1 else 0.0
    ended_best = best.step == evaluations[-1].step

    def beats_baseline(score: float, error: float) -> bool:
        return baseline_score is None or metric.sign * (score - baseline_score) > 2 * error

    beats = beats_baseline(validation, noise["validation"])
    train_beats = beats_baseline(train, noise["train"])

    if not is_trained:
        verdict = Verdict.UNTRAINED if beats else Verdict.NO_BETTER_THAN_BASELINE
        advice = (
            "nothing was trained"
            if beats
            else "nothing was trained: try another prompt, other examples or a larger model"
        )
    elif not beats and not train_beats:
        verdict = Verdict.NO_BETTER_THAN_BASELINE
        advice = "it has learnt nothing yet: raise the learning rate or train longer"
    elif not beats or rise > _LOSS_TURN or gap > max(_GAP if metric.is_share else 0.0, gap_noise):
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
        gap_noise=gap_noise,
        loss_rise=rise,
        advice=advice,
    )
