"""Configs that a study is compared with: what the library would do by itself."""

import dataclasses
from enum import Enum
from typing import Any

import transformers
from omegaconf import DictConfig

from tunetrail.config.build import plain
from tunetrail.training.inputs import build_method

# What of transformers.TrainingArguments decides how weights are trained. The others say what is
# measured, saved and logged, how fast, or (max_steps) how long a person lets it take.
_OF_TRAINING = (
    *("learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("num_train_epochs", "warmup_steps", "lr_scheduler_type", "lr_scheduler_kwargs"),
    *("optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay"),
    *("max_grad_norm", "label_smoothing_factor", "neftune_noise_alpha", "train_sampling_strategy"),
)


def read_library_defaults(cfg: DictConfig) -> dict[str, Any]:
    """Read what ``transformers.TrainingArguments`` has where the config has something else.

    Returns:
        Key of the config to value; empty if the method trains nothing.

    """
    if not build_method(cfg).trains:
        return {}
    given = plain(cfg.trainer)
    defaults = {
        field.name: field.default.value if isinstance(field.default, Enum) else field.default
        for field in dataclasses.fields(transformers.TrainingArguments)
    }
    return {
        f"trainer.{name}": defaults[name]
        for name in _OF_TRAINING
        if name in given and given[name] != defaults[name]
    }
