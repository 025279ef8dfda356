"""Evaluations come in pairs of train and validation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features
from toys import CLASSIFY
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from tunetrail.errors import InputError
from tunetrail.tasks.base import LOSS
from tunetrail.training.evaluations import collect_evaluations, find_best
from tunetrail.training.tokens import Split
from tunetrail.training.train import NonFiniteLossError, count_evaluations
from tunetrail.training.trainer import MeasuringTrainer


def test_an_evaluation_is_complete_once_both_splits_are_measured() -> None:
    history: list[dict[str, float]] = [
        {"loss": 1.0, "step": 5, "epoch": 0.5},
        {"eval_train_loss": 0.9, "eval_train_accuracy": 0.5, "step": 10, "epoch": 1.0},
        {"eval_validation_loss": 1.1, "eval_validation_accuracy": 0.4, "step": 10, "epoch": 1.0},
        {"eval_train_loss": 0.7, "eval_train_accuracy": 0.6, "step": 20, "epoch": 2.0},
    ]
    (only,) = collect_evaluations(history)
    assert (only.number, only.step, only.epoch) == (1, 10, 1.0)
    assert only.train == {"loss": 0.9, "accuracy": 0.5}
    assert only.validation == {"loss": 1.1, "accuracy": 0.4}


def test_the_evaluation_before_training_has_number_0_and_is_never_the_best() -> None:
    history: list[dict[str, float]] = [
        {f"eval_{split}_loss": loss, "step": step, "epoch": step / 4}
        for step, loss in ((0, 0.5), (4, 0.9), (8, 0.7))
        for split in ("train", "validation")
    ]
    found = collect_evaluations(history)
    assert [(e.number, e.step) for e in found] == [(0, 0), (1, 4), (2, 8)]
    assert find_best(found, "loss", LOSS) is found[2]
    assert collect_evaluations(history[2:])[0].number == 1


def test_a_loss_that_is_not_finite_is_an_arithmetic_error_too() -> None:
    assert issubclass(NonFiniteLossError, FloatingPointError)
    assert issubclass(NonFiniteLossError, InputError)


@pytest.mark.parametrize(
    "arguments",
    [
        {"eval_strategy": "epoch", "num_train_epochs": 3},
        {"eval_strategy": "epoch", "num_train_epochs": 1.5},
        {"eval_strategy": "epoch", "num_train_epochs": 2.5, "eval_delay": 2.0},
        {"eval_strategy": "epoch", "num_train_epochs": 1.5, "eval_delay": 1.8},
        {"eval_strategy": "epoch", "max_steps": 7},
        {"eval_strategy": "epoch", "max_steps": 7, "eval_delay": 1.8},
        {"eval_strategy": "steps", "eval_steps": 2, "num_train_epochs": 2},
        {"eval_strategy": "steps", "eval_steps": 3, "num_train_epochs": 2},
        {"eval_strategy": "steps", "eval_steps": 0.3, "num_train_epochs": 2},
        {"eval_strategy": "steps", "eval_steps": 3, "max_steps": 7, "eval_delay": 4},
        {"eval_strategy": "steps", "eval_steps": 50, "max_steps": 7},
        {"eval_strategy": "steps", "eval_steps": 4, "max_steps": 7, "eval_on_start": True},
        {"eval_strategy": "epoch", "num_train_epochs": 2, "gradient_accumulation_steps": 3},
    ],
    ids=str,
)
def test_evaluations_are_counted_before_they_are_made(
    tiny_gpt2: Path, tmp_path: Path, arguments: dict[str, Any]
) -> None:
    """Twenty rows in batches of four, so five batches an epoch, trained in full."""
    counted = []

    class Count(TrainerCallback):
        def on_train_begin(
            self,
            args: TrainingArguments,
            state: TrainerState,
            control: TrainerControl,
            train_dataloader: Any = None,
            **_: Any,
        ) -> None:
            number = count_evaluations(args, state, num_batches=len(train_dataloader))
            counted.append(number)

    trainer = build_trainer(tiny_gpt2, tmp_path, callbacks=[Count()], **arguments)
    trainer.train()
    evaluations = collect_evaluations(trainer.state.log_history)
    assert counted == [sum(evaluation.number > 0 for evaluation in evaluations)]


def test_evaluations_leave_the_model_in_mixed_precision(tiny_gpt2: Path, tmp_path: Path) -> None:
    """Both splits have the same rows, so what is measured second must be the same."""
    trainer = build_trainer(
        tiny_gpt2, tmp_path, bf16=True, eval_strategy="steps", eval_steps=5, num_train_epochs=2
    )
    trainer.train()
    evaluations = collect_evaluations(trainer.state.log_history)
    assert len(evaluations) == 2
    for evaluation in evaluations:
        for name in ("loss", *CLASSIFY.metrics):
            assert evaluation.train[name] == evaluation.validation[name]


def build_trainer(
    tiny_gpt2: Path, folder: Path, *, callbacks: Sequence[TrainerCallback] = (), **arguments: Any
) -> MeasuringTrainer:
    tokenizer = AutoTokenizer.from_pretrained(tiny_gpt2)
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny_gpt2, num_labels=2, pad_token_id=0
    )
    labels = [i % 2 for i in range(20)]
    features = Features({"label": ClassLabel(names=["a", "b"])})
    rows = Dataset.from_dict({"label": labels}, features=features)
    encoded = Dataset.from_list(
        [
            {"input_ids": [i, i + 1], "attention_mask": [1, 1], "labels": label, "index": i}
            for i, label in enumerate(labels)
        ]
    )
    few = Split(rows, encoded).take(range(4))
    return MeasuringTrainer(
        task=CLASSIFY,
        splits={"train": few, "validation": few},
        model=model,
        processing_class=tokenizer,
        args=TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=4,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            **arguments,
        ),
        train_dataset=encoded,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[*callbacks],
    )
