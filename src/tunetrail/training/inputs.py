"""Build the task, the method and the rows of a run from its config.

A run that trains uses it, and a run that is scored later from its recorded config.
"""

import difflib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from pkgutil import resolve_name

from datasets import DatasetDict
from omegaconf import DictConfig, OmegaConf

from tunetrail.config.arguments import require_arguments_of_trainer
from tunetrail.config.build import build, plain
from tunetrail.config.checks import require_calibration, require_metrics, require_settings
from tunetrail.config.paths import Stamp, locate, stamp_files
from tunetrail.config.progress import report_progress
from tunetrail.data.columns import ROLES, TEXT_ROLES
from tunetrail.data.prepare import EXAMPLES, PreparedData, WholeSplits, load_splits, prepare_data
from tunetrail.data.sources import load_files
from tunetrail.errors import InputError
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import find_kind
from tunetrail.models.methods.base import Examples, Method
from tunetrail.tasks.base import Task
from tunetrail.training.tokens import Split


def require_job(cfg: DictConfig) -> None:
    """Check all of a composed config that can be checked without data, model or network.

    Raises:
        InputError: a value cannot be used, a part lacks what its protocol asks for, or the task
            has no such metric.

    """
    require_settings(cfg)
    task = build_task(cfg)
    require_metrics(cfg, task.metrics)
    require_calibration(cfg, says_probabilities=task.says_probabilities)
    require_arguments_of_trainer(cfg, task)
    build_method(cfg).serve_as(task.pipeline_tag)
    if cfg.diagnostics.get("forgetting", False):
        build(cfg.forgetting)  # it checks its values


def require_sources(cfg: DictConfig) -> None:
    """Check that model and files are there, without reading them.

    A run finds that out by itself. A study asks first: each trial would fail, and a study that has
    begun would only be told that it was started with another config.

    Raises:
        InputError: there is no such model or file.

    """
    build(cfg.model.source)
    if cfg.diagnostics.get("forgetting", False):
        for name in ("text", "probe"):
            _require_file(cfg.forgetting[name].get("path"), key=f"forgetting.{name}.path")
    if resolve_name(cfg.data.source._target_) is not load_files:
        return
    for split in ("train", "validation", "test"):
        _require_file(cfg.data.source.get(split), key=f"data.{split}")


def _require_file(path: str | None, *, key: str) -> None:
    if path is not None and not Path(path).expanduser().exists():
        raise InputError(f"{key}={path}: no such file in {Path.cwd()}; give the path of a file")


def require_effect(cfg: DictConfig, searched: Collection[str]) -> None:
    """Check that what a study searches can change a score.

    Raises:
        InputError: settings of training are searched, and the method trains nothing.

    """
    if build_method(cfg).trains or "method" in searched:
        return
    useless = [key for key in searched if key.startswith("trainer.")]
    if useless:
        raise InputError(
            f"{', '.join(useless)}: method={cfg.method.name} trains nothing, so a search over this "
            "finds nothing; set null for it in sweep.search_space, as experiment=in_context does"
        )


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


def require_suited(task: Task, method: Method, checkpoint: Checkpoint) -> None:
    """Check before data and weights are loaded that an architecture suits task and method.

    Raises:
        InputError: it does not; what would work is named.

    """
    kind = find_kind(checkpoint)
    for unsuited in (task.unsuited, method.unsuited):
        if kind in unsuited:
            raise InputError(f"model {checkpoint.path!r} is of the kind {kind}: {unsuited[kind]}")


def find_examples(splits: Mapping[str, Split], sample: Split) -> Examples:
    """Find the rows that are shown, not trained on, and how long those are that are measured.

    Args:
        splits: all of them, with the model's inputs.
        sample: the part of train that is measured.

    """
    others = [split for name, split in splits.items() if name not in ("train", EXAMPLES)]
    longest = max(len(ids) for part in (sample, *others) for ids in part.encoded["input_ids"])
    if (shown := splits.get(EXAMPLES)) is None:
        return Examples([], [], longest)
    drawn = shown.take(range(len(shown.rows))).encoded
    return Examples(drawn["input_ids"][:], drawn["labels"][:], longest)


def _require_parts(found: object, protocol: type, *, key: str) -> None:
    names = {**protocol.__annotations__, **vars(protocol)}
    missing = [name for name in names if not name.startswith("_") and not hasattr(found, name)]
    if missing:
        raise InputError(
            f"{key}: it lacks {', '.join(missing)}, which every {protocol.__name__.lower()} has "
            f"({protocol.__module__} says what they do)"
        )


def load_rows(cfg: DictConfig, task: Task, method: Method) -> PreparedData:
    """Load and prepare the rows that ``cfg`` names; the runs of a process share them."""
    report_progress("loads rows")
    data = plain(cfg.data)
    if data.get("per_label") is None:
        # It may be another for each run, and without a draw it decides nothing.
        data.pop("per_label_seed", None)
    # A run that was recorded before there was that key has none.
    checks = (cfg.checks.quality, cfg.checks.leakage, cfg.checks.get("labels", False))
    reader = _Reader(type(task), task)
    data["trains"] = method.trains
    return _load_data(json.dumps(data), reader, _stamp_sources(cfg.data), cfg.seed, checks)


@dataclass(frozen=True)
class _Reader:
    """A task by its kind: how long a text may be changes nothing of the rows."""

    kind: type
    task: Task = field(compare=False)


_Checks = tuple[str | bool, str | bool, str | bool]
# What decides which rows of a split are used, not which rows it has.
_OF_SUBSETS = (
    "subset",
    "num_train",
    "num_validation",
    "num_test",
    "per_label",
    "per_label_seed",
    "trains",
)


@lru_cache(maxsize=1)
def _load_data(
    config: str, reader: _Reader, stamp: Stamp, seed: int, checks: _Checks
) -> PreparedData:
    """Load and prepare the rows; the trials of a study in one process share the result."""
    values = json.loads(config)
    whole = json.dumps({name: value for name, value in values.items() if name not in _OF_SUBSETS})
    data = prepare_data(
        _load_splits(whole, reader, stamp, seed, (checks[0] == "clean", checks[1] == "clean")),
        subset=values["subset"],
        sizes={split: values[f"num_{split}"] for split in ("train", "validation", "test")},
        per_label=values.get("per_label"),
        per_label_seed=values.get("per_label_seed"),
        trains=values["trains"],
        seed=seed,
        quality=checks[0],
        leakage=checks[1],
        labels=checks[2],
    )
    reader.task.require_learnable(data.dataset["train"])
    return data


@lru_cache(maxsize=1)
def _load_splits(
    config: str, reader: _Reader, stamp: Stamp, seed: int, cleans: tuple[bool, bool]
) -> WholeSplits:
    """Load all rows; trials that take other subsets of them share the result."""
    del stamp  # part of the cache's key: a file that was written again is loaded again
    task, cfg = reader.task, OmegaConf.create(json.loads(config))
    # Without an entry in data.columns the column is named like its role. Entries for other roles
    # are there, too: a task may have roles that rows need not have.
    columns = {role: role for role in task.columns} | {str(r): c for r, c in cfg.columns.items()}
    names = None if cfg.label_names is None else list(cfg.label_names)
    rows = build(cfg.source)
    _require_roles(task, cfg, rows)
    return load_splits(
        rows,
        canonicalise=lambda rows: task.canonicalise(rows, columns, label_names=names),
        text_columns=[columns[role] for role in TEXT_ROLES if columns.get(role) is not None],
        validation_fraction=cfg.validation_fraction,
        test_fraction=cfg.test_fraction,
        seed=seed,
        keep_near_together=bool(cfg.get("keep_near_together", False)),
        clean_quality=cleans[0],
        clean_leakage=cleans[1],
    )


def _require_roles(task: Task, cfg: DictConfig, rows: DatasetDict) -> None:
    """Refuse roles that no task has, and rows for another task.

    For another task are rows if neither they nor their YAML know a column that this one reads.
    """
    known = sorted({*ROLES, *task.columns})
    for role in cfg.columns:
        if role not in known:
            near = difflib.get_close_matches(role, known, n=1)
            hint = f"; did you mean data.columns.{near[0]}?" if near else f" ({', '.join(known)})"
            raise InputError(f"data.columns.{role}: no task reads a column of this role{hint}")
    found = rows["train"].column_names
    if {*task.columns}.isdisjoint({*cfg.columns, *found}):
        role = task.columns[0]
        raise InputError(
            f"data={cfg.name}: it has no {role}, which this task reads (found: "
            f"{', '.join(found)}); choose other data, or set +data.columns.{role}=COLUMN"
        )


def _stamp_sources(data: DictConfig) -> Stamp:
    """Stamp each file that the config names, and the files of a folder that is its path."""
    source = plain(data.source)
    files = [locate(value) for value in source.values() if isinstance(value, str)]
    if source.get("path"):
        files += locate(source["path"]).rglob("*")
    return stamp_files(sorted(path for path in files if path.is_file()))
