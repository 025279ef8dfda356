"""What a study asks, and what of it is compared when the study is continued."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from hydra_plugins.optuna_study._configs import plain
from hydra_plugins.optuna_study._errors import SweepError, message_line
from hydra_plugins.optuna_study._functions import load_function, load_redact
from hydra_plugins.optuna_study._spec.settings import (
    OBJECTIVES_WANTED,
    Settings,
    are_objectives,
    is_below,
)
from hydra_plugins.optuna_study._spec.space import SearchSpace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a study asks. It is the same for all trials, or they could not be compared."""

    objectives: dict[str, str]
    # Parameter to its distribution in Hydra's syntax.
    search_space: dict[str, str]
    # Every other leaf of a job's config, dotted key to text, interpolations as written.
    fixed_config: dict[str, str]


def load_objectives(settings: Settings, config: DictConfig) -> dict[str, str]:
    """Return the objectives that are given, or those that the given function returns.

    Args:
        settings: of the sweep.
        config: without the search and without Hydra's node.

    Raises:
        SweepError: in the function's own words, or because it returned something else.

    """
    found: Any = settings.objectives
    if isinstance(found, str):
        key, name = settings.keys["objectives"], found
        function = load_function(name, key=key)
        try:
            found = function(config)
        except Exception as error:
            log.debug("traceback of %s", name, exc_info=True)
            raise SweepError(message_line(error)) from error
        if not are_objectives(found):
            raise SweepError(f"{key}={name}: it returned {found!r}; return {OBJECTIVES_WANTED}")
    return {str(name): direction for name, direction in found.items()}


def build_plan(
    config: DictConfig, settings: Settings, space: SearchSpace, objectives: dict[str, str]
) -> Plan:
    """Collect what must stay the same.

    Args:
        config: of a job at any point of the space, without Hydra's node. A value counts whether a
            file gave it or a person typed it.
        settings: of the sweep.
        space: what is searched.
        objectives: name to direction.

    """
    searched = {parameter.name: parameter.expression for parameter in space.parameters}
    if settings.custom_search_space is not None:
        searched[settings.keys["custom_search_space"]] = settings.custom_search_space
    redact = load_redact(settings.redact, settings.storage)
    leaves = dict(_leaves(redact(plain(config)), ""))
    names = [parameter.name for parameter in space.parameters]
    ignored = [settings.keys["params"], settings.keys["objectives"], *names]
    return Plan(
        objectives=objectives,
        search_space=redact(searched),
        fixed_config={
            key: text
            for key, text in leaves.items()
            if not settings.may_change(key) and not is_below(key, ignored)
        },
    )


def _leaves(node: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict) and node:
        # Sorted: files may name the keys of a node in any order.
        for name, value in sorted(node.items(), key=lambda item: str(item[0])):
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node if isinstance(node, str) else json.dumps(node)
