"""Turn nodes of a config into objects and plain values."""

import inspect
import re
import sys
from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from tunetrail.config.annotations import annotations_of, find_fault
from tunetrail.errors import InputError, did_you_mean, first_line

# Keys of a node that Hydra itself reads.
_OF_HYDRA = ("_target_", "_args_", "_convert_", "_partial_", "_recursive_")


def build(node: DictConfig, **values: Any) -> Any:
    """Instantiate a node; an InputError is raised as it is, not wrapped in Hydra's error.

    Raises:
        InputError: an argument is missing, or the part itself raises it.

    """
    _require_all(node, values)
    try:
        return instantiate(node, **values)
    except InstantiationException as error:
        if not isinstance(error.__cause__, InputError):
            raise
        cause = error.__cause__
    # Raised outside of the except block: inside, it and Hydra's error would refer to each other.
    raise cause from None


def _require_all(node: DictConfig, values: Mapping[str, Any]) -> None:
    target = node["_target_"]
    missing = [
        name
        for name, parameter in inspect.signature(resolve_name(target)).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name not in node
        and name not in values
    ]
    if missing:
        key = node._get_full_key(None)  # noqa: SLF001 - OmegaConf has no public name for it
        raise InputError(f"{key}.{missing[0]} is missing: {target} needs {', '.join(missing)}")


def plain(node: DictConfig) -> dict[str, Any]:
    """Resolve a node into plain values."""
    container = OmegaConf.to_container(node, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def require_arguments(node: Any, written: Any = None, *, key: str = "") -> None:
    """Check every ``_target_`` in plain values, and the arguments beside it.

    Args:
        node: plain values.
        written: the same before interpolations were resolved: a message names the key that a value
            comes from, which is the one that a person sets.
        key: of the node.

    Raises:
        InputError: there is no such part, it has no such argument, or the value is of another type;
            naming the key, and the name that it may have meant.

    """
    if isinstance(node, list):
        for index, value in enumerate(node):
            source = written[index] if isinstance(written, list) else None
            require_arguments(value, source, key=f"{key}[{index}]")
    if not isinstance(node, dict):
        return
    sources = written if isinstance(written, dict) else {}
    for name, value in node.items():
        require_arguments(value, sources.get(name), key=f"{key}.{name}".removeprefix("."))
    if "_target_" in node:
        _require_known(node, sources, key)


def _require_known(node: dict[Any, Any], written: dict[Any, Any], key: str) -> None:
    target = node["_target_"]
    found = _import(target, key=f"{key}._target_")
    parameters = inspect.signature(found).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    annotations = annotations_of(found, parameters)
    for name, value in node.items():
        if name in _OF_HYDRA:
            continue
        if name not in parameters:
            hint = did_you_mean(name, parameters, before=f"{key}.")
            raise InputError(f"{key}.{name}: {target} has no such argument{hint}")
        is_node = isinstance(value, dict) and "_target_" in value
        fault = None if is_node else find_fault(value, annotations.get(name, Any))
        if fault is not None:
            reference = re.fullmatch(r"\$\{([\w.]+)\}", str(written.get(name)))
            source = reference[1] if reference else f"{key}.{name}"
            raise InputError(f"{source}={show(value)}: {fault}")


def _import(target: str, *, key: str) -> Any:
    try:
        return resolve_name(target)
    except Exception as error:
        module, _, name = str(target).rpartition(".")
        hint = did_you_mean(name, dir(sys.modules.get(module)), before=f"{module}.")
        cause = first_line(error)
        raise InputError(f"{key}={target}: cannot be imported ({cause}){hint}") from error


def show(value: object) -> str:
    """Write a plain value as a person types it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
