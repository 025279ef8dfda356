"""Checks of a composed config, made before anything is loaded."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    InterpolationKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from tunetrail.config.annotations import find_fault
from tunetrail.config.arguments import (
    precision_flags,
    read_best_metric,
    require_count,
    require_seed,
    require_trainer_values,
)
from tunetrail.config.build import plain, require_arguments, show
from tunetrail.config.objectives import (
    FORGOTTEN,
    read_objectives,
    require_measured,
    require_metric,
)
from tunetrail.config.secrets import HIDDEN, redact
from tunetrail.errors import InputError, first_line

# What every run reads, except for what is checked below with more than its type.
_GROUPS = (
    *("task", "data", "model", "method", "trainer", "sampler", "pruner", "sweep"),
    *("checks", "diagnostics", "early_stopping", "tracking", "registry", "trial"),
)
_TYPES: dict[str, Any] = {
    "study": str,
    "resume": str | None,
    "score_test": bool,
    "calibrate": bool,
    **dict.fromkeys(
        (f"diagnostics.{name}" for name in ("baselines", "calibration", "summary")), bool
    ),
    "cache_dir": str,
    **dict.fromkeys((f"tracking.{name}" for name in ("uri", "experiment")), str),
    **dict.fromkeys((f"tracking.{name}_dir" for name in ("artifact", "checkpoint")), str),
    "tracking.run_name": str | None,
    "tracking.log_model": bool,
    "tracking.system_metrics": bool,
    "sweep.constraints": dict[str, Any] | None,
}
# Other names, such as that of a run, are stored without their secrets.
_STORED_NAMES = ("tracking.experiment", "study", "registry.name")
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
        config: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = str(error.full_key)
        raise InputError(f"{key} is not set; give it on the command line: {key}=VALUE") from None
    except InterpolationKeyError as error:
        raise InputError(f"{error.full_key}: {first_line(error)}; set that key") from None
    except OmegaConfBaseException as error:
        raise InputError(f"{error.full_key}: {first_line(error)}") from None
    _require_groups(config)
    _require_types(config)
    for name in ("seed", "training_seed"):
        require_seed(name, cfg[name])
    if config["trainer"].get("eval_on_start", ...) is None:
        del config["trainer"]["eval_on_start"]  # the task decides
    require_arguments(config, OmegaConf.to_container(cfg))
    for name in ("quality", "leakage"):
        if cfg.checks[name] not in _POLICIES:
            raise InputError(
                f"checks.{name}={cfg.checks[name]}: must be one of off, warn, clean, error"
            )
    if (labels := cfg.checks.get("labels", "off")) not in ("off", False, "warn"):
        raise InputError(f"checks.labels={labels}: must be one of off, warn")
    require_count(
        "sweep.keep_best",
        cfg.sweep.keep_best,
        remedy="; tracking.log_model=false keeps no weights at all",
    )
    read_constraints(cfg)
    _require_registry_name(cfg.registry.name)
    for name in _STORED_NAMES:
        require_no_secret(name, str(OmegaConf.select(cfg, name)))
    require_count("diagnostics.num_train_sample", cfg.diagnostics.num_train_sample)
    _require_forgetting(cfg)
    require_trainer_values(plain(cfg.trainer))
    _require_early_stopping(cfg)
    precision_flags(cfg.precision)


def _require_early_stopping(cfg: DictConfig) -> None:
    """Refuse what could never stop a run, or would keep the weights that it stopped for."""
    patience, threshold = (
        cfg.early_stopping[f"early_stopping_{name}"] for name in ("patience", "threshold")
    )
    key = f"early_stopping.early_stopping_patience={patience}"
    if patience is None:
        return
    require_count("early_stopping.early_stopping_patience", patience, remedy=", or null")
    if not math.isfinite(threshold) or threshold < 0:
        raise InputError(
            f"early_stopping.early_stopping_threshold={threshold}: must be a number of 0 or more"
        )
    if not cfg.trainer.load_best_model_at_end:
        raise InputError(
            f"{key}: trainer.load_best_model_at_end=false would keep the weights of the last "
            "evaluation, which is worse than the best by then; set it to true"
        )


def _require_forgetting(cfg: DictConfig) -> None:
    """Check the switch; configs that were recorded before there was one do not have it."""
    measures = cfg.diagnostics.get("forgetting", False)
    if (fault := find_fault(measures, bool)) is not None:
        raise InputError(f"diagnostics.forgetting={show(measures)}: {fault}")
    if measures and not cfg.get("forgetting"):
        raise InputError(
            "forgetting=null: diagnostics.forgetting=true reads it; set that to false to measure "
            "nothing"
        )


def require_no_secret(key: str, name: str) -> None:
    """Refuse a name that is stored as it is, because it is looked up again.

    Raises:
        InputError: it holds a secret.

    """
    if (shown := redact(name)).count(HIDDEN) > name.count(HIDDEN):
        raise InputError(
            f"{key}={shown}: holds what looks like a secret, and names are stored as they are; "
            "choose another name"
        )


def _require_groups(config: Mapping[str, Any]) -> None:
    """Refuse null for a group that every run reads."""
    for name in _GROUPS:
        if not isinstance(config.get(name), dict):
            found = show(config.get(name))
            raise InputError(f"{name}={found}: every run reads it; leave {name}={found} out")


def _require_types(config: Mapping[str, Any]) -> None:
    for key, annotation in _TYPES.items():
        value: Any = config
        for name in key.split("."):
            value = value.get(name)
        fault = find_fault(value, annotation)
        if fault is not None or value == "":
            raise InputError(f"{key}={show(value)}: {fault or 'must not be empty'}")


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


def require_calibration(cfg: DictConfig, *, says_probabilities: bool) -> None:
    """Check that a temperature can be stored with the model, if the config asks for it.

    Raises:
        InputError: the task says no probabilities, or nothing measures them.

    """
    if not cfg.calibrate:
        return
    if not says_probabilities:
        raise InputError(
            f"calibrate=true: {cfg.task._target_.rpartition('.')[2]} says no probabilities that a "
            "temperature could change; leave calibrate=true out"
        )
    if not cfg.diagnostics.calibration:
        raise InputError(
            "calibrate=true: diagnostics.calibration=false fits no temperature; set "
            "diagnostics.calibration=true"
        )


def require_metrics(cfg: DictConfig, known: Iterable[str]) -> None:
    """Check every metric that the config names against those of the task.

    Raises:
        InputError: the task has no such metric.

    """
    scores = sorted(known)
    with_loss = ["loss", *scores]
    splits = [f"{split}_{name}" for split in ("validation", "train") for name in with_loss]
    require_metric("task.main_metric", [cfg.task.main_metric], scores)
    best = cfg.trainer.metric_for_best_model
    if read_best_metric(best) not in splits:
        require_metric("trainer.metric_for_best_model", [show(best)], splits)
    objectives, bounds = read_objectives(cfg), [c.metric for c in read_constraints(cfg)]
    require_measured("sweep.constraints", bounds, scores)
    for key, named in (("sweep.objectives", objectives), ("sweep.constraints", bounds)):
        if FORGOTTEN in named and not cfg.diagnostics.get("forgetting", False):
            raise InputError(
                f"{key}: {FORGOTTEN} is not measured with diagnostics.forgetting=false; set it to "
                "true"
            )
