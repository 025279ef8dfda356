"""Early stopping, as transformers has it, for runs that measure several splits and are resumed."""

from typing import Any

import transformers
from transformers import (
    EarlyStoppingCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)


def build_early_stopping(
    early_stopping_patience: int | None, early_stopping_threshold: float
) -> "EarlyStopping | None":
    """Build the callback; None without a patience.

    Args:
        early_stopping_patience: evaluations without a better ``trainer.metric_for_best_model``
            after which training ends.
        early_stopping_threshold: what is better by no more than this does not count.

    """
    if early_stopping_patience is None:
        return None
    return EarlyStopping(early_stopping_patience, early_stopping_threshold)


class EarlyStopping(EarlyStoppingCallback):
    """Counts evaluations at the split that has the metric, and goes on counting when resumed."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_train_begin(args, state, control, **kwargs)  # type: ignore[no-untyped-call] # as the library has it
        kept: Any = state.stateful_callbacks
        attributes = kept[type(self).__name__]["attributes"]
        self.early_stopping_patience_counter = attributes["early_stopping_patience_counter"]
        # The process may have been killed after the checkpoint with which training ended.
        if self._is_reached:
            control.should_training_stop = True

    def on_evaluate(  # type: ignore[override] # the library names what is here in kwargs
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        # The model before training is no evaluation to improve on: it chooses no weights.
        if f"eval_{args.metric_for_best_model}" in kwargs["metrics"] and state.global_step:
            super().on_evaluate(args, state, control, **kwargs)  # type: ignore[no-untyped-call] # as the library has it

    @property
    def _is_reached(self) -> bool:
        return self.early_stopping_patience_counter >= self.early_stopping_patience


def why_stopped(trainer: transformers.Trainer) -> str:
    """Say why training ended before its last step; empty if it did not."""
    state = trainer.state
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, EarlyStopping) and state.global_step < state.max_steps:
            number = callback.early_stopping_patience_counter
            name = str(trainer.args.metric_for_best_model)
            return f"{number} evaluation{'s' * (number > 1)} without a better {name}"
    return ""
