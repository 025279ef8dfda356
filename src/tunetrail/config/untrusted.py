"""A recorded config is untrusted input: what of it is run again, and what is refused by name.

Nothing here imports or instantiates what a config names. Of a run that is done again nothing is
resolved either: an interpolation would read environment variables of whoever does it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # PyYAML ships no types
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tunetrail.errors import InputError

# A config of this project takes 5 kB and nests five deep; what takes minutes to parse is none.
_MAX_LENGTH = 200_000
_MAX_DEPTH = 30
# Never taken from a record: where to write, and whose job it is.
_PLACES = ("tracking", "registry", "cache_dir")
_JOB = ("study", "trial", "resume")
# Hydra reads these two where a config begins, before any code of the project.
_OF_HYDRA = ("hydra", "defaults")
# Arguments of TrainingArguments that send things away, or name a file that says where to write.
_SENDING = ("push_to_hub", "hub_token", "hub_model_id", "deepspeed")
# What a rerun sets itself.
_OURS = {
    "tracking.uri": "--uri",
    "tracking.run_name": "nothing: the run is named after the one it repeats",
    "resume": "python train.py resume=RUN_ID",
    "trial": "python train.py -m",
    "hydra": "nothing: output goes where that of every run goes",
}


@dataclass(frozen=True)
class Project:
    """What the project's own YAML says.

    Attributes:
        targets: every ``_target_`` in ``conf/``.
        config: ``conf/config.yaml``, unresolved.
        sweep: ``conf/sweep/default.yaml``, unresolved.

    """

    root: Path
    targets: frozenset[str]
    config: dict[str, Any]
    sweep: dict[str, Any]


@dataclass(frozen=True)
class GivenValue:
    """A ``KEY=VALUE`` of the command line: trusted, and instead of what the record says."""

    key: str
    text: str
    value: Any


def load_project(root: Path) -> Project:
    """Read ``conf/`` of a checkout.

    Raises:
        InputError: there is none.

    """
    conf = root / "conf"
    if not (conf / "config.yaml").is_file() or not (root / "train.py").is_file():
        raise InputError(f"{root} holds no train.py and conf/config.yaml: nothing can be run there")
    read = {path: yaml.safe_load(path.read_text("utf-8")) for path in conf.rglob("*.yaml")}
    return Project(
        root=root,
        targets=list_targets(list(read.values())),
        config=read[conf / "config.yaml"],
        sweep=read.get(conf / "sweep" / "default.yaml") or {},
    )


def list_targets(content: Any) -> frozenset[str]:
    """List every ``_target_`` in plain values."""
    return frozenset(
        value for _, name, value in _walk(content) if name == "_target_" and isinstance(value, str)
    )


def parse_config(text: str) -> dict[str, Any]:
    """Parse a recorded ``config.yaml`` into plain values; interpolations stay text.

    Raises:
        InputError: it is no config that this project has written.

    """
    if len(text) > _MAX_LENGTH:
        raise InputError(f"config.yaml: {len(text)} characters; no config is that long")
    try:
        _require_plain_yaml(text)
        container = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"config.yaml: cannot be read ({first})") from error
    if not isinstance(container, dict):
        raise InputError("config.yaml: holds no keys")
    return {str(key): value for key, value in container.items()}


def _require_plain_yaml(text: str) -> None:
    depth = 0
    for event in yaml.parse(text):
        # An anchor can make a few lines mean billions; a tag can name any Python object.
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None):
            line = event.start_mark.line + 1
            raise InputError(f"config.yaml: line {line} has a YAML alias or tag; refused")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise InputError(f"config.yaml: nested more than {_MAX_DEPTH} deep; refused")


def parse_given(overrides: Sequence[str], recorded: Mapping[str, Any]) -> list[GivenValue]:
    """Parse the ``KEY=VALUE`` of the command line.

    Raises:
        InputError: one that Hydra cannot read, or that a rerun sets itself.

    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{' '.join(overrides)}: not KEY=VALUE ({first})") from error
    return [_read_given(override, recorded) for override in parsed]


def _read_given(override: Override, recorded: Mapping[str, Any]) -> GivenValue:
    key, text = override.key_or_group, str(override.input_line)
    for ours, instead in _OURS.items():
        if key == ours or key.startswith(f"{ours}."):
            raise InputError(f"{text}: is not set here; use {instead}")
    if override.is_sweep_override() or override.is_delete():
        raise InputError(f"{text}: a rerun takes one value for each key")
    value = override.value()
    if isinstance(_find(recorded, key), dict) and not isinstance(value, dict):
        raise InputError(
            f"{text}: {key} is recorded key by key, and no choice among files any more; give "
            f"{key}.NAME=VALUE"
        )
    return GivenValue(key=key, text=text, value=value)


def _find(config: Mapping[str, Any], key: str) -> Any:
    node: Any = config
    for name in key.split("."):
        if not isinstance(node, dict) or name not in node:
            return None
        node = node[name]
    return node


def require_safe(
    recorded: Mapping[str, Any],
    project: Project,
    *,
    given: Iterable[GivenValue],
    store_dirs: Iterable[Path],
) -> None:
    """Check a recorded config before anything that it names is imported.

    Args:
        given: what replaces values of the record, and is trusted.
        store_dirs: where a run may write.

    Raises:
        InputError: a target that the project's own YAML does not name, an interpolation, a secret
            that was not recorded, a place to write outside the store, or a key of Hydra's.

    """
    for name in _OF_HYDRA:
        if name in recorded:
            raise InputError(f"{name}: no run records this key; refused")
    _require_known_targets(recorded, project.targets)
    folders = [folder.resolve() for folder in store_dirs]
    kept = {name: value for name, value in recorded.items() if name not in (*_PLACES, *_JOB)}
    for value in given:
        _put(kept, value.key, None)
    for key, name, value in _walk(kept):
        if isinstance(value, str):
            _require_plain(key, value)
        if name.endswith("_dir") and value is not None:
            _require_inside(key, str(value), folders)
        if name in _SENDING and value:
            raise InputError(f"{key}={value}: sends what it makes elsewhere; refused")


def resolve_config(text: str, *, known: frozenset[str]) -> DictConfig:
    """Read back a config that may be instantiated here, where its run was.

    Its environment variables are those of this process.

    Args:
        text: a recorded ``config.yaml``.
        known: every target that it may name.

    Raises:
        InputError: it names another one, as it stands or resolved, or cannot be resolved.

    """
    config = OmegaConf.create(parse_config(text))
    try:
        # What an interpolation makes may be a mapping with a target.
        resolved = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"config.yaml: cannot be resolved ({first})") from error
    _require_known_targets(resolved, known)
    for key, _, value in _walk(resolved):
        if isinstance(value, str) and "${" in value:
            raise InputError(f"{key}={value}: would be resolved a second time; refused")
    return config


def _require_known_targets(config: Any, known: frozenset[str]) -> None:
    for key, name, value in _walk(config):
        if name == "_target_" and (not isinstance(value, str) or value not in known):
            raise InputError(
                f"{key}={value}: a recorded config may only name what the project's own YAML "
                "names; refused"
            )


def _require_plain(key: str, value: str) -> None:
    if "${" in value:
        found = re.search(r"\$\{\s*oc\.env\s*:\s*([^,}\s]+)", value)
        what = f"reads the environment variable {found[1]}" if found else f"={value} is resolved"
        raise InputError(f"{key}: {what}; give {key}=VALUE")
    if value == "***" or "***@" in value:
        raise InputError(f"{key}: is a secret, which no run records; give {key}=VALUE")


def _require_inside(key: str, value: str, folders: Sequence[Path]) -> None:
    path = Path(value).expanduser().resolve()
    if not any(path.is_relative_to(folder) for folder in folders):
        raise InputError(f"{key}={value}: leaves the store; give {key}=PATH if that is meant")


def build_config(
    recorded: Mapping[str, Any],
    code: Project,
    present: Project,
    *,
    given: Iterable[GivenValue],
    uri: str,
    run_name: str,
) -> str:
    """Write the one YAML that a rerun is started with.

    The weights are not saved a second time, unless ``tracking.log_model=true`` is given.

    Args:
        code: what runs; it has what a run needs and an older record lacks.
        present: what says where to write.

    """
    lacking = {name: value for name, value in code.config.items() if name not in _OF_HYDRA}
    config: dict[str, Any] = {**lacking, "sweep": code.sweep}
    for name, value in recorded.items():
        before = config.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            config[name] = {**before, **value}
        else:
            config[name] = value
    config |= {name: lacking[name] for name in _JOB}
    config |= {name: present.config[name] for name in _PLACES}
    config["tracking"] = {
        **lacking["tracking"], **present.config["tracking"],
        "uri": uri, "run_name": run_name, "log_model": False,
    }  # fmt: skip
    # A single run searches nothing: it takes the objectives in the form that its code reads, and no
    # name of code that a search would import.
    own = {name: value for name, value in code.sweep.items() if name == "objectives"}
    config["sweep"] = {**config["sweep"], **own, "custom_search_space": None}
    # Hydra merges a mapping into what is there: what is given stands for all of it.
    for value in given:
        _put(config, value.key, None)
    hydra = {name: value for name, value in code.config["hydra"].items() if name != "sweeper"}
    return OmegaConf.to_yaml(OmegaConf.create({"defaults": ["_self_"], **config, "hydra": hydra}))


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    """Replace a value that is there, in a copy of every mapping on the way."""
    name, _, rest = key.partition(".")
    if name not in config:
        return
    if not rest:
        config[name] = value
    elif isinstance(config[name], dict):
        config[name] = dict(config[name])
        _put(config[name], rest, value)


def _walk(node: Any, key: str = "", name: str = "") -> Iterator[tuple[str, str, Any]]:
    """Go through a tree, lists too: key as on the command line, last name, value."""
    if key:
        yield key, name, node
    if isinstance(node, Mapping):
        for part, value in node.items():
            yield from _walk(value, f"{key}.{part}" if key else str(part), str(part))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _walk(value, f"{key}[{index}]", name)
