"""Train, and end with the weights of the best evaluation."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import transformers
from transformers import TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import IntervalStrategy

from tunetrail.errors import InputError
from tunetrail.training.early_stopping import why_stopped
from tunetrail.training.evaluations import Evaluation, collect_evaluations


@dataclass(frozen=True)
class TrainingResult:
    """The evaluations of a training, the best of them, and its speed.

    ``stopped_early`` says why training ended before its last step; empty if it did not.

    ``seconds`` is wall time with evaluations and samples; ``train_samples_per_second`` is without.
    """

    evaluations: list[Evaluation]
    best: Evaluation
    seconds: float
    train_samples_per_second: float
    num_steps: int
    stopped_early: str = ""

    @property
    def is_trained(self) -> bool:
        return self.num_steps > 0

    @property
    def speed(self) -> dict[str, float]:
        """The speed as metrics."""
        return {
            "speed/seconds": self.seconds,
            "speed/train_samples_per_second": self.train_samples_per_second,
            "speed/validation_samples_per_second": self.best.validation["samples_per_second"],
        }


class NonFiniteLossError(InputError, FloatingPointError):
    """The loss became NaN or infinite: every later step would be wasted."""


def train(
    trainer: transformers.Trainer,
    *,
    resume_from: Path | None,
    seconds_aside: Callable[[], float] = lambda: 0.0,
) -> TrainingResult:
    """Train; afterwards the model has the weights of the best evaluation.

    Args:
        resume_from: a checkpoint as :func:`find_checkpoint` returns it; None starts a new training.
        seconds_aside: what callbacks took that do no work of training.

    Raises:
        InputError: no evaluation took place.

    """
    started_at = 0
    if resume_from is not None:
        started_at = TrainerState.load_from_json(str(resume_from / TRAINER_STATE_NAME)).global_step
        # The weights are no longer those from before training, which were measured then.
        trainer.args.eval_on_start = False
    output = trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    evaluations = collect_evaluations(trainer.state.log_history)
    if not any(evaluation.number for evaluation in evaluations):
        strategy = IntervalStrategy(trainer.args.eval_strategy).value
        raise InputError(
            f"trainer.eval_strategy={strategy}: training ended after "
            f"{trainer.state.global_step} steps without one evaluation; evaluate more often"
        )
    best = evaluations[-1]
    if trainer.args.load_best_model_at_end:
        best = next(e for e in evaluations if e.step == trainer.state.best_global_step)
    # A resumed run is timed from where it was resumed.
    timed = [e for e in evaluations if resume_from is None or e.step > started_at]
    aside = sum(e.train["runtime"] + e.validation["runtime"] for e in timed) + seconds_aside()
    seconds = float(output.metrics["train_runtime"])
    share = 1 - started_at / trainer.state.global_step
    seen = output.metrics["train_samples_per_second"] * seconds * share
    return TrainingResult(
        evaluations=evaluations,
        best=best,
        seconds=seconds,
        train_samples_per_second=seen / max(seconds - aside, 1e-9),
        num_steps=trainer.state.global_step,
        stopped_early=why_stopped(trainer),
    )


def measure(trainer: transformers.Trainer) -> TrainingResult:
    """Evaluate a model that is not trained, once.

    It counts as the first evaluation: there is no model before it to compare with.
    """
    start = time.monotonic()
    trainer.state.epoch = 0.0
    trainer.evaluate()
    [evaluation] = collect_evaluations(trainer.state.log_history)
    evaluation = replace(evaluation, number=1)
    return TrainingResult(
        evaluations=[evaluation],
        best=evaluation,
        seconds=time.monotonic() - start,
        train_samples_per_second=0.0,
        num_steps=0,
    )


def count_evaluations(
    arguments: TrainingArguments, state: TrainerState, *, num_batches: int
) -> int:
    """Count the evaluations of a training that is not stopped early; not the one before it.

    Args:
        state: as it is once training begins.
        num_batches: in an epoch.

    """
    delay = arguments.eval_delay
    number = 0
    if arguments.eval_strategy == IntervalStrategy.STEPS:
        steps = {*range(state.eval_steps, state.max_steps + 1, state.eval_steps), state.max_steps}
        number = sum(step >= delay for step in steps)
    elif arguments.eval_strategy == IntervalStrategy.EPOCH:
        # The last epoch may be cut short and is evaluated where it ends.
        last = state.max_steps / math.ceil(num_batches / arguments.gradient_accumulation_steps)
        ends = [min(epoch, last) for epoch in range(1, state.num_train_epochs + 1)]
        number = sum(end >= delay for end in ends)
    return number
