"""The result of a study's finals as numbers; :mod:`.report` writes it in words."""

from collections.abc import Mapping
from dataclasses import dataclass

from tunetrail.evaluation.statistics import Interval, PairedTest
from tunetrail.studies.finals.finalists import Finalist, FinalsResult
from tunetrail.studies.finals.worth import Worth, name_gain
from tunetrail.tracking.registry import Registered

# The name of the default config in a comparison.
DEFAULT = "the default config"


@dataclass(frozen=True)
class WinnerComparison:
    """The winner compared with something else on the same rows of a split."""

    against: str
    split: str
    result: PairedTest


@dataclass(frozen=True)
class TestRecord:
    """The winner's scores on the test split, as its run holds them."""

    __test__ = False  # no test, for pytest

    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval]
    num_rows: int
    fingerprint: str
    mean_confidence: float | None


@dataclass(frozen=True)
class Conclusion:
    """All that is known of a study's winner.

    ``run_id`` is the run of the winner's last seed. ``num_looks`` counts the models of this study
    that were scored on test. ``notes`` say what was left out, and why. ``greater_is_better`` is the
    direction of the main metric.
    """

    result: FinalsResult
    winner: Finalist
    run_id: str
    main_metric: str
    greater_is_better: bool
    comparisons: tuple[WinnerComparison, ...]
    test: TestRecord | None
    num_looks: int
    all_scored_test: bool
    registered: Registered | None
    notes: tuple[str, ...]
    worths: tuple[Worth, ...]

    @property
    def gain(self) -> str:
        """Name what the comparisons measure."""
        return name_gain(self.main_metric, greater_is_better=self.greater_is_better)
