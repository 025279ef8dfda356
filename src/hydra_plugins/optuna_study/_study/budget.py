"""When a sweep ends: enough trials, no time left, no progress, or too many failures."""

import time
from enum import Enum

from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._jobs.failure import Failure, FailureKind
from hydra_plugins.optuna_study._spec.settings import Settings
from hydra_plugins.optuna_study._study.ledger import Ledger

# Seconds to wait after each outage in a row before a trial is run again.
OUTAGE_DELAYS = (2.0, 4.0, 8.0, 16.0, 32.0)


class Left(Enum):
    """What there is to do for this process."""

    MORE = "another trial may start"
    RUNNING = "the trials that still run fill the budget"
    NOTHING = "the study is done"


class Budget:
    """Counts trials and failures, and says when the sweep ends."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ends = None if settings.timeout is None else time.monotonic() + settings.timeout
        # Why the sweep ends before num_trials.
        self.reason: str | None = None
        self.last_failure: Failure | None = None
        self._num_failed = 0
        self._num_repeated = 0
        self._num_outages = 0
        self._pause_ends = 0.0

    def is_pausing(self) -> bool:
        """Whether the sweep waits for an outage to end."""
        return time.monotonic() < self._pause_ends

    def left(self, ledger: Ledger) -> Left:
        """Find whether another trial may start."""
        keys = self._settings.keys
        if self._ends is not None and time.monotonic() >= self._ends:
            self.reason = f"{keys['timeout']}={self._settings.timeout:g} s are over"
            return Left.NOTHING
        if ledger.num_finished >= self._settings.num_trials:
            return Left.NOTHING
        patience, since = self._settings.patience, ledger.num_since_best
        if patience is not None and since >= patience:
            self.reason = f"{_count(since)} without a new best ({keys['patience']}={patience})"
            return Left.NOTHING
        if ledger.num_finished + len(ledger.running) >= self._settings.num_trials:
            return Left.RUNNING if ledger.running else Left.NOTHING
        return Left.MORE

    def count(self, failure: Failure | None) -> None:
        """Count how a trial ended.

        Raises:
            SweepError: the same error came several times in a row, too many trials failed, an
                outage does not end, or the disk is full.

        """
        if failure is None or failure.kind is FailureKind.OUT_OF_MEMORY:
            self._num_repeated = self._num_outages = 0
            return
        if failure.kind is FailureKind.INTERRUPTED:
            return
        if failure.kind is FailureKind.DISK_FULL:
            raise SweepError(f"the sweep stops: {failure.line}")
        if failure.kind is FailureKind.OUTAGE:
            self._wait_for_outage(failure)
            return
        # What is left is a failure of the point or of the code.
        same = self.last_failure is not None and self.last_failure.pattern == failure.pattern
        self._num_repeated = self._num_repeated + 1 if same else 1
        self.last_failure = failure
        self._num_failed += 1
        settings = self._settings
        if failure.kind is not FailureKind.NOT_FINITE and (
            self._num_repeated >= settings.max_repeated_failures
        ):
            raise SweepError(f"{_count(self._num_repeated)} in a row failed with {failure.line}")
        if self._num_failed > settings.max_failure_rate * settings.num_trials:
            raise SweepError(
                f"{_count(self._num_failed)} failed, more than {settings.keys['max_failure_rate']}="
                f"{settings.max_failure_rate:g} of {settings.num_trials}, the last with "
                f"{failure.line}"
            )

    def _wait_for_outage(self, failure: Failure) -> None:
        if self._num_outages >= len(OUTAGE_DELAYS):
            raise SweepError(f"{_count(self._num_outages + 1)} in a row met an {failure.line}")
        self._pause_ends = time.monotonic() + OUTAGE_DELAYS[self._num_outages]
        self._num_outages += 1


def _count(number: int) -> str:
    return "1 trial" if number == 1 else f"{number} trials"
