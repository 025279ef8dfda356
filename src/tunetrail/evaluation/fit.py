"""Judge the fit of a run from its evaluations."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from tunetrail.evaluation.statistics import (
    errors_of_changes,
    half_interval,
    noise_of_gap,
    noise_of_mean,
)
from tunetrail.tasks.base import Array, Metric
from tunetrail.templates.sections import Section, Table
from tunetrail.training.evaluations import Evaluation


class Verdict(StrEnum):
    """The verdict on a run.

    What is certain comes first, in this order: a loss of train that rises; overfitting; a loss of
    validation that goes up and comes down again; no better than the baseline; underfitting. What
    may be chance gives none of these.
    """

    UNSTABLE = "unstable"
    OVERFITTING = "overfitting"
    NO_BETTER_THAN_BASELINE = "no better than the baseline"
    # Few steps, or one evaluation: there is no curve to judge.
    TOO_SHORT = "too short to say"
    UNDERFITTING = "underfitting"
    UNCLEAR = "too few rows to tell"
    GOOD = "good fit"
    # Of a model that was not trained there is no fit to judge.
    UNTRAINED = "better than the baseline"


# Validation loss that ends this far above its minimum has turned; less may be noise.
_LOSS_TURN = 0.05
# Validation loss that still falls by this share at the end: training ended too early.
_LOSS_FALL = 0.02
# A loss that rises by this share of the first one, and of what it was, and was or is lower.
_LOSS_SWING = 0.10
# A smaller gap of the main metric is usual for a model that has learnt something: of a share in
# points, of another metric as a share of it.
_GAP, _GAP_SHARE = 0.05, 0.10
# With fewer optimizer steps nothing but overfitting can be said.
_FEWEST_STEPS = 20
# Beside the gap there are tests for a turn, a fall, and an unstable loss of either split: each gets
# so small a part of the errors that all of them together are wrong in one run of twenty at most.
_SHARED, _SHARED_BY_SPLIT = 2, 4
# The part of the evaluations over whose end the fall is measured; at least one.
_END = 0.25


@dataclass(frozen=True)
class Fit:
    """What the curves say, in numbers: what a verdict and advice are made of.

    ``gap`` is how much better train is than validation in the main metric at the best evaluation,
    and ``gap_noise`` how far it may be off by chance: half a 95 % interval, from the scores of the
    rows. ``loss_rise`` is how far the last validation loss is above the lowest, as a share of the
    lowest, with its noise, which counts that the lowest is one of many. ``loss_fall`` is by how
    much of itself it fell at the end. ``begins`` is the first evaluation that shows overfitting.
    """

    verdict: Verdict
    gap: float
    gap_noise: float
    gap_usual: float
    loss_rise: float
    loss_rise_noise: float | None
    loss_fall: float
    has_gap: bool
    has_turned: bool
    beats_baseline: bool
    train_beats_baseline: bool
    lowest: Evaluation
    begins: Evaluation | None


@dataclass(frozen=True)
class FitReport:
    """The fit at the best evaluation: verdict, numbers, and what to try.

    ``override`` is a change of the run's own config, as it is typed; empty where nothing is to be
    changed. ``begins_epoch`` is the epoch from which on overfitting shows. ``baseline`` is the
    best one that was measured. Other numbers are as :class:`Fit` has them.
    """

    verdict: Verdict
    main_metric: str
    best_epoch: float
    train_score: float
    validation_score: float
    baseline: str | None
    baseline_score: float | None
    gap: float
    gap_noise: float
    loss_rise: float
    loss_rise_noise: float | None
    begins_epoch: float | None
    num_evaluations: int
    advice: str
    override: str

    def line(self) -> str:
        """Return the verdict in one line, with its numbers."""
        baseline = "" if self.baseline_score is None else f"; baseline {self.baseline_score:.3f}"
        begins = "" if self.begins_epoch is None else f" from epoch {self.begins_epoch:.3g} on"
        return (
            f"{self.verdict}{begins}: {self.main_metric} {self.train_score:.3f} on train, "
            f"{self.validation_score:.3f} on validation (gap {self.gap:+.3f}, noise "
            f"±{self.gap_noise:.3f}{baseline}); {self.advice}"
        )

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": str(self.verdict), "line": self.line()}

    def section(self) -> Section:
        """Return the fit as a part of a page."""
        rise = "" if self.loss_rise_noise is None else f"±{self.loss_rise_noise:.1%}"
        rows: list[list[object]] = [
            [f"{self.main_metric} on train", f"{self.train_score:.4f}", ""],
            [f"{self.main_metric} on validation", f"{self.validation_score:.4f}", ""],
            ["gap", f"{self.gap:+.4f}", f"±{self.gap_noise:.4f}"],
            ["rise of validation loss above its lowest", f"{self.loss_rise:.1%}", rise],
            ["overfitting shows from epoch", self.begins_epoch, ""],
            ["to try", self.override, ""],
        ]
        kept = [row for row in rows if row[1] not in (None, "")]
        return Section("Fit", self.line(), [Table(["", "value", "noise"], kept)])


def judge_fit(
    evaluations: Sequence[Evaluation],
    best: Evaluation,
    *,
    main_metric: str,
    metric: Metric,
    scores: Mapping[str, Array],
    losses: Mapping[str, Mapping[int, Array]],
    num_steps: int,
    beats_baseline: bool,
    baseline_score: float | None,
) -> Fit:
    """Judge the fit of a run by its evaluations. What may be chance decides nothing.

    Args:
        evaluations: in order.
        best: the one whose weights are kept.
        main_metric, metric: of the task.
        scores: split -> what each row contributes to the main metric at the best evaluation.
        losses: split -> step of an evaluation -> of each row, or of a part of them, the sum of its
            losses and of how many. A change from or to an evaluation without them decides nothing.
        num_steps: of the optimizer; 0 if the model was not trained at all.
        beats_baseline: whether the validation score is above that of the best baseline by more than
            noise; True if there is none.
        baseline_score: of that baseline.

    """
    train, validation = best.train[main_metric], best.validation[main_metric]
    gap = metric.sign * (train - validation)
    usual = _GAP if metric.is_share else _GAP_SHARE * abs(validation)
    gap_noise = noise_of_gap(scores["train"], scores["validation"])
    has_gap = gap > max(usual, gap_noise)
    train_beats = baseline_score is None or metric.sign * (train - baseline_score) > noise_of_mean(
        scores["train"], null=baseline_score
    )

    curve = _Curve(evaluations, "validation", losses, num_rows=len(scores["validation"]))
    lowest, turn, noise = curve.turn()
    rise = curve.rise(lowest)
    # What the first epoch brings against the untuned model says nothing of a further one.
    tuned = [evaluation for evaluation in evaluations if evaluation.number]
    parts = {
        split: _Curve(tuned, split, losses, num_rows=len(scores[split]))
        for split in ("train", "validation")
    }
    fall, has_turned = parts["validation"].fall(), turn is not None
    overfits = (has_gap or has_turned) and (beats_baseline or train_beats)
    is_best_last = best.step == evaluations[-1].step
    verdicts = (
        (not num_steps and beats_baseline, Verdict.UNTRAINED),
        (not num_steps, Verdict.NO_BETTER_THAN_BASELINE),
        (parts["train"].rises(), Verdict.UNSTABLE),
        (overfits, Verdict.OVERFITTING),
        (num_steps < _FEWEST_STEPS, Verdict.TOO_SHORT),
        (parts["validation"].swings(), Verdict.UNSTABLE),
        (not beats_baseline, Verdict.NO_BETTER_THAN_BASELINE),
        (len(tuned) == 1, Verdict.TOO_SHORT),
        (is_best_last and fall > _LOSS_FALL, Verdict.UNDERFITTING),
        (gap > usual or rise > _LOSS_TURN, Verdict.UNCLEAR),
        (True, Verdict.GOOD),
    )
    verdict = next(verdict for holds, verdict in verdicts if holds)
    begins = None
    if verdict is Verdict.OVERFITTING:
        gaps = [metric.sign * (e.train[main_metric] - e.validation[main_metric]) for e in tuned]
        apart = [e for e, found in zip(tuned, gaps, strict=True) if found > max(usual, gap_noise)]
        begins = evaluations[turn] if turn is not None else (*apart, best)[0]
    return Fit(
        verdict=verdict,
        gap=gap,
        gap_noise=gap_noise,
        gap_usual=usual,
        loss_rise=rise,
        loss_rise_noise=noise,
        loss_fall=fall,
        has_gap=has_gap,
        has_turned=has_turned,
        beats_baseline=beats_baseline,
        train_beats_baseline=train_beats,
        lowest=evaluations[lowest],
        begins=begins,
    )


class _Curve:
    """The losses of a split at the evaluations, with the noise of their changes."""

    def __init__(
        self,
        evaluations: Sequence[Evaluation],
        split: str,
        losses: Mapping[str, Mapping[int, Array]],
        *,
        num_rows: int,
    ) -> None:
        self.means = np.array([getattr(one, split)["loss"] for one in evaluations])
        of_rows = losses.get(split, {})
        known = np.array([one.step in of_rows for one in evaluations])
        self._errors = np.full((len(self.means),) * 2, np.inf)
        self._num_rows = 0
        if known.any():
            rows = np.stack([of_rows[one.step] for one in evaluations if one.step in of_rows])
            self._num_rows = rows.shape[1]
            self._errors[np.ix_(known, known)] = errors_of_changes(rows, num_rows=num_rows)

    def noise(self, num_choices: int = 1) -> Array:
        """Return the noise of each change, shape (evaluations, evaluations)."""
        return self._errors * half_interval(self._num_rows, num_choices=num_choices)

    def rise(self, lowest: int) -> float:
        """Return how far the last loss is above the lowest, as a share of that."""
        return float(self.means[-1] / self.means[lowest] - 1)

    def turn(self) -> tuple[int, int | None, float | None]:
        """Find the lowest loss, where it has risen for good, and the noise of the rise at the end.

        The noise is a share of the lowest; None if it is not known. The lowest is one of many: each
        of the others is compared with it. Where all from one to the last are above it by more than
        noise, and the last by more than is usual, the loss has turned.
        """
        lowest, last = int(np.argmin(self.means)), len(self.means) - 1
        noise = self.noise(_SHARED * max(last, 1))[lowest]
        is_above = self.means - self.means[lowest] > noise
        known = float(noise[last] / self.means[lowest]) if np.isfinite(noise[last]) else None
        if not (is_above[last] and self.rise(lowest) > _LOSS_TURN):
            return lowest, None, known
        turn = last
        while is_above[turn - 1] and turn - 1 > lowest:
            turn -= 1
        return lowest, turn, known

    def fall(self) -> float:
        """Return by how much of itself the loss fell at the end; 0 where that may be chance."""
        last = len(self.means) - 1
        if not last:
            return 0.0
        first = last - max(1, round(_END * last))
        fallen = float(self.means[first] - self.means[last])
        return (
            fallen / float(self.means[first]) if fallen > self.noise(_SHARED)[first, last] else 0.0
        )

    def rises(self) -> bool:
        """Whether the loss is above what it was before, by more than noise and a tenth."""
        return bool(self._is_above().any())

    def swings(self) -> bool:
        """Whether the loss goes up from what it was, and comes down again."""
        is_above = self._is_above()
        above_before = is_above.any(axis=1)
        above_after = self._is_above(after=True).any(axis=1)
        return bool((above_before & above_after).any())

    def _is_above(self, *, after: bool = False) -> Array:
        """Return at which evaluations the loss is above which earlier, or later, ones."""
        number = len(self.means)
        above = np.subtract.outer(self.means, self.means)
        # Each pair is looked at.
        noise = self.noise(_SHARED_BY_SPLIT * max(number * (number - 1) // 2, 1))
        least = _LOSS_SWING * np.maximum(self.means[0], self.means)[None, :]
        places = np.arange(number)
        order = places[:, None] < places[None, :] if after else places[:, None] > places[None, :]
        found: Array = order & (above > np.maximum(noise, least))
        return found
