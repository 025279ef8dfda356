"""What happens while Trainer trains: numbers to the run log, scores to the trial, one bar."""

import math
import sys
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tunetrail.studies.trial import Trial
from tunetrail.tracking.run_log import RunLog
from tunetrail.training.trainer import (
    Evaluation,
    NonFiniteLossError,
    collect_evaluations,
    count_evaluations,
    score_metrics,
)


class LogToRun(TrainerCallback):
    """Log every number Trainer makes, by optimizer step with the epoch beside it."""

    def __init__(self, log: RunLog) -> None:
        self._log = log

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Log a training step; end the run where its loss is not finite.

        Raises:
            NonFiniteLossError: the loss of a step or of an evaluation is NaN or infinite.

        """
        del args, control, kwargs
        for name, value in (logs or {}).items():
            if name.endswith("loss") and not math.isfinite(value):
                raise NonFiniteLossError(
                    f"{name} is {value} at step {state.global_step}; lower trainer.learning_rate, "
                    "or set precision=fp32"
                )
        if logs and "learning_rate" in logs:
            names = {
                "loss": "step_loss",
                "learning_rate": "learning_rate",
                "grad_norm": "grad_norm",
            }
            values = {f"train/{new}": logs[old] for old, new in names.items() if old in logs}
            self._log.metrics({**values, "epoch": logs["epoch"]}, step=state.global_step)


class OnEvaluation(TrainerCallback):
    """Log each complete evaluation and report it to the trial, which may end the run."""

    def __init__(self, log: RunLog, trial: Trial | None) -> None:
        self._log = log
        self._trial = trial
        self._num_seen = 0

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Say how many will come; pass over what a resumed run has logged before."""
        del control
        if self._trial is not None:
            num_batches = len(kwargs["train_dataloader"])
            number = count_evaluations(args, state, num_batches=num_batches)
            self._trial.set_num_evaluations(number)
        self._num_seen = len(collect_evaluations(state.log_history))

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Act once both splits are measured: Trainer calls this after each of them.

        Raises:
            optuna.TrialPruned: the pruner gave the trial up.

        """
        del args, control, kwargs
        evaluations = collect_evaluations(state.log_history)
        if len(evaluations) == self._num_seen:
            return
        self._num_seen = len(evaluations)
        latest = evaluations[-1]
        scores = evaluation_metrics(latest)
        self._log.metrics(scores, step=latest.step)
        if self._trial is not None and self._trial.objective in scores:
            # After the last step there is nothing left to save: the trial is complete.
            ends_here = state.global_step >= state.max_steps
            value = scores[self._trial.objective]
            self._trial.report(value, number=latest.number, may_prune=not ends_here)


def evaluation_metrics(evaluation: Evaluation) -> dict[str, float]:
    """Name the scores as MLflow holds them: ``train/*``, ``validation/*``, ``gap/*``, ``epoch``.

    A gap is how much better train is than validation: validation minus train for the loss,
    train minus validation for scores.
    """
    metrics = {"epoch": evaluation.epoch}
    for name, validation in score_metrics(evaluation.validation).items():
        train = evaluation.train[name]
        metrics[f"train/{name}"] = train
        metrics[f"validation/{name}"] = validation
        metrics[f"gap/{name}"] = validation - train if name == "loss" else train - validation
    return metrics


class ProgressBar(TrainerCallback):
    """One bar for the whole training, with the latest validation scores on it."""

    def __init__(self, main_metric: str) -> None:
        self._main_metric = main_metric
        self._bar: Any = None

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        del args, control, kwargs
        self._bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="training",
            unit="step",
            dynamic_ncols=True,
            # On a terminal a living bar; in a log file a line now and then.
            mininterval=0.1 if sys.stderr.isatty() else 10.0,
        )

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        del args, control, kwargs
        self._bar.update(state.global_step - self._bar.n)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        del args, state, control, kwargs
        key = f"eval_validation_{self._main_metric}"
        if self._bar is not None and metrics and key in metrics:
            self._bar.set_postfix_str(f"validation {self._main_metric} {metrics[key]:.3f}")

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        del args, state, control, kwargs
        self._bar.close()
        self._bar = None
