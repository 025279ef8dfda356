"""Whether a rerun gives the same numbers: every value of every metric, step by step."""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from tunetrail.runs.records import History

# Metrics that are logged once, after the training, and belong to no step.
_OF_THE_WHOLE_RUN = ("best/", "baselines/", "calibration/", "forgetting/", "test/")


class RerunVerdict(StrEnum):
    """How far two runs of the same thing agree."""

    BIT_IDENTICAL = "bit-identical"
    WITHIN_TOLERANCE = "within tolerance"
    DIVERGED = "diverged"


@dataclass(frozen=True)
class ComparedValue:
    """A value of the original and that of the rerun; None if a run has none.

    ``relative`` is the difference as a share of the metric's scale; infinite if one value is
    missing or NaN.
    """

    metric: str
    step: int
    original: float | None
    rerun: float | None
    relative: float

    @property
    def is_identical(self) -> bool:
        """Whether both are the same 64 bits; any NaN equals any other."""
        if self.original is None or self.rerun is None:
            return False
        if math.isnan(self.original) and math.isnan(self.rerun):
            return True
        return struct.pack("<d", self.original) == struct.pack("<d", self.rerun)

    @property
    def difference(self) -> float:
        """Rerun minus original; NaN if one has no value."""
        if self.original is None or self.rerun is None:
            return math.nan
        return self.rerun - self.original

    @property
    def is_of_the_whole_run(self) -> bool:
        return self.metric.startswith(_OF_THE_WHOLE_RUN)

    @property
    def where(self) -> str:
        """The step, in words."""
        return "the end" if self.is_of_the_whole_run else f"step {self.step}"

    @property
    def order(self) -> tuple[bool, int, str]:
        """Sort key: time, then name."""
        return self.is_of_the_whole_run, self.step, self.metric


@dataclass(frozen=True)
class Agreement:
    """All values of two runs, in the order of time."""

    comparisons: tuple[ComparedValue, ...]
    tolerance: float

    @cached_property
    def differing(self) -> list[ComparedValue]:
        return [found for found in self.comparisons if not found.is_identical]

    @property
    def first_beyond(self) -> ComparedValue | None:
        """The largest difference at the first step with one beyond the tolerance."""
        beyond = [found for found in self.differing if found.relative > self.tolerance]
        earliest = [found for found in beyond if found.order[:2] == beyond[0].order[:2]]
        return max(earliest, key=lambda found: found.relative, default=None)

    @property
    def largest(self) -> ComparedValue | None:
        """The largest relative difference; None if there is none."""
        return max(self.differing, key=lambda found: found.relative, default=None)

    @property
    def verdict(self) -> RerunVerdict:
        if not self.differing:
            return RerunVerdict.BIT_IDENTICAL
        return RerunVerdict.WITHIN_TOLERANCE if self.first_beyond is None else RerunVerdict.DIVERGED


def check_agreement(
    original: Mapping[str, History],
    rerun: Mapping[str, History],
    *,
    tolerance: float,
    has_ended_early: bool,
) -> Agreement:
    """Compare every value of two runs.

    Args:
        original, rerun: metric -> step -> value.
        tolerance: the largest difference that counts as the same result, as a share of the
            metric's scale. The scale is the largest magnitude in the metric's family in the
            original: ``loss`` of train, validation, gap, best and test is one family, since a gap
            near 0 has no scale of its own.
        has_ended_early: the original was pruned, failed or was stopped; further values of the
            rerun do not count.

    """
    scales = _find_scales(original)
    places = {(metric, step) for metric, history in original.items() for step in history}
    if not has_ended_early:
        places |= {(metric, step) for metric, history in rerun.items() for step in history}
    found = [
        _compare(
            metric,
            step,
            original.get(metric, {}).get(step),
            rerun.get(metric, {}).get(step),
            scale=scales.get(_family(metric), 0.0),
        )
        for metric, step in places
    ]
    return Agreement(tuple(sorted(found, key=lambda one: one.order)), tolerance)


def _compare(
    metric: str, step: int, original: float | None, rerun: float | None, *, scale: float
) -> ComparedValue:
    relative = math.inf
    if original is not None and rerun is not None:
        difference = abs(rerun - original)
        if difference == 0:
            relative = 0.0
        elif math.isfinite(difference) and scale > 0:
            relative = difference / scale
        elif math.isnan(original) and math.isnan(rerun):
            relative = 0.0
    return ComparedValue(metric, step, original, rerun, relative)


def _family(metric: str) -> str:
    return metric.rsplit("/", 1)[-1]


def _find_scales(metrics: Mapping[str, History]) -> dict[str, float]:
    scales: dict[str, float] = {}
    for metric, history in metrics.items():
        values = [abs(value) for value in history.values() if math.isfinite(value)]
        family = _family(metric)
        scales[family] = max([scales.get(family, 0.0), *values])
    return scales


def format_verdict(agreement: Agreement, reasons: Sequence[str], *, so_far: str) -> str:
    """Write in one line how far two runs agree, and why they differ.

    Args:
        reasons: known differences between the runs.
        so_far: a note on an original that ended early, or empty.

    """
    num = len(agreement.comparisons)
    end = f"; {so_far}" if so_far else ""
    if agreement.verdict is RerunVerdict.BIT_IDENTICAL:
        noted = f", although {'; '.join(reasons)}" if reasons else ""
        num_metrics = len({found.metric for found in agreement.comparisons})
        metrics = f"{num} values of {num_metrics} metrics"
        return f"{agreement.verdict}: {metrics}{noted}{end}"
    why = (
        f"because {'; '.join(reasons)}"
        if reasons
        else "though no recorded difference is known: the computation itself is not "
        "deterministic here (trainer.full_determinism=true makes it so where possible)"
    )
    largest = agreement.largest
    assert largest is not None
    if agreement.verdict is RerunVerdict.WITHIN_TOLERANCE:
        size = f"{abs(largest.difference):.2g} ({largest.relative:.2g} of its scale)"
        where = f"in {largest.metric} at {largest.where}"
        count = f"{len(agreement.differing)} of {num} values differ"
        return f"{agreement.verdict}: largest difference {size} {where}, {count}, {why}{end}"
    first = agreement.first_beyond
    assert first is not None
    values = f"{first.metric} {_show(first.original)} -> {_show(first.rerun)}"
    earlier = agreement.differing[0].where
    noted = f", differing from {earlier} on" if earlier != first.where else ""
    return f"{agreement.verdict} at {first.where} ({values}{noted}), {why}{end}"


def _show(value: float | None) -> str:
    return "missing" if value is None else f"{value:.6g}"
