"""The arguments of Trainer: those a person may set, and those that the config decides."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from omegaconf import DictConfig
from transformers import TrainingArguments

from tunetrail.config.build import build
from tunetrail.errors import InputError, first_line

# The run sets these itself. What a person sets here would be overridden in silence.
_OURS = {
    "bf16": "use precision=bf16",
    "fp16": "use precision=fp16",
    "output_dir": "use tracking.checkpoint_dir",
    "report_to": "use tracking.uri",
    "disable_tqdm": "leave it out: a single run shows one progress bar, a trial none",
    "do_train": "use python train.py",
    "resume_from_checkpoint": "use resume=RUN_ID",
}
_PRECISIONS = ("auto", "bf16", "fp16", "fp32")


def require_trainer_values(values: Mapping[str, Any]) -> None:
    """Check the values under ``trainer`` before anything is loaded.

    Raises:
        InputError: a name that the run sets itself, or a number of the wrong type or out of range.

    """
    for name in values:
        if name in _OURS:
            raise InputError(f"trainer.{name}: cannot be set here; {_OURS[name]}")
    for name in (
        "per_device_train_batch_size",
        "per_device_eval_batch_size",
        "gradient_accumulation_steps",
    ):
        require_count(f"trainer.{name}", values[name])
    for name in ("learning_rate", "num_train_epochs"):
        value = values[name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value <= 0:
            raise InputError(f"trainer.{name}={value}: must be a number above 0")


def require_count(key: str, value: object, *, remedy: str = "") -> None:
    """Refuse anything but a whole number of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{key}={value}: must be a whole number of 1 or more{remedy}")


def precision_flags(precision: str) -> dict[str, bool]:
    """Return the arguments of TrainingArguments for a ``precision``.

    ``auto`` takes bf16 only if the hardware computes in it: on a processor without AVX512-BF16 or
    AMX, which emulates it, bf16 autocast took 2.5 times as long as fp32.

    Raises:
        InputError: an unknown precision, or one that this machine cannot compute in.

    """
    if precision not in _PRECISIONS:
        raise InputError(f"precision={precision}: must be one of {', '.join(_PRECISIONS)}")
    gpu = torch.cuda.is_available()
    if precision == "fp16" and not gpu:
        raise InputError("precision=fp16 needs a GPU and none was found; use bf16, fp32 or auto")
    if precision == "auto":
        if gpu:
            precision = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        else:
            can = torch.cpu.get_capabilities()
            precision = "bf16" if can.get("avx512_bf16") or can.get("amx_bf16") else "fp32"
    flags = {"bf16": precision == "bf16", "fp16": precision == "fp16"}
    # TrainingArguments refuses bf16 on a processor without use_cpu.
    return flags | {"use_cpu": True} if flags["bf16"] and not gpu else flags


def build_arguments(cfg: DictConfig, task: Any, checkpoint_dir: Path) -> TrainingArguments:
    """Build the arguments of Trainer.

    Args:
        cfg: of the run.
        task: its metrics say which way is better, unless ``trainer.greater_is_better`` does, and
            whether it is measured before training, unless ``trainer.eval_on_start`` does.
        checkpoint_dir: where checkpoints go.

    Raises:
        InputError: a value that TrainingArguments does not take.

    """
    name = re.sub("^(eval_)?(validation|train)_", "", cfg.trainer.metric_for_best_model)
    greater = cfg.trainer.greater_is_better
    if greater is None:
        greater = name in task.metrics and task.metrics[name].greater_is_better
    on_start = cfg.trainer.get("eval_on_start")
    eval_batch_size = cfg.trainer.per_device_eval_batch_size
    if task.is_language_model:
        # Their logits over a vocabulary are most of the memory that a batch needs.
        eval_batch_size = min(eval_batch_size, cfg.trainer.per_device_train_batch_size)
    try:
        arguments: TrainingArguments = build(
            cfg.trainer,
            output_dir=str(checkpoint_dir),
            disable_tqdm=True,
            report_to="none",
            greater_is_better=greater,
            eval_on_start=task.is_language_model if on_start is None else on_start,
            per_device_eval_batch_size=eval_batch_size,
            **precision_flags(cfg.precision),
        )
    except InstantiationException as error:
        # TrainingArguments checks its own values; Hydra wraps what it says.
        raise InputError(f"trainer: {first_line(error.__cause__)}") from error
    return arguments
