"""Judge the fit of a run from its evaluations."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from tunetrail.evaluation.outcome import Baseline
from tunetrail.evaluation.statistics import noise_of_change, noise_of_gap, noise_of_mean
from tunetrail.tasks.base import Array, Metric
from tunetrail.training.evaluations import Evaluation


class Verdict(StrEnum):
    """The verdict on a run: the first of these that applies, in this order."""

    NO_BETTER_THAN_BASELINE = "no better than the baseline"
    UNDERFITTING = "underfitting"
    OVERFITTING = "overfitting"
    UNCLEAR = "too few rows to tell"
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

    ``gap`` is how much better train is than validation in the main metric, and ``gap_noise`` how
    far it may be off by chance: half a 95 % interval, from the scores of the rows. ``loss_rise`` is
    how far the last validation loss is above the lowest, as a share of the lowest, with its noise.
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
    loss_rise_noise: float | None
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
    baseline: Baseline | None,
    scores: Mapping[str, Array],
    losses: Mapping[int, Array],
    is_trained: bool = True,
) -> FitReport:
    """Judge the fit of a run by its evaluations. What may be chance decides nothing.

    Args:
        evaluations: in order.
        best: the one whose weights are kept.
        baseline: a simple one on validation; None if there is none.
        scores: split -> what each row contributes to the main metric at the best evaluation; of
            validation sorted as the baseline's.
        losses: step of an evaluation -> of each validation row the sum of its losses and of how
            many; of those with the lowest and the last two losses. A change from or to one that
            is missing decides nothing.
        is_trained: whether the model was trained at all.

    """
    train, validation = best.train[main_metric], best.validation[main_metric]
    gap = metric.sign * (train - validation)
    gap_noise = noise_of_gap(scores["train"], scores["validation"])
    lowest = min(evaluations, key=lambda evaluation: evaluation.validation["loss"])
    rise = _change(evaluations[-1], lowest, losses)
    # What the first epoch brings against the untuned model says nothing of a further one.
    tuned = [evaluation for evaluation in evaluations if evaluation.number]
    fall = _change(tuned[-1], tuned[-2], losses) if len(tuned) > 1 else _Change(0.0, 0.0)
    turned, falling = rise.share > _LOSS_TURN, -fall.share > _LOSS_FALL
    usual = _GAP if metric.is_share else 0.0
    is_apart = gap > max(usual, gap_noise)

    beats = baseline is None or _gain(metric, validation, baseline) > _noise_against(
        scores["validation"], baseline
    )
    train_beats = baseline is None or _gain(metric, train, baseline) > noise_of_mean(
        scores["train"], null=baseline.score
    )

    if not is_trained:
        verdict = Verdict.UNTRAINED if beats else Verdict.NO_BETTER_THAN_BASELINE
        advice = (
            "nothing was trained"
            if beats
            else "nothing was trained: try another prompt, other examples or a larger model"
        )
    elif not beats and not (train_beats and (is_apart or (turned and rise.is_certain))):
        verdict = Verdict.NO_BETTER_THAN_BASELINE
        advice = "it has learnt nothing yet: raise the learning rate or train longer"
        if baseline is not None and _gain(metric, validation, baseline) > 0:
            advice = (
                "what it is better by may be chance: more rows of validation would tell, or train "
                "longer"
            )
    elif is_apart or (turned and rise.is_certain):
        verdict = Verdict.OVERFITTING
        advice = (
            f"validation loss ends {rise.share:.0%} above its lowest: fewer epochs or more data"
            if turned and rise.is_certain
            else "more data, fewer epochs or more weight decay would narrow the gap"
        )
    elif best.step == evaluations[-1].step and falling and fall.is_certain:
        verdict = Verdict.UNDERFITTING
        advice = f"validation loss still fell by {-fall.share:.0%} at the end: train longer"
    elif gap > usual or turned:
        verdict = Verdict.UNCLEAR
        what = "the gap" if gap > usual else f"the rise of validation loss by {rise.share:.0%}"
        advice = f"{what} may be chance: more rows of validation and of the train sample would tell"
    else:
        verdict = Verdict.GOOD
        advice = "train and validation move together"
    return FitReport(
        verdict=verdict,
        main_metric=main_metric,
        best_epoch=best.epoch,
        train_score=train,
        validation_score=validation,
        baseline_score=None if baseline is None else baseline.score,
        gap=gap,
        gap_noise=gap_noise,
        loss_rise=rise.share,
        loss_rise_noise=rise.noise,
        advice=advice,
    )


@dataclass(frozen=True)
class _Change:
    """A change of validation loss, as a share of what it was; ``noise`` None: not known."""

    share: float
    noise: float | None

    @property
    def is_certain(self) -> bool:
        return self.noise is not None and abs(self.share) > self.noise


def _change(later: Evaluation, earlier: Evaluation, losses: Mapping[int, Array]) -> _Change:
    before = earlier.validation["loss"]
    share = later.validation["loss"] / before - 1
    if later.step not in losses or earlier.step not in losses:
        return _Change(share, None)
    return _Change(share, noise_of_change(losses[later.step], losses[earlier.step]) / before)


def _gain(metric: Metric, score: float, baseline: Baseline) -> float:
    return metric.sign * (score - baseline.score)


def _noise_against(scores: Array, baseline: Baseline) -> float:
    """Return the noise of a score against that of a baseline, in pairs where rows are known."""
    if baseline.rows is None:
        return noise_of_mean(scores, null=baseline.score)
    return noise_of_mean(scores - baseline.rows, null=0.0)
