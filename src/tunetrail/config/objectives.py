"""What a run returns to a study, and which way each of it is better."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig

from tunetrail.config.build import build
from tunetrail.errors import InputError

# How much more the texts of a reference cost after tuning: evaluation/forgetting.
FORGOTTEN = "forgetting/forgotten"
# What a run measures beside the loss and the metrics of its task.
_OTHERS = {
    "epoch": "minimize",
    "speed/seconds": "minimize",
    "speed/train_samples_per_second": "maximize",
    FORGOTTEN: "minimize",
}


def read_objectives(cfg: DictConfig) -> dict[str, str]:
    """Read ``sweep.objectives``, a name or a list of names; returns each with its direction.

    Raises:
        InputError: something else stands there, a name is none of what a run measures,
            or it stands there twice.

    """
    names, metrics = _read_names(cfg), build(cfg.task).metrics
    require_measured("sweep.objectives", names, metrics)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(
            f"sweep.objectives=[{','.join(names)}]: has {twice} more than once; name each one once"
        )
    return {name: direction(name, metrics) for name in names}


def direction(name: str, metrics: Mapping[str, Any]) -> str:
    """Say which way one of :func:`list_measured` is better: ``minimize`` or ``maximize``."""
    if name in _OTHERS:
        return _OTHERS[name]
    split, _, metric = name.partition("/")
    if split == "gap" or metric == "loss":
        return "minimize"
    return "maximize" if metrics[metric].greater_is_better else "minimize"


def list_measured(metrics: Iterable[str]) -> list[str]:
    """List what an objective or a constraint may name."""
    names = ["loss", *sorted(metrics)]
    return [f"{split}/{name}" for split in ("validation", "train", "gap") for name in names] + [
        *_OTHERS
    ]


def require_measured(key: str, names: Iterable[str], metrics: Iterable[str]) -> None:
    """Refuse a name that is none of what a run measures; errors as :func:`require_metric`."""
    require_metric(key, names, list_measured(metrics))


def require_metric(key: str, names: Iterable[str], known: Sequence[str]) -> None:
    """Refuse a name that is not known.

    Raises:
        InputError: naming the key, the name, and what there is.

    """
    for name in names:
        if name not in known:
            raise InputError(f"{key}={name}: no such metric (found: {', '.join(known)})")


def _read_names(cfg: DictConfig) -> list[str]:
    given = cfg.sweep.get("objectives")
    names = list(given) if isinstance(given, ListConfig) else [given]
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"sweep.objectives={given}: must be a name or a list of names, whose directions are "
            "known: sweep.objectives=validation/accuracy, 'sweep.objectives=[validation/accuracy,"
            "gap/loss]'"
        )
    return names
