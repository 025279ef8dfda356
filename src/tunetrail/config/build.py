"""Turn nodes of a config into objects and plain values."""

import difflib
import inspect
from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from tunetrail.errors import InputError, first_line

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


def require_arguments(node: Any, key: str = "") -> None:
    """Check that every ``_target_`` in plain values exists, and has the arguments beside it.

    Raises:
        InputError: naming the key, and the argument that it may have meant.

    """
    if isinstance(node, list):
        for index, value in enumerate(node):
            require_arguments(value, f"{key}[{index}]")
    if not isinstance(node, dict):
        return
    for name, value in node.items():
        require_arguments(value, f"{key}.{name}".removeprefix("."))
    if "_target_" in node:
        _require_known(node, key)


def _require_known(node: dict[Any, Any], key: str) -> None:
    target = node["_target_"]
    try:
        parameters = inspect.signature(resolve_name(target)).parameters
    except Exception as error:
        cause = first_line(error)
        raise InputError(f"{key}._target_={target}: cannot be imported ({cause})") from error
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in node:
        if name not in (*_OF_HYDRA, *parameters):
            near = difflib.get_close_matches(name, parameters, n=1)
            hint = f"; did you mean {key}.{near[0]}?" if near else ""
            raise InputError(f"{key}.{name}: {target} has no such argument{hint}")
