"""The values under ``hydra.sweeper``, checked."""

import re
from collections.abc import Mapping, Sequence
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
    params: dict[str, Any]
    job_overrides: tuple[str, ...]
    changeable: tuple[str, ...]
    max_repeated_failures: int
    callbacks: dict[str, Any]
    # Setting to the key of the app's config that a person sets it by, for messages and commands.
    keys: dict[str, str]

    def is_changeable(self, override: str) -> bool:
        """Tell whether an override may differ when the study is continued."""
        return _is_below(override, (self.keys["study_name"], *self.changeable))

    def is_of_study(self, override: str) -> bool:
        """Tell whether an override says how to search, and nothing to a single run."""
        asked = ("study_name", "num_trials", "sampler", "pruner", "objectives")
        return _is_below(override, ("hydra", *(self.keys[name] for name in asked)))


def _is_below(override: str, keys: Sequence[str]) -> bool:
    path = f"{override.partition('=')[0].lstrip('+~')}."
    return any(path.startswith(f"{key}.") for key in keys)


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
    _require_one_worker(values["num_workers"], key)
    return Settings(
        study_name=str(study_name),
        storage=storage,
        seed=seed,
        sampler=_require_target(values["sampler"], key["sampler"]),
        pruner=_require_target(values["pruner"], key["pruner"]),
        objectives=_require_objectives(values["objectives"], key["objectives"]),
        num_trials=_require_positive(values["num_trials"], key["num_trials"]),
        params=_require_mapping(values["params"], key["params"]),
        job_overrides=_require_strings(values["job_overrides"], key["job_overrides"]),
        changeable=_require_strings(values["changeable"], key["changeable"]),
        max_repeated_failures=_require_positive(
            values["max_repeated_failures"], key["max_repeated_failures"]
        ),
        callbacks=_require_mapping(values["callbacks"], key["callbacks"]),
        keys=key,
    )


def _source_key(config: DictConfig, name: str) -> str:
    """Name the key a person sets: ``hydra.sweeper.NAME``, or what that is interpolated from."""
    raw = OmegaConf.to_container(config.hydra.sweeper, resolve=False)
    assert isinstance(raw, dict)
    match = re.fullmatch(r"\$\{([\w./]+)\}", str(raw.get(name)))
    return match.group(1) if match else f"hydra.sweeper.{name}"


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require_positive(value: Any, key: str) -> int:
    if not _is_int(value) or value < 1:
        raise SweepError(f"{key}={value!r}: give a whole number from 1 up")
    return int(value)


def _require_one_worker(value: Any, key: Mapping[str, str]) -> None:
    if _require_positive(value, key["num_workers"]) != 1:
        raise SweepError(
            f"{key['num_workers']}={value}: a process runs one trial at a time; set it to 1 and "
            f"run the same command with the same {key['study_name']}=NAME in a second terminal "
            "to add a worker"
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
