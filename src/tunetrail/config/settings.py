"""What the composed config must hold, and how it is laid down as params."""

import contextlib
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue
from omegaconf.resolvers import oc

from tunetrail.config.leaves import flatten_params
from tunetrail.config.objectives import read_objectives, require_measured
from tunetrail.config.secrets import hide_variables, redact
from tunetrail.errors import InputError
from tunetrail.training.trainer import precision_flags, require_trainer_values

# YAML reads a bare off as false.
_POLICIES = ("off", False, "warn", "clean", "error")


@dataclass(frozen=True)
class Constraint:
    """A bound that the best evaluation of a run should keep."""

    metric: str
    operator: Literal["<=", ">="]
    bound: float

    def violation(self, value: float) -> float:
        """Return by how much the bound is broken; 0 or less where it is kept."""
        return value - self.bound if self.operator == "<=" else self.bound - value


def read_constraints(cfg: DictConfig) -> list[Constraint]:
    """Read ``sweep.constraints``, which maps a metric to a bound such as ``<= 0.2``.

    Raises:
        InputError: a bound that is not an operator and a number.

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


def build(node: DictConfig, **values: Any) -> Any:
    """Instantiate, and let an InputError through as itself, not wrapped in Hydra's."""
    try:
        return instantiate(node, **values)
    except InstantiationException as error:
        if not isinstance(error.__cause__, InputError):
            raise
        cause = error.__cause__
    # Raised out here: inside, its context would be Hydra's error, whose cause it is, in a circle.
    raise cause from None


def require_job(cfg: DictConfig) -> None:
    """Check all of a composed config that can be checked without data, model or network.

    Raises:
        InputError: a value cannot be used, or a metric is none of the task's.

    """
    require_settings(cfg)
    require_metrics(cfg, build(cfg.task).metric_names)


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
    for name in ("seed", "training_seed"):
        seed = cfg[name]
        if not _is_whole(seed) or not 0 <= seed < 2**32:
            raise InputError(f"{name}={seed}: must be a whole number from 0 to 4294967295")
    if not _is_whole(cfg.sweep.keep_best) or cfg.sweep.keep_best < 1:
        raise InputError(
            f"sweep.keep_best={cfg.sweep.keep_best}: must be a whole number of 1 or more; "
            "tracking.log_model=false keeps no weights at all"
        )
    read_constraints(cfg)
    _require_registry_name(cfg.registry.name)
    sample = cfg.diagnostics.num_train_sample
    if not _is_whole(sample) or sample < 1:
        raise InputError(
            f"diagnostics.num_train_sample={sample}: must be a whole number of 1 or more"
        )
    trainer = plain(cfg.trainer)
    del trainer["_target_"]
    require_trainer_values(trainer)
    precision_flags(cfg.precision)


def _require_registry_name(name: object) -> None:
    """Refuse a name that the registry, or NAME@ALIAS, would not take: before there is a study."""
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
    for key, name, names in asked:
        if name not in names:
            raise InputError(f"{key}={name}: no such metric (found: {', '.join(names)})")
    read_objectives(cfg)
    require_measured("sweep.constraints", [c.metric for c in read_constraints(cfg)], scores)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def plain(node: DictConfig) -> dict[str, Any]:
    """Resolve a node into plain values."""
    container = OmegaConf.to_container(node, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def record(cfg: DictConfig) -> dict[str, Any]:
    """Resolve a config into what may be written of it.

    A value that an environment variable gave stays ``${oc.env:NAME}``, wherever it stands and
    through whichever key it came; one whose key says secret is ``***``. The variables' values are
    hidden from now on in all that is written.
    """
    with _environment_unread():
        written = _record(cfg)
    assert isinstance(written, dict)
    return redact(written)


def _record(node: Any) -> Any:
    if isinstance(node, DictConfig):
        return {str(key): _record_item(node, key) for key in node}
    if isinstance(node, ListConfig):
        return [_record_item(node, index) for index in range(len(node))]
    return node


def _record_item(node: DictConfig | ListConfig, key: Any) -> Any:
    try:
        return _record(node[key])
    except InterpolationResolutionError:
        # The variable decides which key is meant, or is fed into another resolver.
        return OmegaConf.to_container(node, resolve=False)[key]  # type: ignore[index] # as the node is


@contextlib.contextmanager
def _environment_unread() -> Iterator[None]:
    """Have ``oc.env`` give back its own text for a variable that is set."""

    def env(name: str, *default: Any) -> Any:
        if name not in os.environ:
            return oc.env(name, *default)
        hide_variables([name])
        return f"${{oc.env:{name}}}"

    def decode(text: str | None, *, _parent_: Any, _node_: Any) -> Any:
        if text is not None and "${oc.env:" in text:
            return f"${{oc.decode:{text}}}"
        return oc.decode(text, _parent_, _node_)

    OmegaConf.register_new_resolver("oc.env", env, replace=True)
    OmegaConf.register_new_resolver("oc.decode", decode, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
        OmegaConf.register_new_resolver("oc.decode", oc.decode, replace=True)


def require_same_settings(cfg: DictConfig, recorded: str, *, run_id: str) -> None:
    """Refuse to resume a run with other settings: the result would belong to neither.

    Args:
        recorded: the run's ``config.yaml``.

    Raises:
        InputError: the settings differ; the message lists each difference.

    """
    loaded = OmegaConf.to_container(OmegaConf.create(recorded), resolve=False)
    assert isinstance(loaded, dict)
    before = flatten_params({str(name): value for name, value in loaded.items()})
    now = flatten_params(record(cfg))
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
