"""What a run records of its config, and the params that decide its result."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError
from omegaconf.resolvers import oc

from tunetrail.config.project import ROOT
from tunetrail.config.secrets import hide_variables, redact
from tunetrail.config.untrusted import parse_config
from tunetrail.errors import InputError

# No params: they say where a run is logged and what chose its values.
_NOT_PARAMS = (
    "tracking",
    "registry",
    "trial",
    "sweep",
    "sampler",
    "pruner",
    "study",
    "resume",
    "cache_dir",
)
# Nor are copies of them that a source is given.
_PLACES = ("tracking_uri", "cache_dir")


def record(cfg: DictConfig) -> dict[str, Any]:
    """Resolve a config into plain values that may be written.

    A value from an environment variable stays ``${oc.env:NAME}``, however many keys it went
    through; the value of a key with the name of a secret becomes ``***``. From now on the values
    of these variables are hidden in all that is written.
    """
    with _environment_unread():
        written = _record(cfg)
    assert isinstance(written, dict)
    return redact(written)


def list_differences(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """List the settings of a recorded config that decide its result and are not the defaults."""
    # Not hydra.compose: in a job Hydra has its one global state already.
    loader = ConfigLoaderImpl(create_config_search_path(str(ROOT / "conf")))
    whole = loader.load_configuration("config", [], RunMode.RUN)
    own = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
    defaults = flatten_params(record(own))
    found = flatten_params(recorded)
    return {key: value for key, value in found.items() if value != defaults.get(key)}


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
        # The variable chooses a key, or is the input of another resolver.
        return OmegaConf.to_container(node, resolve=False)[key]  # type: ignore[index] # as the node is


@contextlib.contextmanager
def _environment_unread() -> Iterator[None]:
    """Let ``oc.env`` return its own text for a variable that is set."""

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
    """Refuse to resume a run with other settings: its result would belong to neither of them.

    Args:
        recorded: the run's ``config.yaml``.

    Raises:
        InputError: the settings differ; the message lists each difference.

    """
    before = flatten_params(parse_config(recorded))
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


def flatten_params(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten the settings that decide the result, with dots between their keys."""
    deciding = {name: value for name, value in config.items() if name not in _NOT_PARAMS}
    return {
        key: value
        for key, value in flatten(deciding).items()
        if key.rpartition(".")[2] not in _PLACES
    }


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten nested mappings, with dots between their keys; lists are leaves."""
    return dict(_walk(config, ""))


def _walk(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from _walk(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node
