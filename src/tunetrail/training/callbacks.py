"""Callbacks of Trainer: log numbers, report to the trial, show one progress bar."""

import math
import sys
from collections.abc import Mapping
from typing import Any, Protocol

from tqdm.auto import tqdm
from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from tunetrail.config.progress import report_progress
from tunetrail.errors import InputError
from tunetrail.tasks.base import Metric
from tunetrail.training.evaluations import collect_evaluations, name_metrics
from tunetrail.training.train import NonFiniteLossError, count_evaluations


class MetricLog(Protocol):
    """Where metrics are logged."""

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Log values of metrics at an optimizer step."""


class PrunableTrial(Protocol):
    """The trial that a run belongs to."""

    objective: str

    def set_num_evaluations(self, number: int) -> None:
        """Note how many evaluations the run makes if it is not stopped."""

    def report(self, value: float, *, number: int, may_prune: bool) -> None:
        """Report the objective at an evaluation; raise where the run should stop."""


class LogToRun(TrainerCallback):
    """Log the numbers of each training step, with the epoch."""

    def __init__(self, log: MetricLog) -> None:
        self._log = log

    def on_log(self, args: Any, state: TrainerState, *_: Any, **kwargs: Any) -> None:
        """Log a training step; end the run if its loss is not finite.

        Raises:
            NonFiniteLossError: the loss of a step or of an evaluation is NaN or infinite.

        """
        del args
        logs: dict[str, float] = kwargs["logs"] or {}
        for name, value in logs.items():
            if name.endswith("loss") and not math.isfinite(value):
                raise NonFiniteLossError(
                    f"{name} is {value} at step {state.global_step}; lower trainer.learning_rate, "
                    "or set precision=fp32"
                )
        if "learning_rate" in logs:
            names = {
                "loss": "step_loss",
                "learning_rate": "learning_rate",
                "grad_norm": "grad_norm",
            }
            values = {f"train/{new}": logs[old] for old, new in names.items() if old in logs}
            self._log.metrics({**values, "epoch": logs["epoch"]}, step=state.global_step)


class OnEvaluation(TrainerCallback):
    """Log each complete evaluation and report it to the trial, which may prune the run."""

    def __init__(
        self, log: MetricLog, trial: PrunableTrial | None, metrics: Mapping[str, Metric]
    ) -> None:
        self._log = log
        self._trial = trial
        self._metrics = metrics
        self._num_seen = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, *_: Any, **kwargs: Any
    ) -> None:
        """Note how many evaluations will come; skip those that a resumed run logged before.

        Raises:
            InputError: there will be none.

        """
        number = count_evaluations(args, state, num_batches=len(kwargs["train_dataloader"]))
        if not number:
            raise InputError(
                f"trainer.eval_delay={args.eval_delay:g}: training has {state.max_steps} steps in "
                f"{state.num_train_epochs} epochs and would end without one evaluation; lower it"
            )
        if self._trial is not None:
            self._trial.set_num_evaluations(number)
        self._num_seen = len(collect_evaluations(state.log_history))

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Log and report once both splits are measured. Trainer calls this after each split.

        Raises:
            optuna.TrialPruned: the pruner stopped the trial.

        """
        del args
        evaluations = collect_evaluations(state.log_history)
        if len(evaluations) == self._num_seen:
            return
        self._num_seen = len(evaluations)
        latest = evaluations[-1]
        scores = name_metrics(latest, self._metrics)
        self._log.metrics(scores, step=latest.step)
        # Before training all trials are equal: that is no reason to stop one.
        if self._trial is not None and self._trial.objective in scores and latest.number:
            # After the last step pruning saves nothing: the trial is complete.
            ends_here = state.global_step >= state.max_steps or control.should_training_stop
            value = scores[self._trial.objective]
            self._trial.report(value, number=latest.number, may_prune=not ends_here)


class ProgressBar(TrainerCallback):
    """One bar for the whole training, with the latest validation score on it."""

    def __init__(self, main_metric: str) -> None:
        self._main_metric = main_metric
        self._bar: Any = None

    def on_train_begin(self, args: Any, state: TrainerState, *_: Any, **__: Any) -> None:
        del args
        self._bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="training",
            unit="step",
            dynamic_ncols=True,
            # In a log file each update is a line.
            mininterval=0.1 if sys.stderr.isatty() else 10.0,
        )

    def on_step_end(self, args: Any, state: TrainerState, *_: Any, **__: Any) -> None:
        del args
        self._bar.update(state.global_step - self._bar.n)

    def on_evaluate(self, *_: Any, **kwargs: Any) -> None:
        metrics: dict[str, float] = kwargs["metrics"] or {}
        key = f"eval_validation_{self._main_metric}"
        if self._bar is not None and key in metrics:
            self._bar.set_postfix_str(f"validation {self._main_metric} {metrics[key]:.3f}")

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._bar.close()
        self._bar = None


class ReportSteps(TrainerCallback):
    """Say how far a trial is, for the lines of its study."""

    def on_train_begin(self, args: Any, state: TrainerState, *_: Any, **__: Any) -> None:
        del args
        report_progress("trains, step", state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: TrainerState, *_: Any, **__: Any) -> None:
        del args
        report_progress("trains, step", state.global_step, state.max_steps)

    def on_prediction_step(self, args: Any, state: TrainerState, *_: Any, **__: Any) -> None:
        del args
        report_progress("evaluates, step", state.global_step, state.max_steps)
