"""A recorded config is untrusted input: what a rerun takes from it, and what it refuses.

Nothing here imports or instantiates what a config names. A rerun resolves nothing either: an
interpolation would read the environment variables of the person who runs it.
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

from tunetrail.config.paths import locate
from tunetrail.errors import InputError, first_line

# A config of this project has 5 kB and nests 5 deep. What takes minutes to parse is no such config.
_MAX_LENGTH = 200_000
_MAX_DEPTH = 30
# Never taken from a record: where to write, and which job of which study it is.
_PLACES = ("tracking", "registry", "cache_dir")
_JOB = ("study", "trial", "resume")
# Arguments of sources: the store of the runs, and where downloads go.
_STORE, _CACHE = "tracking_uri", "cache_dir"
# What a record holds keys under, and what stands for it in an older one.
_GROUPS: dict[str, dict[str, Any]] = {"data.source": {}, "model.source": {}, "sweep": {"sweep": {}}}
# Hydra reads these two itself, before any code of the project runs.
_OF_HYDRA = ("hydra", "defaults")
# As runs record a value that comes from the environment.
_VARIABLE = re.compile(r"\$\{oc\.env:\s*(\w+)\s*\}")
# Arguments of TrainingArguments that upload, or name a file that says where to write.
_SENDING = ("push_to_hub", "hub_model_id", "deepspeed")
# What a rerun sets itself, and what to use instead.
_OURS = {
    "tracking.uri": "use --uri",
    "tracking.run_name": "leave it out: a rerun is named after its original",
    "resume": "use python train.py resume=RUN_ID",
    "trial": "use python train.py -m",
    "hydra": "leave it out: the output is written where every run writes it",
}


@dataclass(frozen=True)
class Project:
    """A checkout and the YAML in its ``conf/``.

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
    """A ``KEY=VALUE`` of the command line. It is trusted, and replaces the recorded value."""

    key: str
    text: str
    value: Any


def load_project(root: Path) -> Project:
    """Read ``conf/`` of a checkout.

    Raises:
        InputError: it has none, or no ``train.py``.

    """
    conf = root / "conf"
    if not (conf / "config.yaml").is_file() or not (root / "train.py").is_file():
        raise InputError(f"{root} has no train.py and conf/config.yaml: nothing can be run there")
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
        InputError: this project cannot have written it.

    """
    if len(text) > _MAX_LENGTH:
        raise InputError(f"config.yaml: {len(text)} characters; no config is that long")
    try:
        _require_plain_yaml(text)
        container = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
        raise InputError(f"config.yaml: cannot be read ({first_line(error)})") from error
    if not isinstance(container, dict):
        raise InputError("config.yaml: holds no keys")
    return {str(key): value for key, value in container.items()}


def _require_plain_yaml(text: str) -> None:
    depth = 0
    for event in yaml.parse(text):
        # With aliases a few lines can stand for billions; a tag can name any Python object.
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
        InputError: Hydra cannot read one, or a rerun sets its key itself.

    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise InputError(f"{' '.join(overrides)}: not KEY=VALUE ({first_line(error)})") from error
    return [_read_given(override, recorded) for override in parsed]


def _read_given(override: Override, recorded: Mapping[str, Any]) -> GivenValue:
    key, text = override.key_or_group, str(override.input_line)
    for ours, instead in _OURS.items():
        if key == ours or key.startswith(f"{ours}."):
            raise InputError(f"{text}: cannot be set here; {instead}")
    if override.is_sweep_override() or override.is_delete():
        raise InputError(f"{text}: a rerun takes one value for each key")
    value = override.value()
    if isinstance(_find(recorded, key), dict) and not isinstance(value, dict):
        raise InputError(
            f"{text}: a record holds the keys of {key}, not the file they came from; give "
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
        given: trusted values that replace those of the record.
        store_dirs: the folders that a run may write to.

    Raises:
        InputError: it has a target that the project's own YAML does not name, an interpolation, a
            hidden secret, a folder to write to outside of the store, a key of Hydra's, or lacks one
            of this project's.

    """
    _require_form(recorded)
    _require_known_targets(recorded, project.targets)
    folders = [folder.resolve() for folder in store_dirs]
    kept = {name: value for name, value in recorded.items() if name not in (*_PLACES, *_JOB)}
    for value in given:
        _put(kept, value.key, None)
    for key, name, value in _walk(kept):
        if isinstance(value, str) and name != _STORE:  # use_store replaces that one
            _require_plain(key, value)
        if name.endswith("_dir") and value is not None:
            _require_inside(key, str(value), folders)
        if name in _SENDING and value:
            raise InputError(f"{key}={value}: would upload the results; refused")


def _require_form(recorded: Mapping[str, Any]) -> None:
    for name in _OF_HYDRA:
        if name in recorded:
            raise InputError(f"{name}: this project records no such key; refused")
    for name, lacking in _GROUPS.items():
        if not isinstance(_find({**lacking, **recorded}, name), dict):
            raise InputError(f"{name}: the record has no keys under it, and a run's has; refused")


def use_store(config: Mapping[str, Any], uri: str) -> dict[str, Any]:
    """Let a recorded config read models from the store that the record itself was read from.

    The recorded URI may be anybody's, the store may be reached in another way now, and a password
    was not recorded.
    """
    replaced: dict[str, Any] = _replace(config, {_STORE: uri})
    return replaced


def _replace(node: Any, own: Mapping[str, str]) -> Any:
    """Replace the values of some names, wherever they are."""
    if isinstance(node, Mapping):
        return {k: own[k] if k in own else _replace(value, own) for k, value in node.items()}
    return [_replace(value, own) for value in node] if isinstance(node, list) else node


@dataclass(frozen=True)
class Trusted:
    """What a recorded config may name where it is instantiated.

    Attributes:
        targets: that may be built.
        variables: of the environment, that may be read.
        cache_dir: that downloads go to, whatever was recorded.

    """

    targets: frozenset[str]
    variables: frozenset[str]
    cache_dir: str


def list_variables(content: Any) -> frozenset[str]:
    """List the environment variables that plain values read."""
    texts = [value for _, _, value in _walk(content) if isinstance(value, str)]
    return frozenset(name for text in texts for name in _VARIABLE.findall(text))


def resolve_config(text: str, *, trusted: Trusted, uri: str) -> DictConfig:
    """Load a recorded config that is instantiated where its run was.

    Args:
        text: a recorded ``config.yaml``.
        trusted: all that it may name.
        uri: of the store that its run is in.

    Raises:
        InputError: it names another target, before or after it is resolved, reads another variable,
            or cannot be resolved.

    """
    recorded = _replace(parse_config(text), {_STORE: uri, _CACHE: trusted.cache_dir})
    for key, name, value in _walk(recorded):
        if isinstance(value, str) and name != _STORE:
            _require_known_variables(key, value, trusted.variables)
        if name in _SENDING and value:
            raise InputError(f"{key}={value}: would upload the results; refused")
    config: DictConfig = OmegaConf.create(recorded)
    try:
        # An interpolation may give a mapping with a target.
        resolved = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(f"config.yaml: cannot be resolved ({first_line(error)})") from error
    _require_known_targets(resolved, trusted.targets)
    for key, _, value in _walk(resolved):
        if isinstance(value, str) and "${" in value:
            raise InputError(f"{key}={value}: would be resolved again; refused")
    return config


def _require_known_variables(key: str, value: str, known: frozenset[str]) -> None:
    rest = _VARIABLE.sub(lambda found: "" if found[1] in known else found[0], value)
    if "${" in rest.replace("${oc.decode:}", ""):
        raise InputError(
            f"{key}={value}: the study's own config reads no such variable, and a record may read "
            "no other; refused"
        )


def _require_known_targets(config: Any, known: frozenset[str]) -> None:
    for key, name, value in _walk(config):
        if name == "_target_" and (not isinstance(value, str) or value not in known):
            raise InputError(
                f"{key}={value}: a recorded config may only name what the project's own YAML "
                "names; refused. To trust it, put a YAML that names it into conf/"
            )


def _require_plain(key: str, value: str) -> None:
    if "${" in value:
        found = re.search(r"\$\{\s*oc\.env\s*:\s*([^,}\s]+)", value)
        what = f"reads the environment variable {found[1]}" if found else f"={value} is resolved"
        raise InputError(f"{key}: {what}; give {key}=VALUE")
    if value == "***" or "***@" in value:
        raise InputError(f"{key}: is a secret, and secrets are not recorded; give {key}=VALUE")


def _require_inside(key: str, value: str, folders: Sequence[Path]) -> None:
    try:
        path = locate(value).resolve()
    except (OSError, ValueError) as error:
        raise InputError(f"{key}={value[:80]!r}: {first_line(error)}; give {key}=PATH") from error
    if not any(path.is_relative_to(folder) for folder in folders):
        raise InputError(f"{key}={value}: is outside of the store; give {key}=PATH to allow it")


def build_config(
    recorded: Mapping[str, Any],
    code: Project,
    present: Project,
    *,
    given: Iterable[GivenValue],
    uri: str,
    run_name: str,
) -> str:
    """Write the YAML that a rerun is started with.

    The weights are not saved again unless ``tracking.log_model=true`` is given.

    Args:
        code: the checkout that runs; it has the keys that an older record lacks.
        present: the checkout whose config says where to write.

    """
    lacking = {name: value for name, value in code.config.items() if name not in _OF_HYDRA}
    config: dict[str, Any] = {**lacking, "sweep": code.sweep}
    for name, value in use_store(recorded, uri).items():
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
    if "references" in config["sweep"]:  # older configs have none
        own["references"] = {}
    config["sweep"] = {**config["sweep"], **own, "custom_search_space": None}
    # Hydra merges a mapping into what is there: what is given stands for all of it.
    for value in given:
        _put(config, value.key, None)
    hydra = {name: value for name, value in code.config["hydra"].items() if name != "sweeper"}
    return OmegaConf.to_yaml(OmegaConf.create({"defaults": ["_self_"], **config, "hydra": hydra}))


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    """Replace an existing value; every mapping on the way is copied first."""
    name, _, rest = key.partition(".")
    if name not in config:
        return
    if not rest:
        config[name] = value
    elif isinstance(config[name], dict):
        config[name] = dict(config[name])
        _put(config[name], rest, value)


def _walk(node: Any, key: str = "", name: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield every node of a tree: its key as on the command line, its last name, its value."""
    if key:
        yield key, name, node
    if isinstance(node, Mapping):
        for part, value in node.items():
            yield from _walk(value, f"{key}.{part}" if key else str(part), str(part))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _walk(value, f"{key}[{index}]", name)
