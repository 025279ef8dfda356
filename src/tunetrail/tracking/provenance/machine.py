"""Packages and machine, which decide the last digits of a result."""

import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import distributions
from typing import Any

import torch


@lru_cache(maxsize=1)
def list_packages() -> tuple[str, ...]:
    """List every installed distribution as ``name==version``, sorted.

    Once a process, because a later installation does not change what the process has imported.
    """
    found = {f"{d.metadata['Name']}=={d.version}" for d in distributions() if d.metadata["Name"]}
    return tuple(sorted(found, key=str.lower))


def describe_machine() -> dict[str, Any]:
    """Describe system, processor, GPUs, threads and the flags that choose algorithms.

    TrainingArguments and Trainer set these flags for a run: call it after them.
    """
    gpus = [_describe_gpu(index) for index in range(torch.cuda.device_count())]
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "processor": torch.cpu.get_capabilities().get("cpu_name") or platform.processor(),
        "num_cpus": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "num_interop_threads": torch.get_num_interop_threads(),
        "gpus": gpus,
        "driver": _read_driver() if gpus else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if gpus else None,  # type: ignore[no-untyped-call]
        "deterministic": {
            "algorithms": torch.are_deterministic_algorithms_enabled(),
            "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "fp32_precision": torch.backends.fp32_precision,  # type: ignore[attr-defined]
            "cublas_workspace_config": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        },
    }


def _describe_gpu(index: int) -> dict[str, Any]:
    found = torch.cuda.get_device_properties(index)
    return {
        "name": found.name,
        "memory_gb": round(found.total_memory / 2**30, 1),
        "compute_capability": f"{found.major}.{found.minor}",
    }


@lru_cache(maxsize=1)
def _read_driver() -> str | None:
    """Read the version of the GPU driver, which torch does not know."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],  # noqa: S607 - the one of the user's PATH
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.split()
    return lines[0] if lines else None
