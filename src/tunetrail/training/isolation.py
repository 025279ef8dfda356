"""What a process that runs many trials keeps from one to the next, and what it must not.

Kept: the tokenised rows of the last few settings (data and pretrained weights are kept by those
who load them). Not kept: switches of the libraries that a run's arguments turn on, and memory.
Whatever ran before, a run gives the same numbers and weights as alone in a fresh process.
"""

import contextlib
import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from datasets import Dataset, DatasetDict

from tunetrail.config.environment import read_environment
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import load_tokenizer, stamp_files
from tunetrail.tasks.base import Task

# Set by transformers for good, from arguments of one run.
_SWITCHES = (
    "ACCELERATE_",
    "ASCEND_LAUNCH_BLOCKING",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_LAUNCH_BLOCKING",
    "FLASH_ATTENTION_DETERMINISTIC",
    "HCCL_DETERMINISTIC",
)


@dataclass(frozen=True)
class TokenisedRows:
    """``train`` as it came; the other splits longest first, as they are evaluated.

    Shared by all runs of a process: never set a format or a transform on one of them.
    """

    train: Dataset
    held_out: dict[str, Dataset]


def tokenise(
    task: Task, settings: str, checkpoint: Checkpoint, dataset: DatasetDict
) -> TokenisedRows:
    """Tokenise all splits, or take them from memory where nothing that matters has changed.

    Args:
        settings: the arguments of ``task`` as text: other text, other tokens.

    """
    fingerprints = tuple((name, split._fingerprint) for name, split in dataset.items())  # noqa: SLF001 - datasets has no public name for the hash of its content
    folder = Path(checkpoint.path)
    files = sorted(path for path in folder.glob("*") if _is_of_tokenizer(path))
    return _tokenise(
        _Source((settings, checkpoint, stamp_files(files), fingerprints), task, dataset)
    )


def _is_of_tokenizer(path: Path) -> bool:
    return path.is_file() and path.suffix in (".json", ".txt", ".model", ".jinja")


@dataclass(frozen=True)
class _Source:
    """Equal to another of the same key, whatever objects they carry."""

    key: tuple[object, ...]
    task: Task = field(compare=False)
    dataset: DatasetDict = field(compare=False)


# A search over the length or the model comes back to a few settings again and again.
@lru_cache(maxsize=4)
def _tokenise(source: _Source) -> TokenisedRows:
    checkpoint = source.key[1]
    assert isinstance(checkpoint, Checkpoint)
    # Truncation leaves settings in a tokenizer, which save_pretrained would write: this one is
    # thrown away, and the run's own is the same whether rows were tokenised for it or not.
    tokenizer = load_tokenizer(checkpoint)
    rows = {name: source.task.tokenise(split, tokenizer) for name, split in source.dataset.items()}
    held_out = {name: by_length(split) for name, split in rows.items() if name != "train"}
    return TokenisedRows(train=rows["train"], held_out=held_out)


def by_length(dataset: Dataset) -> Dataset:
    """Sort by number of tokens, longest first: little padding, and memory runs out at once."""
    lengths = [len(ids) for ids in dataset["input_ids"]]
    return dataset.select(sorted(range(len(lengths)), key=lambda index: -lengths[index]))


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
