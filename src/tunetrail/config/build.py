"""Turn nodes of a config into objects and plain values."""

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from tunetrail.errors import InputError


def build(node: DictConfig, **values: Any) -> Any:
    """Instantiate a node; an InputError is raised as it is, not wrapped in Hydra's error."""
    try:
        return instantiate(node, **values)
    except InstantiationException as error:
        if not isinstance(error.__cause__, InputError):
            raise
        cause = error.__cause__
    # Raised outside of the except block: inside, it and Hydra's error would refer to each other.
    raise cause from None


def plain(node: DictConfig) -> dict[str, Any]:
    """Resolve a node into plain values."""
    container = OmegaConf.to_container(node, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}
