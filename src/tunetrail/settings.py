"""What the composed config must hold, and how it is laid down as params."""

from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from tunetrail.errors import InputError
from tunetrail.training import precision_flags, require_trainer_values

# YAML reads a bare off as false.
_POLICIES = ("off", False, "warn", "clean", "error")
# Not params of a run: where it was logged, and what chose its values.
_NOT_PARAMS = ("tracking", "trial", "sweep", "sampler", "pruner", "study", "resume", "cache_dir")


def require_settings(cfg: DictConfig) -> None:
    """Check what a person may have set, before anything is loaded or opened.

    Raises:
        InputError: a value is missing, unknown, of the wrong type or out of range.

    """
    try:
        OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = str(error.full_key)
        raise InputError(f"{key} is not set; give it on the command line: {key}=VALUE") from None
    for name in ("quality", "leakage"):
        if cfg.checks[name] not in _POLICIES:
            raise InputError(
                f"checks.{name}={cfg.checks[name]}: must be one of off, warn, clean, error"
            )
    if not _is_whole(cfg.seed) or not 0 <= cfg.seed < 2**32:
        raise InputError(f"seed={cfg.seed}: must be a whole number from 0 to 4294967295")
    sample = cfg.diagnostics.num_train_sample
    if not _is_whole(sample) or sample < 1:
        raise InputError(
            f"diagnostics.num_train_sample={sample}: must be a whole number of 1 or more"
        )
    trainer = plain(cfg.trainer)
    del trainer["_target_"]
    require_trainer_values(trainer)
    precision_flags(cfg.precision)


def require_metrics(cfg: DictConfig, known: Iterable[str]) -> None:
    """Check every name of a metric in the config against those the task computes.

    Raises:
        InputError: a name that is none of them.

    """
    scores = sorted(known)
    with_loss = ["loss", *scores]
    best = cfg.trainer.metric_for_best_model
    splits = [f"{split}_{name}" for split in ("validation", "train") for name in with_loss]
    asked = [
        ("task.main_metric", cfg.task.main_metric, scores),
        ("trainer.metric_for_best_model", str(best).removeprefix("eval_"), splits),
    ]
    objectives = [f"{split}/{x}" for split in ("validation", "train", "gap") for x in with_loss]
    objectives += ["epoch", "speed/seconds", "speed/train_samples_per_second"]
    asked += [("sweep.objectives", name, objectives) for name in cfg.sweep.objectives]
    for key, name, names in asked:
        if name not in names:
            raise InputError(f"{key}={name}: no such metric (found: {', '.join(names)})")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def plain(node: DictConfig) -> dict[str, Any]:
    """Resolve a node into plain values."""
    container = OmegaConf.to_container(node, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def params(cfg: DictConfig) -> dict[str, Any]:
    """Flatten the leaves that decide the result, with dots between their keys."""
    leaves: dict[str, Any] = {}

    def walk(node: Any, key: str) -> None:
        if isinstance(node, dict) and node:
            for name, value in node.items():
                walk(value, f"{key}.{name}" if key else str(name))
        else:
            leaves[key] = node

    walk({name: value for name, value in plain(cfg).items() if name not in _NOT_PARAMS}, "")
    return leaves


def require_same_settings(cfg: DictConfig, recorded: str, *, run_id: str) -> None:
    """Refuse to resume a run with other settings: the result would belong to neither.

    Args:
        recorded: the run's ``config.yaml``.

    Raises:
        InputError: the settings differ; the message lists each difference.

    """
    loaded = OmegaConf.create(recorded)
    assert isinstance(loaded, DictConfig)
    before, now = params(loaded), params(cfg)
    changed = [
        f"{key}: {before.get(key)} -> {now.get(key)}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if changed:
        raise InputError(
            f"resume={run_id}: the config differs from the run's ({'; '.join(changed)}); "
            "give the overrides the run was started with"
        )
