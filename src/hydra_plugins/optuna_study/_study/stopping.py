"""Requests to stop, which somebody else writes on the study: read while jobs run."""

import contextlib
import threading
from collections.abc import Iterator

import optuna

from hydra_plugins.optuna_study._jobs.interruption import Interruption
from hydra_plugins.optuna_study.attributes import STOP

# Seconds between two looks.
EVERY = 2.0


class StopRequest:
    """Whether somebody has asked for the end of a study since this process began with it."""

    def __init__(self, study: optuna.Study, interruption: Interruption) -> None:
        self._study = study
        self._interruption = interruption
        # The last request that was seen; at first one for an earlier process.
        self._seen = study.user_attrs.get(STOP)
        self.is_made = False

    def look(self) -> None:
        """Read the study; interrupt the jobs of this process if that was asked for."""
        found = self._study.user_attrs.get(STOP)
        if found == self._seen or not isinstance(found, dict):
            return
        self._seen, self.is_made = found, True
        if found.get("now") is True:
            self._interruption.interrupt()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Look now and then: a job in this process leaves no other moment."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(EVERY):
                # The storage may fail; whoever works with it says so.
                with contextlib.suppress(Exception):
                    self.look()

        thread = threading.Thread(target=watch, name="stop-request", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(EVERY)
