"""Build a Trainer and train: everything between a tokenised data set and the best weights."""

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import (
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import OPTIMIZER_NAME, TRAINER_STATE_NAME
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput, IntervalStrategy

from tunetrail.errors import InputError

_TIMINGS = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


@dataclass(frozen=True)
class Evaluation:
    """Scores of one evaluation, both splits measured in the same mode with the same weights.

    ``train`` and ``validation`` hold ``loss`` and the task's metrics. ``step`` counts optimizer
    steps, ``number`` evaluations from 1.
    """

    number: int
    step: int
    epoch: float
    train: dict[str, float]
    validation: dict[str, float]


@dataclass(frozen=True)
class TrainingResult:
    """What a finished training leaves: its evaluations, the best of them, and its speed.

    ``seconds`` is wall time with evaluations; ``train_samples_per_second`` leaves them out.
    """

    evaluations: list[Evaluation]
    best: Evaluation
    seconds: float
    train_samples_per_second: float
    num_steps: int


class NonFiniteLossError(InputError, FloatingPointError):
    """The loss became NaN or infinite: every later step would be wasted."""


class ResumableLengthSampler(LengthGroupedSampler):
    """Groups rows by length in an order that the seed and the epoch alone decide.

    The library's own draws it from the generator that dropout draws from, too. That one is put
    back by a resumed run, but to where it stood when the checkpoint was made: in the middle of an
    epoch the rest of it would come in another order.
    """

    def __init__(self, *args: Any, seed: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Tell which epoch comes next, from 0; Trainer does."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self._seed + self._epoch)
        order: Iterator[int] = super().__iter__()  # type: ignore[no-untyped-call]
        return order


class MeasuringTrainer(transformers.Trainer):
    """Evaluates rows in the order they stand in, and keeps the outputs of the best evaluation.

    With ``group_by_length`` Trainer also shuffles what it evaluates, and predictions would no
    longer stand beside their rows. The pipeline sorts by length instead: as little padding.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._logits: dict[int, np.ndarray] = {}

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Keep the logits on validation: measuring the best weights again would cost a pass."""
        output = super().evaluation_loop(*args, **kwargs)
        if kwargs.get("metric_key_prefix") == "eval_validation":
            best = self.state.best_global_step
            kept = {step: logits for step, logits in self._logits.items() if step == best}
            self._logits = {**kept, self.state.global_step: np.asarray(output.predictions)}
        return output

    def validation_logits(self, step: int) -> np.ndarray:
        """Return the logits of the evaluation at ``step``, shape (rows, labels).

        A resumed run whose best evaluation came before is measured anew, with the best weights.
        """
        if step not in self._logits:
            assert isinstance(self.eval_dataset, dict)
            return np.asarray(self.predict(self.eval_dataset["validation"]).predictions)
        return self._logits[step]

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Save a checkpoint; one that could not be saved in full is deleted.

        On a full disk the rest of it would take the space that the run needs to log its failure.
        """
        try:
            super()._save_checkpoint(model, trial)
        except Exception:
            folder = Path(str(self.args.output_dir))
            checkpoint = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            if not _is_whole(checkpoint):
                shutil.rmtree(checkpoint, ignore_errors=True)
            raise

    def _get_train_sampler(
        self, train_dataset: Dataset | None = None
    ) -> torch.utils.data.Sampler[int] | None:
        sampler = super()._get_train_sampler(train_dataset)
        if not isinstance(sampler, LengthGroupedSampler):
            return sampler
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return ResumableLengthSampler(sampler.batch_size, lengths=sampler.lengths, seed=seed)

    def _save(self, *args: Any, **kwargs: Any) -> None:
        """Save without the token of the hub, which would be pickled with the arguments."""
        token, self.args.hub_token = self.args.hub_token, None
        try:
            super()._save(*args, **kwargs)
        finally:
            self.args.hub_token = token

    def _get_eval_sampler(self, eval_dataset: Dataset) -> torch.utils.data.Sampler[int] | None:
        if self.args.world_size <= 1:
            return SequentialSampler(eval_dataset)
        return super()._get_eval_sampler(eval_dataset)


def build_trainer(
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    arguments: TrainingArguments,
    train: Dataset,
    train_sample: Dataset,
    validation: Dataset,
    collator: Callable[[list[dict[str, Any]]], dict[str, Any]],
    compute_metrics: Callable[[EvalPrediction], dict[str, float]],
    callbacks: list[TrainerCallback],
) -> MeasuringTrainer:
    """Build a Trainer that measures a sample of train and validation at every evaluation."""
    trainer = MeasuringTrainer(
        model=model,
        args=arguments,
        train_dataset=train,
        # Validation last: when its scores arrive, those of train are there to compare with.
        eval_dataset={"train": train_sample, "validation": validation},
        processing_class=tokenizer,
        data_collator=collator,
        compute_metrics=compute_metrics,
        callbacks=callbacks,
    )
    # Its table of numbers is ours to show: the run log holds every one of them.
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def train(trainer: transformers.Trainer, *, resume_from: Path | None) -> TrainingResult:
    """Train; afterwards the model holds the weights of the evaluation that is called best.

    Args:
        resume_from: a checkpoint as :func:`find_checkpoint` returns it, or None to start anew.

    Raises:
        InputError: no evaluation took place.

    """
    started_at = 0
    if resume_from is not None:
        started_at = TrainerState.load_from_json(str(resume_from / TRAINER_STATE_NAME)).global_step
    output = trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    evaluations = collect_evaluations(trainer.state.log_history)
    if not evaluations:
        raise InputError(
            f"trainer.eval_strategy={trainer.args.eval_strategy}: training ended after "
            f"{trainer.state.global_step} steps without one evaluation; evaluate more often"
        )
    best = evaluations[-1]
    if trainer.args.load_best_model_at_end:
        best = next(e for e in evaluations if e.step == trainer.state.best_global_step)
    # A resumed run is timed from where it went on.
    timed = [e for e in evaluations if e.step > started_at]
    evaluating = sum(e.train["runtime"] + e.validation["runtime"] for e in timed)
    seconds = float(output.metrics["train_runtime"])
    share = 1 - started_at / trainer.state.global_step
    seen = output.metrics["train_samples_per_second"] * seconds * share
    return TrainingResult(
        evaluations=evaluations,
        best=best,
        seconds=seconds,
        train_samples_per_second=seen / max(seconds - evaluating, 1e-9),
        num_steps=trainer.state.global_step,
    )


def count_evaluations(
    arguments: TrainingArguments, state: TrainerState, *, num_batches: int
) -> int:
    """Count the evaluations that a training makes if nothing ends it early.

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
    return number + int(arguments.eval_on_start)


def find_checkpoint(folder: Path, *, run_id: str) -> Path:
    """Find the last whole checkpoint of a run: one that was being written at a kill is passed over.

    Raises:
        InputError: there is none, or it lacks the state of the optimizer.

    """
    found = sorted(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=_step_of, reverse=True)
    whole = next((checkpoint for checkpoint in found if _is_whole(checkpoint)), None)
    if whole is None:
        raise InputError(f"resume={run_id}: no checkpoint in {folder}; start the run anew")
    if not (whole / OPTIMIZER_NAME).is_file():
        raise InputError(
            f"resume={run_id}: {whole} has no optimizer state (trainer.save_only_model=true); "
            "start the run anew"
        )
    return whole


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _is_whole(checkpoint: Path) -> bool:
    """Whether the state of the trainer is there in full, which Trainer writes last."""
    try:
        TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    except (OSError, ValueError):
        return False
    return True


def collect_evaluations(log_history: list[dict[str, float]]) -> list[Evaluation]:
    """Pair what Trainer logged for train and for validation at the same step."""
    by_step: dict[int, dict[str, dict[str, float]]] = {}
    epochs: dict[int, float] = {}
    for entry in log_history:
        for split in ("train", "validation"):
            prefix = f"eval_{split}_"
            if f"{prefix}loss" in entry:
                step = int(entry["step"])
                epochs[step] = float(entry["epoch"])
                by_step.setdefault(step, {})[split] = {
                    key.removeprefix(prefix): value
                    for key, value in entry.items()
                    if key.startswith(prefix)
                }
    complete = [step for step, splits in by_step.items() if len(splits) == 2]
    return [
        Evaluation(number=number, step=step, epoch=epochs[step], **by_step[step])
        for number, step in enumerate(sorted(complete), start=1)
    ]


def score_metrics(measured: Mapping[str, float]) -> dict[str, float]:
    """Leave out what Trainer adds to the scores about its own speed."""
    return {name: value for name, value in measured.items() if name not in _TIMINGS}


def build_predictor(
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    arguments: TrainingArguments,
    rows: Dataset,
    collator: Callable[[list[dict[str, Any]]], dict[str, Any]],
    compute_metrics: Callable[[EvalPrediction], dict[str, float]],
) -> MeasuringTrainer:
    """Build a Trainer that trains nothing: it measures as the one that trained the model did."""
    return MeasuringTrainer(
        model=model,
        args=arguments,
        # Where the arguments ask for evaluations Trainer wants something to evaluate.
        eval_dataset=rows,
        processing_class=tokenizer,
        data_collator=collator,
        compute_metrics=compute_metrics,
    )
