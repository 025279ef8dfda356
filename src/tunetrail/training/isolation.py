"""What one run of a process must not leave to the next: switches of the libraries, and memory.

Whatever ran before, a run gives the same numbers and weights as alone in a fresh process. What is
kept on purpose (rows, tokens, pretrained weights) is kept by those who load it.
"""

import contextlib
import gc
import os
from collections.abc import Iterator

import torch

from tunetrail.config.environment import read_environment

# Set by transformers for good, from arguments of one run.
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
    """Free what the run before left, and undo afterwards what this one sets for the process.

    TrainingArguments switches TF32 and deterministic algorithms by global settings that no later
    run would take back.
    """
    # A model, its trainer and its callbacks refer to each other in circles; and the caching
    # allocator would keep the memory of the GPU from other processes.
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
