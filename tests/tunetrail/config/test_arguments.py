"""Arguments of Trainer are checked before anything is loaded."""

import math
from typing import Any

import pytest
import torch

from tunetrail.config.arguments import precision_flags, read_best_metric, require_trainer_values
from tunetrail.errors import InputError

GOOD: dict[str, Any] = {
    "learning_rate": 1e-4,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 64,
    "gradient_accumulation_steps": 1,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "logging_steps": 10,
    "load_best_model_at_end": True,
}
STEPS = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 20, "save_steps": 40}


def test_good_values_pass() -> None:
    require_trainer_values(GOOD)
    require_trainer_values({**GOOD, "num_train_epochs": 0.5, "warmup_steps": 0.1})


@pytest.mark.parametrize("value", [0, -1, 1.5, "many", True, None])
@pytest.mark.parametrize(
    "name",
    ["per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"],
)
def test_batch_sizes_are_whole_numbers_of_one_or_more(name: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        require_trainer_values({**GOOD, name: value})
    assert str(caught.value) == f"trainer.{name}={value}: must be a whole number of 1 or more"


@pytest.mark.parametrize("value", [0, -1e-4, float("nan"), float("inf"), "fast", True, None])
@pytest.mark.parametrize("name", ["learning_rate", "num_train_epochs"])
def test_rates_and_epochs_are_above_zero(name: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        require_trainer_values({**GOOD, name: value})
    assert str(caught.value) == f"trainer.{name}={value}: must be a number above 0"


@pytest.mark.parametrize(
    ("values", "key", "names"),
    [
        ({"weight_decay": -1}, "weight_decay=-1", []),
        ({"weight_decay": math.nan}, "weight_decay=nan", []),
        ({"warmup_steps": -1}, "warmup_steps=-1", []),
        ({"max_grad_norm": -0.5}, "max_grad_norm=-0.5", []),
        ({"logging_steps": 0}, "logging_steps=0", []),
        ({"adam_beta1": 1}, "adam_beta1=1", []),
        ({"label_smoothing_factor": 2}, "label_smoothing_factor=2", []),
        ({"dataloader_num_workers": -1}, "dataloader_num_workers=-1", []),
        ({"save_total_limit": 0}, "save_total_limit=0", []),
        ({"max_steps": 0}, "max_steps=0", ["-1"]),
        ({"max_steps": -5}, "max_steps=-5", ["-1"]),
        ({"seed": -5}, "seed=-5", []),
        ({"data_seed": 2**32}, "data_seed=4294967296", []),
        ({"eval_strategy": "no"}, "eval_strategy=no", ["epoch", "trainer.eval_steps=N"]),
        (
            {"eval_strategy": "steps", "eval_steps": 20},
            "eval_strategy=steps",
            ["trainer.save_strategy=steps trainer.save_steps=20", "load_best_model_at_end=false"],
        ),
        ({"eval_strategy": "steps"}, "eval_strategy=steps", ["trainer.save_steps=10"]),
        ({"save_strategy": "no"}, "eval_strategy=epoch", ["trainer.save_strategy=epoch"]),
        ({**STEPS, "save_steps": 30}, "save_steps=30", ["trainer.save_steps=20"]),
        ({**STEPS, "save_steps": 10}, "save_steps=10", ["trainer.save_steps=20"]),
        ({**STEPS, "eval_steps": 0.1}, "save_steps=40", ["trainer.save_steps=0.1"]),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_type(
    values: dict[str, Any], key: str, names: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        require_trainer_values({**GOOD, **values})
    assert str(caught.value).startswith(f"trainer.{key}: ")
    assert all(name in str(caught.value) for name in names)


@pytest.mark.parametrize(
    "values",
    [
        STEPS,
        {**STEPS, "eval_steps": 0.1, "save_steps": 0.3},
        {**STEPS, "eval_steps": None},
        {"eval_strategy": "steps", "save_strategy": "best"},
        {"eval_strategy": "steps", "load_best_model_at_end": False},
        {"max_steps": -1, "seed": 0, "save_total_limit": None},
    ],
)
def test_what_agrees_passes(values: dict[str, Any]) -> None:
    require_trainer_values({**GOOD, **values})


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("validation_loss", "validation_loss"),
        ("eval_loss", "validation_loss"),
        ("loss", "validation_loss"),
        ("eval_validation_accuracy", "validation_accuracy"),
        ("accuracy", "validation_accuracy"),
        ("validation/accuracy", "validation_accuracy"),
        ("train_loss", "train_loss"),
    ],
)
def test_the_best_metric_goes_by_the_names_that_people_type(name: str, found: str) -> None:
    assert read_best_metric(name) == found


def test_precision_follows_the_hardware() -> None:
    assert precision_flags("fp32") == {"bf16": False, "fp16": False}
    gpu = torch.cuda.is_available()
    bf16 = {"bf16": True, "fp16": False} | ({} if gpu else {"use_cpu": True})
    assert precision_flags("bf16") == bf16
    if not gpu:
        is_faster = torch.cpu.get_capabilities().get("amx_bf16")
        assert precision_flags("auto") == (bf16 if is_faster else precision_flags("fp32"))
        with pytest.raises(InputError, match="precision=fp16 needs a GPU"):
            precision_flags("fp16")
    with pytest.raises(InputError, match="precision=half: must be one of auto, bf16"):
        precision_flags("half")
