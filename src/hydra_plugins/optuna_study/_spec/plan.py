"""What a study asks."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from hydra_plugins.optuna_study._jobs.yaml_files import plain
from hydra_plugins.optuna_study._redaction import load_redact
from hydra_plugins.optuna_study._spec.settings import Settings
from hydra_plugins.optuna_study._spec.space import SearchSpace


@dataclass(frozen=True)
class Plan:
    """What a study asks: the same for all of its trials, or they cannot be compared."""

    objectives: dict[str, str]
    # Parameter to its distribution in Hydra's syntax.
    search_space: dict[str, str]
    # Every other leaf of a job's config, dotted key to text, interpolations as written.
    fixed_config: dict[str, str]


def build_plan(config: DictConfig, settings: Settings, space: SearchSpace) -> Plan:
    """Note what stays the same.

    Args:
        config: of a job at some point of the space, without Hydra's node. The files that were
            read count as much as what was typed.
        settings: of the sweep.
        space: what is searched.

    """
    searched = {parameter.name: parameter.expression for parameter in space.parameters}
    if settings.custom_search_space is not None:
        searched[settings.keys["custom_search_space"]] = settings.custom_search_space
    redact = load_redact(settings.redact)
    leaves = dict(_leaves(redact(plain(config)), ""))
    names = {parameter.name for parameter in space.parameters}
    ignored = {settings.keys["params"], settings.keys["objectives"], *names}
    return Plan(
        objectives=settings.objectives,
        search_space=redact(searched),
        fixed_config={
            key: text
            for key, text in leaves.items()
            if not settings.may_change(key)
            and not any(f"{key}.".startswith(f"{name}.") for name in ignored)
        },
    )


def _leaves(node: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict) and node:
        # By key: a node's files may name its keys in any order.
        for name, value in sorted(node.items(), key=lambda item: str(item[0])):
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node if isinstance(node, str) else json.dumps(node)
