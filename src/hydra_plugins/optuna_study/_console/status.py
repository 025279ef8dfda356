"""What runs at this moment: a line for each trial, on a terminal only."""

import contextlib
import logging
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from tqdm import tqdm

from hydra_plugins.optuna_study._console.report import format_params, format_seconds, name_trial
from hydra_plugins.optuna_study.attributes import params_of

log = logging.getLogger("hydra_plugins.optuna_study._loop")

REFRESH_SECONDS = 1.0


class StatusLines:
    """Lines below the log that show how far the trials of this process are."""

    def __init__(self, study: optuna.Study, running: Mapping[int, Any]) -> None:
        self._study = study
        self._running = running
        self._bars: list[tqdm[Any]] = []
        self._said: set[str] = set()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the lines up to date. There are none in a file or a pipe."""
        if not sys.stderr.isatty():
            yield
            return
        stop = threading.Event()
        thread = threading.Thread(target=self._refresh, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            for bar in self._bars:
                bar.close()
            self._bars.clear()

    def say(self, text: str) -> None:
        """Log a text above the lines."""
        if not self._bars:
            log.info("%s", text)
            return
        # To remove the line of the trial that has just ended.
        with contextlib.suppress(Exception):
            self._draw()
        with tqdm.external_write_mode():
            log.info("%s", text)

    def say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.say(text)

    def _refresh(self, stop: threading.Event) -> None:
        while not stop.wait(REFRESH_SECONDS):
            # An error of the storage is no reason to end the sweep here.
            with contextlib.suppress(Exception):
                self._draw()

    def _draw(self) -> None:
        numbers = sorted(self._running)
        trials = self._study.get_trials(deepcopy=False) if numbers else []
        lines = [_format_running(trials[number]) for number in numbers]
        width = shutil.get_terminal_size().columns - 1
        with self._lock:
            while len(self._bars) < len(lines):
                position = len(self._bars)
                bar = tqdm(bar_format="{desc}", position=position, leave=False, file=sys.stderr)
                self._bars.append(bar)
            for index, bar in enumerate(self._bars):
                text = lines[index] if index < len(lines) else ""
                bar.set_description_str(text[:width])


def _format_running(trial: FrozenTrial) -> str:
    parts = [name_trial(trial), "runs", format_params(params_of(trial))]
    if trial.intermediate_values:
        number, value = max(trial.intermediate_values.items())
        parts.append(f"report {number}: {value:.5g}")
    if trial.datetime_start is not None:
        parts.append(format_seconds((datetime.now() - trial.datetime_start).total_seconds()))  # noqa: DTZ005 - Optuna writes local time
    return " | ".join(parts)
