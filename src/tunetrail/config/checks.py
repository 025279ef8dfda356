"""Checks of a composed config, made before anything is loaded."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue

from tunetrail.config.arguments import precision_flags, require_count, require_trainer_values
from tunetrail.config.build import plain, require_arguments
from tunetrail.config.objectives import read_objectives, require_measured, require_metric
from tunetrail.errors import InputError, first_line

# YAML reads a bare off as false.
_POLICIES = ("off", False, "warn", "clean", "error")


@dataclass(frozen=True)
class Constraint:
    """A bound that the best evaluation of a run should keep."""

    metric: str
    operator: Literal["<=", ">="]
    bound: float

    def violation(self, value: float) -> float:
        """Return how far the value is beyond the bound; 0 or less if it is within."""
        return value - self.bound if self.operator == "<=" else self.bound - value


def read_constraints(cfg: DictConfig) -> list[Constraint]:
    """Read ``sweep.constraints``, which maps metrics to bounds such as ``<= 0.2``.

    Raises:
        InputError: a bound is not an operator and a number.

    """
    constraints = []
    for name, text in (plain(cfg.sweep).get("constraints") or {}).items():
        found = re.fullmatch(r"\s*(<=|>=)\s*(\S+)\s*", str(text))
        try:
            bound = float(found[2]) if found else math.nan
        except ValueError:
            bound = math.nan
        if found is None or not math.isfinite(bound):
            raise InputError(
                f"sweep.constraints.{name}={text}: must be <= or >= and a number, in quotes: "
                '"<= 0.2"'
            )
        constraints.append(Constraint(name, "<=" if found[1] == "<=" else ">=", bound))
    return constraints


def require_settings(cfg: DictConfig) -> None:
    """Check the values that a person may set.

    Raises:
        InputError: a value is missing, unknown, of the wrong type or out of range.

    """
    try:
        config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = str(error.full_key)
        raise InputError(f"{key} is not set; give it on the command line: {key}=VALUE") from None
    except InterpolationKeyError as error:
        raise InputError(f"{error.full_key}: {first_line(error)}; set that key") from None
    require_arguments(config)
    for name in ("quality", "leakage"):
        if cfg.checks[name] not in _POLICIES:
            raise InputError(
                f"checks.{name}={cfg.checks[name]}: must be one of off, warn, clean, error"
            )
    for name in ("seed", "training_seed"):
        seed = cfg[name]
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise InputError(f"{name}={seed}: must be a whole number from 0 to 4294967295")
    require_count(
        "sweep.keep_best",
        cfg.sweep.keep_best,
        remedy="; tracking.log_model=false keeps no weights at all",
    )
    read_constraints(cfg)
    _require_registry_name(cfg.registry.name)
    require_count("diagnostics.num_train_sample", cfg.diagnostics.num_train_sample)
    require_trainer_values(plain(cfg.trainer))
    precision_flags(cfg.precision)


def _require_registry_name(name: object) -> None:
    """Refuse a name that the registry or NAME@ALIAS does not accept, before a study starts."""
    if name is None:
        return
    bad = sorted(set("/:@'\"\\`%") & set(str(name)))
    if not isinstance(name, str) or not name.strip() or name in (".", "..") or bad:
        found = f" (found: {' '.join(bad)})" if bad else ""
        raise InputError(
            f"registry.name={name}: must be a name without / : @ % and quotes{found}, or null to "
            "register nowhere"
        )
    if len(name) > 250:
        raise InputError(f"registry.name={name[:20]}…: has {len(name)} characters; 250 at most")


def require_metrics(cfg: DictConfig, known: Iterable[str]) -> None:
    """Check every metric that the config names against those of the task.

    Raises:
        InputError: the task has no such metric.

    """
    scores = sorted(known)
    with_loss = ["loss", *scores]
    best = cfg.trainer.metric_for_best_model
    splits = [f"{split}_{name}" for split in ("validation", "train") for name in with_loss]
    require_metric("task.main_metric", [cfg.task.main_metric], scores)
    require_metric("trainer.metric_for_best_model", [str(best).removeprefix("eval_")], splits)
    read_objectives(cfg)
    require_measured("sweep.constraints", [c.metric for c in read_constraints(cfg)], scores)
