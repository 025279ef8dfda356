"""The values under ``hydra.sweeper``, checked."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hydra_plugins.optuna_study._errors import SweepError

DIRECTIONS = ("maximize", "minimize")


@dataclass(frozen=True)
class Settings:
    study_name: str
    storage: str
    seed: int | None
    sampler: dict[str, Any]
    pruner: dict[str, Any]
    objectives: dict[str, str]
    num_trials: int
    timeout: float | None
    patience: int | None
    params: dict[str, Any]
    custom_search_space: str | None
    try_default: bool
    enqueue: tuple[dict[str, Any], ...]
    num_seeds: int
    seed_key: str
    finalists: int
    # 0: no finals.
    final_seeds: int
    num_workers: int | str
    workers_per_gpu: int
    job_overrides: tuple[str, ...]
    changeable: tuple[str, ...]
    allow_changes: bool
    redact: str | None
    max_repeated_failures: int
    max_failure_rate: float
    callbacks: dict[str, Any]
    # Setting to the key of the app's config that a person sets it by, for messages and commands.
    keys: dict[str, str]

    def may_change(self, key: str) -> bool:
        """Tell whether a key may have another value when the study is continued."""
        return _is_below(key, (*(self.keys[name] for name in _HOW_FAR), *self.changeable))

    def is_of_study(self, override: str) -> bool:
        """Tell whether an override says how to search, and nothing to a single run."""
        key = override.partition("=")[0].lstrip("+~")
        return _is_below(key, ("hydra", *(self.keys[name] for name in (*_HOW_FAR, *_HOW))))


# Settings that say how far a study goes and on what machine: its trials are the same without them.
_HOW_FAR = (
    "study_name",
    "num_trials",
    "timeout",
    "patience",
    "try_default",
    "enqueue",
    "num_workers",
    "workers_per_gpu",
    "allow_changes",
    "max_repeated_failures",
    "max_failure_rate",
    "finalists",
    "final_seeds",
)
# Settings that say how a study searches, which a single run has no use for.
_HOW = ("sampler", "pruner", "objectives", "params", "custom_search_space", "num_seeds")


def _is_below(key: str, parents: Sequence[str]) -> bool:
    return any(f"{key}.".startswith(f"{parent}.") for parent in parents)


def read_settings(values: Mapping[str, Any], config: DictConfig) -> Settings:
    """Check what Hydra instantiated the sweeper with.

    Raises:
        SweepError: naming the key that a person has set, the value, and what is wanted.

    """
    key = {name: _source_key(config, name) for name in values}
    study_name = values["study_name"]
    if isinstance(study_name, bool) or not isinstance(study_name, str | int) or study_name == "":
        raise SweepError(f"{key['study_name']}={study_name!r}: a study needs a name")
    storage = values["storage"]
    if not isinstance(storage, str) or not storage:
        raise SweepError(
            f"{key['storage']}={storage!r}: jobs open their trial in a storage; "
            "give sqlite:///FILE, a database URL, or a path that ends in .log"
        )
    seed = values["seed"]
    if seed is not None and (not _is_int(seed) or seed < 0):
        raise SweepError(f"{key['seed']}={seed!r}: give a whole number from 0 up, or null")

    def of(name: str, require: Callable[[Any, str], Any]) -> Any:
        return require(values[name], key[name])

    return Settings(
        study_name=str(study_name),
        storage=storage,
        seed=seed,
        sampler=of("sampler", _require_target),
        pruner=of("pruner", _require_target),
        objectives=of("objectives", _require_objectives),
        num_trials=of("num_trials", _require_positive),
        timeout=of("timeout", _require_seconds),
        patience=None if values["patience"] is None else of("patience", _require_positive),
        params=of("params", _require_mapping),
        custom_search_space=of("custom_search_space", _require_name),
        try_default=of("try_default", _require_bool),
        enqueue=of("enqueue", _require_points),
        num_seeds=of("num_seeds", _require_positive),
        seed_key=_require_seed_key(values, key),
        finalists=of("finalists", _require_positive),
        final_seeds=of("final_seeds", _require_count),
        num_workers=of("num_workers", _require_workers),
        workers_per_gpu=of("workers_per_gpu", _require_positive),
        job_overrides=of("job_overrides", _require_strings),
        changeable=of("changeable", _require_strings),
        allow_changes=of("allow_changes", _require_bool),
        redact=of("redact", _require_name),
        max_repeated_failures=of("max_repeated_failures", _require_positive),
        max_failure_rate=of("max_failure_rate", _require_rate),
        callbacks=of("callbacks", _require_mapping),
        keys=key,
    )


def _source_key(config: DictConfig, name: str) -> str:
    """Name the key a person sets: ``hydra.sweeper.NAME``, or what that is interpolated from."""
    raw = OmegaConf.to_container(config.hydra.sweeper, resolve=False)
    assert isinstance(raw, dict)
    match = re.fullmatch(r"\$\{(?:oc\.select:)?([\w./]+)(?:,null)?\}", str(raw.get(name)))
    return match.group(1) if match else f"hydra.sweeper.{name}"


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require_positive(value: Any, key: str) -> int:
    if not _is_int(value) or value < 1:
        raise SweepError(f"{key}={value!r}: give a whole number from 1 up")
    return int(value)


def _require_count(value: Any, key: str) -> int:
    if not _is_int(value) or value < 0:
        raise SweepError(f"{key}={value!r}: give a whole number from 0 up")
    return int(value)


def _require_workers(value: Any, key: str) -> int | str:
    if value == "auto" or (_is_int(value) and value >= 1):
        return value  # type: ignore[no-any-return] # an int or that string
    raise SweepError(f"{key}={value!r}: give a whole number from 1 up, or auto")


def _require_seconds(value: Any, key: str) -> float | None:
    if value is None:
        return None
    if not _is_number(value) or not value > 0:
        raise SweepError(f"{key}={value!r}: give a number of seconds above 0, or null")
    return float(value)


def _require_rate(value: Any, key: str) -> float:
    if not _is_number(value) or not 0 <= value <= 1:
        raise SweepError(f"{key}={value!r}: give a share of num_trials from 0 to 1")
    return float(value)


def _require_bool(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise SweepError(f"{key}={value!r}: give true or false")
    return value


def _require_name(value: Any, key: str) -> str | None:
    if value is None or (isinstance(value, str) and "." in value):
        return value
    raise SweepError(f"{key}={value!r}: give MODULE.FUNCTION, or null")


def _require_points(value: Any, key: str) -> tuple[dict[str, Any], ...]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise SweepError(f"{key}={value!r}: give a list of points, each a mapping of key to value")
    return tuple({str(name): item for name, item in point.items()} for point in value)


def _require_seed_key(values: Mapping[str, Any], key: Mapping[str, str]) -> str:
    seed_key = values["seed_key"]
    if isinstance(seed_key, str) and seed_key:
        return seed_key
    raise SweepError(
        f"{key['seed_key']}={seed_key!r}: name the key that holds a job's seed, which "
        f"{key['num_seeds']} varies"
    )


def _require_mapping(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SweepError(f"{key}={value!r}: give a mapping")
    return {str(name): node for name, node in value.items()}


def _require_strings(value: Any, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise SweepError(f"{key}={value!r}: give a list of strings")
    return tuple(value)


def _require_target(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict) or "_target_" not in value:
        raise SweepError(f"{key}={value!r}: give a node with _target_, a class of Optuna")
    return value


def _require_objectives(value: Any, key: str) -> dict[str, str]:
    if not isinstance(value, dict) or not value:
        raise SweepError(f"{key}={value!r}: give names with {' or '.join(DIRECTIONS)}")
    for name, direction in value.items():
        if direction not in DIRECTIONS:
            raise SweepError(
                f"{key}: {name} has the direction {direction!r}; give {' or '.join(DIRECTIONS)}"
            )
    return {str(name): direction for name, direction in value.items()}
