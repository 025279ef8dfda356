"""From nodes of a config to objects and plain values."""

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from tunetrail.errors import InputError


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


def plain(node: DictConfig) -> dict[str, Any]:
    """Resolve a node into plain values."""
    container = OmegaConf.to_container(node, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}
