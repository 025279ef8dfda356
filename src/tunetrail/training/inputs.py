"""What a run works on, made from its config: rows, tokens, training arguments.

The same for a run that trains and for one that is measured later from its recorded config.
"""

import json
from functools import lru_cache
from pathlib import Path

from datasets import DatasetDict
from omegaconf import DictConfig, OmegaConf

from tunetrail.config.build import build, plain
from tunetrail.data.prepare import PreparedData, prepare_data
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import stamp_files
from tunetrail.tasks.base import Task
from tunetrail.training.isolation import TokenisedRows, tokenise


def load_rows(cfg: DictConfig) -> PreparedData:
    """Load and prepare the rows that ``cfg`` names; the runs of a process share them."""
    config = json.dumps(plain(cfg.data))
    stamp = _stamp_sources(cfg.data)
    return _load_data(config, stamp, cfg.seed, cfg.checks.quality, cfg.checks.leakage)


def tokenise_rows(
    cfg: DictConfig, task: Task, checkpoint: Checkpoint, dataset: DatasetDict
) -> TokenisedRows:
    """Tokenise all splits for the task of ``cfg``."""
    return tokenise(task, json.dumps(plain(cfg.task)), checkpoint, dataset)


@lru_cache(maxsize=1)
def _load_data(
    config: str, stamp: object, seed: int, quality: str | bool, leakage: str | bool
) -> PreparedData:
    """Load and prepare the rows; the trials of a study in one process share the result."""
    del stamp  # another file under the same name is loaded anew
    cfg = OmegaConf.create(json.loads(config))
    return prepare_data(
        build(cfg.source),
        text_column=cfg.text_column,
        label_column=cfg.label_column,
        label_names=None if cfg.label_names is None else list(cfg.label_names),
        validation_fraction=cfg.validation_fraction,
        test_fraction=cfg.test_fraction,
        subset=cfg.subset,
        sizes={"train": cfg.num_train, "validation": cfg.num_validation, "test": cfg.num_test},
        seed=seed,
        quality=quality,
        leakage=leakage,
    )


def _stamp_sources(data: DictConfig) -> object:
    """Tell the files that the config names apart from others that stand there later."""
    names = [value for value in plain(data.source).values() if isinstance(value, str)]
    paths = [Path(name).expanduser().resolve() for name in names]
    return stamp_files([path for path in paths if path.is_file()])
