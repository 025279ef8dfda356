"""What tuning has changed: the untuned model against the best weights, on the same rows."""

from dataclasses import asdict, dataclass
from typing import Any

from tunetrail.evaluation.outcome import SplitOutcome
from tunetrail.evaluation.statistics import Interval, PairedTest, bootstrap, compare_rows

# How the baseline that was measured before training is named in a sentence.
UNTUNED = "the untuned model"


@dataclass(frozen=True)
class TuningReport:
    """Scores before and after with their intervals, and the gain in the main metric.

    ``gain`` is positive where the best weights are better, whichever way the metric runs.
    """

    main_metric: str
    before: dict[str, float]
    after: dict[str, float]
    before_intervals: dict[str, Interval]
    after_intervals: dict[str, Interval]
    gain: PairedTest

    def line(self) -> str:
        """Say in one line what has changed."""
        name = self.main_metric
        before = f"{self.before[name]:.4f} {self.before_intervals[name]}"
        after = f"{self.after[name]:.4f} {self.after_intervals[name]}"
        return f"{name.replace('_', ' ')} {before} before, {after} after; gain {self.gain}"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "line": self.line()}


def compare_with_untuned(before: SplitOutcome, after: SplitOutcome, *, seed: int) -> TuningReport:
    """Compare two outcomes on the same rows.

    Args:
        before, after: in the same order.
        seed: of the draws.

    """
    task = after.task
    sign = task.metrics[task.main_metric].sign
    scores = [task.score(outcome.statistics.sum(axis=0)) for outcome in (before, after)]
    intervals = [bootstrap(o.statistics, task.score, seed=seed) for o in (before, after)]
    plain = [{name: float(value) for name, value in found.items()} for found in scores]
    return TuningReport(
        main_metric=task.main_metric,
        before=plain[0],
        after=plain[1],
        before_intervals=intervals[0],
        after_intervals=intervals[1],
        gain=compare_rows(
            sign * after.table["score"].to_numpy(),
            sign * before.table["score"].to_numpy(),
            seed=seed,
        ),
    )
