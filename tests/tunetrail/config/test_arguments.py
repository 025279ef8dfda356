"""Arguments of Trainer are checked before anything is loaded."""

from typing import Any

import pytest
import torch

from tunetrail.config.arguments import precision_flags, require_trainer_values
from tunetrail.errors import InputError

GOOD: dict[str, Any] = {
    "learning_rate": 1e-4,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 64,
    "gradient_accumulation_steps": 1,
}


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
