"""The settings under ``hydra.sweeper``: one table, from which all else about them is read."""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from omegaconf import MISSING, DictConfig, OmegaConf

from hydra_plugins.optuna_study._errors import SweepError

_DIRECTIONS = ("maximize", "minimize")
STORAGE_WANTED = "sqlite:///FILE, a database URL, or a path that ends in .log"
OBJECTIVES_WANTED = f"names with {' or '.join(_DIRECTIONS)}"


# What of Hydra's own node and groups only a sweep reads.
_OF_SWEEPS = (
    *("hydra.mode", "hydra.sweep", "hydra.sweeper", "hydra.launcher"),
    *("hydra/sweeper", "hydra/launcher"),
)


class Role(Enum):
    """What a setting decides."""

    PROGRESS = "how far a study goes, on which machine: may change when the study is continued"
    SEARCH = "how a study searches: must stay the same, and means nothing to a single run"
    REST = "anything else"


@dataclass(frozen=True)
class _Kind:
    """What a setting may be: a test, the words for it, and what is kept of the value.

    ``{NAME}`` in the words is the key of another setting.
    """

    fits: Callable[[Any], bool]
    wanted: str
    keep: Callable[[Any], Any] = lambda value: value

    def or_null(self) -> "_Kind":
        return _Kind(
            lambda value: value is None or self.fits(value),
            f"{self.wanted}, or null",
            lambda value: None if value is None else self.keep(value),
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list_of(kind: type, value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def are_objectives(value: Any) -> bool:
    """Whether a value maps names to directions."""
    return isinstance(value, dict) and bool(value) and set(value.values()) <= set(_DIRECTIONS)


def _with_text_keys(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): item for name, item in value.items()}


def _expand(storage: str) -> str:
    """Expand the ~ of a file."""
    return re.sub(r"^(sqlite:///)?~/", lambda found: f"{found[1] or ''}{Path.home()}/", storage)


def _whole(low: int) -> _Kind:
    return _Kind(lambda value: _is_whole(value) and value >= low, f"a whole number from {low} up")


_NAME = _Kind(
    lambda value: not isinstance(value, bool) and isinstance(value, str | int) and value != "",
    "a name for the study",
    str,
)
_TEXT = _Kind(lambda value: isinstance(value, str) and value != "", "a text")
_STORAGE = _Kind(_TEXT.fits, STORAGE_WANTED, _expand)
_KEY = _Kind(_TEXT.fits, "the key that holds the seed of a job")
_BOOL = _Kind(lambda value: isinstance(value, bool), "true or false")
_SECONDS = _Kind(
    lambda value: _is_number(value) and value > 0, "a number of seconds above 0", float
)
# Seconds without a heartbeat.
GRACE_PERIOD = 60.0
_GRACE = _Kind(
    lambda value: _is_number(value) and value >= 1, "a number of seconds from 1 up", float
)
_RATE = _Kind(
    lambda value: _is_number(value) and 0 <= value <= 1, "a share of num_trials from 0 to 1", float
)
_WORKERS = _Kind(
    lambda value: value == "auto" or _whole(1).fits(value), f"{_whole(1).wanted}, or auto"
)
_FINALISTS = _Kind(_whole(1).fits, f"{_whole(1).wanted}, or {{final_seeds}}=0 for no finals")
_MAPPING = _Kind(lambda value: isinstance(value, dict), "a mapping", _with_text_keys)
_STRINGS = _Kind(partial(_is_list_of, str), "a list of strings", tuple)
_POINTS = _Kind(
    partial(_is_list_of, dict),
    "a list of points, each a mapping of key to value",
    lambda value: tuple(map(_with_text_keys, value)),
)
_NODE = _Kind(
    lambda value: isinstance(value, dict) and "_target_" in value,
    "a node with _target_, a class of Optuna",
)
_FUNCTION = _Kind(lambda value: isinstance(value, str) and "." in value, "MODULE.FUNCTION")
_REFERENCES = _Kind(
    lambda value: (
        value is None
        or (
            isinstance(value, dict)
            and all(
                item is None or (isinstance(item, dict) and item) or _FUNCTION.fits(item)
                for item in value.values()
            )
        )
    ),
    "names, each with a mapping of key to value, or MODULE.FUNCTION that returns one, or null",
    lambda value: {
        str(name): _with_text_keys(item) if isinstance(item, dict) else item
        for name, item in (value or {}).items()
        if item is not None
    },
)
_OBJECTIVES = _Kind(
    lambda value: are_objectives(value) or _FUNCTION.fits(value),
    f"{OBJECTIVES_WANTED}, or {_FUNCTION.wanted} that returns them",
)


@dataclass(frozen=True)
class _Row:
    kind: _Kind
    default: Any = MISSING
    role: Role = Role.REST


@dataclass(frozen=True)
class Settings:
    """The table: name, type, kind, default and role of each setting."""

    study_name: Annotated[str, _Row(_NAME, MISSING, Role.PROGRESS)]
    # A database URL (sqlite:///FILE, postgresql://…), or a path that ends in .log for a journal.
    storage: Annotated[str, _Row(_STORAGE)]
    # The seed of every sampler; null draws a new one each time.
    seed: Annotated[int | None, _Row(_whole(0).or_null(), None)]
    sampler: Annotated[
        dict[str, Any], _Row(_NODE, {"_target_": "optuna.samplers.TPESampler"}, Role.SEARCH)
    ]
    pruner: Annotated[
        dict[str, Any], _Row(_NODE, {"_target_": "optuna.pruners.NopPruner"}, Role.SEARCH)
    ]
    # Name to maximize | minimize, in the order in which a job returns its values. Or a
    # MODULE.FUNCTION that is called with the config without the search and returns such a mapping.
    objectives: Annotated[dict[str, str] | str, _Row(_OBJECTIVES)]
    # Finished trials (complete or pruned) after which the study is done.
    num_trials: Annotated[int, _Row(_whole(1), MISSING, Role.PROGRESS)]
    # Seconds after which this process starts no more trials; null never.
    timeout: Annotated[float | None, _Row(_SECONDS.or_null(), None, Role.PROGRESS)]
    # Finished trials without a new best after which the study is done; null never.
    patience: Annotated[int | None, _Row(_whole(1).or_null(), None, Role.PROGRESS)]
    # Key to a sweep expression in Hydra's syntax; the command line replaces it key by key.
    params: Annotated[dict[str, Any], _Row(_MAPPING, {}, Role.SEARCH)]
    # MODULE.FUNCTION, called with (config, trial): what it suggests is searched too.
    custom_search_space: Annotated[str | None, _Row(_FUNCTION.or_null(), None, Role.SEARCH)]
    # Whether trial 0 is the config as it is composed without the search.
    try_default: Annotated[bool, _Row(_BOOL, True, Role.PROGRESS)]
    # Points to try after that: mappings of key to value. What a point leaves open is drawn.
    enqueue: Annotated[tuple[dict[str, Any], ...], _Row(_POINTS, [], Role.PROGRESS)]
    # Configs to run beside the search as they are, to their end, and again in finals: name to a
    # mapping of key to value, which may be any keys, or to MODULE.FUNCTION that is called with the
    # config without the search and returns one. null: none of that name.
    references: Annotated[dict[str, Any], _Row(_REFERENCES, {}, Role.PROGRESS)]
    # Jobs in one trial, each with another value at seed_key; the trial's value is their mean.
    num_seeds: Annotated[int, _Row(_whole(1), 1, Role.SEARCH)]
    seed_key: Annotated[str, _Row(_KEY, "seed")]
    # After the search, this many of its best points, the default and the references are trained
    # again, until each has final_seeds seeds; final_seeds=0: none is.
    finalists: Annotated[int, _Row(_FINALISTS, 2, Role.PROGRESS)]
    final_seeds: Annotated[int, _Row(_whole(0), 0, Role.PROGRESS)]
    # 1 runs jobs in this process; more, or auto, in long-lived processes of their own.
    num_workers: Annotated[int | str, _Row(_WORKERS, 1, Role.PROGRESS)]
    # How many of them share a GPU, where there is one.
    workers_per_gpu: Annotated[int, _Row(_whole(1), 1, Role.PROGRESS)]
    # On a database server: seconds without a sign of a process, or its machine, after which its
    # trials are run again.
    grace_period: Annotated[float, _Row(_GRACE, GRACE_PERIOD, Role.PROGRESS)]
    # Overrides given to every job after all others.
    job_overrides: Annotated[tuple[str, ...], _Row(_STRINGS, [])]
    # Keys whose values may differ when a study is continued.
    changeable: Annotated[tuple[str, ...], _Row(_STRINGS, [])]
    # Whether everything else may differ, too.
    allow_changes: Annotated[bool, _Row(_BOOL, False, Role.PROGRESS)]
    # MODULE.FUNCTION: everything that is written of configs, overrides and errors goes through it.
    redact: Annotated[str | None, _Row(_FUNCTION.or_null(), None)]
    # The same error this many times in a row ends the sweep.
    max_repeated_failures: Annotated[int, _Row(_whole(1), 3, Role.PROGRESS)]
    # So does more than this share of num_trials that failed.
    max_failure_rate: Annotated[float, _Row(_RATE, 0.5, Role.PROGRESS)]
    # Name to a node with _target_: objects with the methods of StudyCallback.
    callbacks: Annotated[dict[str, Any], _Row(_MAPPING, {})]

    # Setting to the key of the app's config that a person sets it by, for messages and commands.
    keys: dict[str, str]

    def may_change(self, key: str) -> bool:
        """Tell whether a key may have another value when the study is continued."""
        return is_below(key, (*self._keys_of(Role.PROGRESS), *self.changeable))

    def is_of_study(self, override: str) -> bool:
        """Tell whether an override says how to search, and nothing to a single run."""
        key = override.partition("=")[0].lstrip("+~")
        return is_below(key, (*_OF_SWEEPS, *self._keys_of(Role.PROGRESS, Role.SEARCH)))

    def _keys_of(self, *roles: Role) -> list[str]:
        return [self.keys[name] for name, row in _TABLE.items() if row.role in roles]


_TABLE: dict[str, _Row] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(Settings, include_extras=True).items()
    if hasattr(hint, "__metadata__")
}


def config_fields() -> list[tuple[str, Any, Any]]:
    """List the settings as fields of a structured config, of which this module checks the types."""
    return [
        (name, Any, field(default_factory=partial(copy.deepcopy, row.default)))
        for name, row in _TABLE.items()
    ]


def read_settings(values: Mapping[str, Any], config: DictConfig) -> Settings:
    """Check what Hydra instantiated the sweeper with.

    Raises:
        SweepError: naming the key that a person has set, the value, and what is wanted.

    """
    keys = {name: _source_key(config, name) for name in _TABLE}
    for name, row in _TABLE.items():
        if not row.kind.fits(values[name]):
            wanted = row.kind.wanted.format_map(keys)
            raise SweepError(f"{keys[name]}={values[name]!r}: give {wanted}")
    return Settings(
        **{name: row.kind.keep(values[name]) for name, row in _TABLE.items()}, keys=keys
    )


def _source_key(config: DictConfig, name: str) -> str:
    """Name the key a person sets: ``hydra.sweeper.NAME``, or what that is interpolated from."""
    raw = OmegaConf.to_container(config.hydra.sweeper, resolve=False)
    assert isinstance(raw, dict)
    match = re.fullmatch(r"\$\{([\w./]+)\}", str(raw.get(name)))
    return match.group(1) if match else f"hydra.sweeper.{name}"


def is_below(key: str, parents: Sequence[str]) -> bool:
    """Whether a key is one of some others, or lies in the node of one."""
    return any(f"{key}.".startswith(f"{parent}.") for parent in parents)
