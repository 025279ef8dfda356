"""The leaves of a config that decide the result of a run."""

from collections.abc import Iterator, Mapping
from typing import Any

# Not among them: where a run was logged, and what chose its values.
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


def flatten_params(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten the leaves that decide the result, with dots between their keys."""
    deciding = {name: value for name, value in config.items() if name not in _NOT_PARAMS}
    return dict(_walk(deciding, ""))


def _walk(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from _walk(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node
