"""Build the task, the method and the rows of a run from its config.

A run that trains uses it, and a run that is scored later from its recorded config.
"""

import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from tunetrail.config.build import build, plain
from tunetrail.config.checks import require_metrics, require_settings
from tunetrail.data.prepare import PreparedData, prepare_data
from tunetrail.errors import InputError
from tunetrail.models.loading import stamp_files
from tunetrail.models.methods.base import Method
from tunetrail.tasks.base import Task


def require_job(cfg: DictConfig) -> None:
    """Check all of a composed config that can be checked without data, model or network.

    Raises:
        InputError: a value cannot be used, a part lacks what its protocol asks for, or the task
            has no such metric.

    """
    require_settings(cfg)
    require_metrics(cfg, build_task(cfg).metrics)
    build_method(cfg)


def build_task(cfg: DictConfig) -> Task:
    """Build the task, and check that it has all that the protocol names."""
    task: Task = build(cfg.task)
    _require_parts(task, Task, key=f"task._target_={cfg.task._target_}")
    return task


def build_method(cfg: DictConfig) -> Method:
    """Build the method, and check that it has all that the protocol names."""
    method: Method = build(cfg.method)
    _require_parts(method, Method, key=f"method._target_={cfg.method._target_}")
    return method


def _require_parts(found: object, protocol: type, *, key: str) -> None:
    names = {**protocol.__annotations__, **vars(protocol)}
    missing = [name for name in names if not name.startswith("_") and not hasattr(found, name)]
    if missing:
        raise InputError(
            f"{key}: it lacks {', '.join(missing)}, which every {protocol.__name__.lower()} has "
            f"({protocol.__module__} says what they do)"
        )


def load_rows(cfg: DictConfig, task: Task) -> PreparedData:
    """Load and prepare the rows that ``cfg`` names; the runs of a process share them."""
    config = json.dumps(plain(cfg.data))
    stamp = _stamp_sources(cfg.data)
    return _load_data(
        config, _Reader(type(task), task), stamp, cfg.seed, (cfg.checks.quality, cfg.checks.leakage)
    )


@dataclass(frozen=True)
class _Reader:
    """A task by its kind: how long a text may be changes nothing of the rows."""

    kind: type
    task: Task = field(compare=False)


@lru_cache(maxsize=1)
def _load_data(
    config: str, reader: _Reader, stamp: object, seed: int, checks: tuple[str | bool, str | bool]
) -> PreparedData:
    """Load and prepare the rows; the trials of a study in one process share the result."""
    task = reader.task
    del stamp  # part of the cache's key: a file that was written again is loaded again
    cfg = OmegaConf.create(json.loads(config))
    # Without an entry in data.columns the column is named like its role.
    columns = {role: cfg.columns.get(role, role) for role in task.columns}
    names = None if cfg.label_names is None else list(cfg.label_names)
    data = prepare_data(
        build(cfg.source),
        canonicalise=lambda rows: task.canonicalise(rows, columns, label_names=names),
        validation_fraction=cfg.validation_fraction,
        test_fraction=cfg.test_fraction,
        subset=cfg.subset,
        sizes={"train": cfg.num_train, "validation": cfg.num_validation, "test": cfg.num_test},
        seed=seed,
        quality=checks[0],
        leakage=checks[1],
    )
    task.require_learnable(data.dataset["train"])
    return data


def _stamp_sources(data: DictConfig) -> object:
    """Return path, size and time of each file that the config names."""
    names = [value for value in plain(data.source).values() if isinstance(value, str)]
    paths = [Path(name).expanduser().resolve() for name in names]
    return stamp_files([path for path in paths if path.is_file()])
