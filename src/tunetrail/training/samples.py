"""Show at every evaluation what the model makes of a few rows."""

import copy
import time
from typing import Any, Protocol

import pandas as pd
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tunetrail.tasks.base import Task

_PATH = "tables/samples.json"


class TableLog(Protocol):
    """Where tables are logged."""

    def shown_table(self, frame: pd.DataFrame, path: str) -> None:
        """Log a table that people look at; an earlier one at this path is replaced."""

    def read_shown_table(self, path: str) -> pd.DataFrame | None:
        """Read such a table; None if there is none."""


class LogSamples(TrainerCallback):
    """Log the task's samples as one table that grows, with the step of each.

    Args:
        log: of the run.
        task: makes the samples.
        rows: of validation.

    Attributes:
        seconds: what it took so far; 0 where the task has no samples.

    """

    def __init__(self, log: TableLog, task: Task, rows: Dataset) -> None:
        self._log = log
        self._task = task
        self._rows = rows
        self._samples: list[pd.DataFrame] = []
        self.seconds = 0.0

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Keep the samples that a resumed run logged up to its checkpoint."""
        del args, control, kwargs
        if state.global_step and (before := self._log.read_shown_table(_PATH)) is not None:
            self._samples = [before[before["step"] <= state.global_step]]

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Make samples once validation is measured, which is the last split."""
        del args, control
        if "eval_validation_loss" not in (metrics or {}):
            return
        started = time.perf_counter()
        # To encode changes settings of a tokenizer, and this one is logged with the model.
        tokenizer = copy.deepcopy(kwargs["processing_class"])
        samples = self._task.sample(kwargs["model"].eval(), tokenizer, self._rows)
        if samples is not None:
            samples.insert(0, "step", state.global_step)
            self._samples.append(samples)
            self._log.shown_table(pd.concat(self._samples, ignore_index=True), _PATH)
            self.seconds += time.perf_counter() - started
