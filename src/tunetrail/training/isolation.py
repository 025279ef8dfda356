"""Keep one run of a process from affecting the next: global settings of libraries, and memory.

A run gives the same numbers and weights as alone in a fresh process. What is cached on purpose
(rows, tokens, pretrained weights) is cached by the functions that load it.
"""

import contextlib
import gc
import os
from collections.abc import Iterator

import torch

from tunetrail.config.environment import read_environment

# Environment variables that transformers sets for one run and never resets.
_SWITCHES = (
    "ACCELERATE_",
    "ASCEND_LAUNCH_BLOCKING",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_LAUNCH_BLOCKING",
    "FLASH_ATTENTION_DETERMINISTIC",
    "HCCL_DETERMINISTIC",
)


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Free the memory of the run before, and restore afterwards the settings that this run changes.

    TrainingArguments sets TF32 and deterministic algorithms globally, and no later run would reset
    them.
    """
    # A model, its trainer and its callbacks refer to each other in circles. The caching allocator
    # would keep the GPU's memory from other processes.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    environment = _switches()
    precision = torch.backends.fp32_precision  # type: ignore[attr-defined]
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        for name in _switches():
            del os.environ[name]
        os.environ.update(environment)
        torch.backends.fp32_precision = precision  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


def _switches() -> dict[str, str]:
    environment = read_environment()
    return {name: value for name, value in environment.items() if name.startswith(_SWITCHES)}
