"""Arguments are checked before anything is loaded; evaluations come in pairs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
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
from tunetrail.training.trainer import (
    NonFiniteLossError,
    build_trainer,
    collect_evaluations,
    count_evaluations,
    precision_flags,
    require_trainer_values,
)

SOUND: dict[str, Any] = {
    "learning_rate": 1e-4,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 64,
    "gradient_accumulation_steps": 1,
}


def test_sound_values_pass() -> None:
    require_trainer_values(SOUND)
    require_trainer_values({**SOUND, "num_train_epochs": 0.5, "warmup_steps": 0.1})


@pytest.mark.parametrize("value", [0, -1, 1.5, "many", True, None])
@pytest.mark.parametrize(
    "name",
    ["per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"],
)
def test_batch_sizes_are_whole_numbers_of_one_or_more(name: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        require_trainer_values({**SOUND, name: value})
    assert str(caught.value) == f"trainer.{name}={value}: must be a whole number of 1 or more"


@pytest.mark.parametrize("value", [0, -1e-4, float("nan"), float("inf"), "fast", True, None])
@pytest.mark.parametrize("name", ["learning_rate", "num_train_epochs"])
def test_rates_and_epochs_are_above_zero(name: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        require_trainer_values({**SOUND, name: value})
    assert str(caught.value) == f"trainer.{name}={value}: must be a number above 0"


def test_an_unknown_argument_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"trainer\.lerning_rate.*mean trainer\.learning_rate\?"):
        require_trainer_values({**SOUND, "lerning_rate": 1.0})


def test_precision_follows_the_hardware() -> None:
    assert precision_flags("fp32") == {"bf16": False, "fp16": False}
    gpu = torch.cuda.is_available()
    bf16 = {"bf16": True, "fp16": False} | ({} if gpu else {"use_cpu": True})
    assert precision_flags("bf16") == bf16
    can = torch.cpu.get_capabilities()
    if not gpu:
        computes = bool(can.get("avx512_bf16") or can.get("amx_bf16"))
        assert precision_flags("auto") == (bf16 if computes else precision_flags("fp32"))
        with pytest.raises(InputError, match="precision=fp16 needs a GPU"):
            precision_flags("fp16")
    with pytest.raises(InputError, match="precision=half: must be one of auto, bf16"):
        precision_flags("half")


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

    tokenizer = AutoTokenizer.from_pretrained(tiny_gpt2)
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny_gpt2, num_labels=2, pad_token_id=0
    )
    rows = Dataset.from_list(
        [{"input_ids": [i, i + 1], "attention_mask": [1, 1], "labels": i % 2} for i in range(20)]
    )
    trainer = build_trainer(
        model=model,
        tokenizer=tokenizer,
        arguments=TrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=4,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            **arguments,
        ),
        train=rows,
        train_sample=rows.select(range(4)),
        validation=rows.select(range(4)),
        collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda _: {},
        callbacks=[Count()],
    )
    trainer.train()
    assert counted == [len(collect_evaluations(trainer.state.log_history))]
