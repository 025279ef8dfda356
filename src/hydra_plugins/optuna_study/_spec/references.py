"""References: configs that a study runs beside its search, as they are.

A reference may set keys that are not searched, and values outside of the search space. So it is no
point: Optuna has no parameters of its trial, and samplers do not see it. Without a pruner the
points of the search are those that it would have without; a pruner compares trials with it, too. It
counts as a trial, is not pruned, and its run counts in the finals, too.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial

from hydra_plugins.optuna_study._configs import Composer, plain, without_hydra
from hydra_plugins.optuna_study._errors import SweepError, first_line, message_line
from hydra_plugins.optuna_study._functions import load_function, load_redact
from hydra_plugins.optuna_study._spec.settings import Settings
from hydra_plugins.optuna_study._spec.space import SearchSpace, as_text
from hydra_plugins.optuna_study.attributes import REFERENCE, REFERENCE_VALUES, name_reference

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reference:
    """A config that is run beside the search."""

    name: str
    # Of its jobs, after those that were typed.
    overrides: tuple[str, ...]
    # What its config has at the keys that it sets and at those that are searched.
    values: dict[str, Any]

    def is_of(self, trial: FrozenTrial) -> bool:
        """Whether a trial runs this reference as it is now."""
        return identify(trial) == (self.name, json.dumps(self.values, sort_keys=True))

    def attributes(self) -> dict[str, Any]:
        """Return what is written on its trials."""
        return {REFERENCE: self.name, REFERENCE_VALUES: self.values}


def identify(trial: FrozenTrial) -> tuple[str, ...]:
    """Tell the reference that a trial runs from others; empty for a point of the search."""
    if REFERENCE not in trial.user_attrs:
        return ()
    values = trial.user_attrs.get(REFERENCE_VALUES, {})
    return trial.user_attrs[REFERENCE], json.dumps(values, sort_keys=True)


def build_references(
    settings: Settings, space: SearchSpace, composer: Composer, default: DictConfig
) -> tuple[tuple[Reference, DictConfig], ...]:
    """Compose the references; one that changes nothing of the config is left out, and logged.

    Args:
        settings, space: of the sweep.
        composer: of the configs of its jobs.
        default: config of a job without the search and without Hydra's node.

    Returns:
        Each reference with the config of its jobs.

    Raises:
        SweepError: a function fails, or the config cannot be composed.

    """
    found = []
    for name, given in settings.references.items():
        key = f"{settings.keys['references']}.{name}"
        values = _read_values(given, default, key)
        texts = [f"{setting}={as_text(value)}" for setting, value in values.items()]
        set_keys = [setting.lstrip("+~") for setting in values]
        opened = [
            parameter.override(parameter.first())
            for parameter in space.parameters
            if composer.is_open(parameter.name) and parameter.name not in set_keys
        ]
        overrides = [*opened, *texts]
        try:
            whole = composer.compose([*space.fixed, *overrides, *settings.job_overrides])
            config = without_hydra(whole)
            same = plain(config) == plain(default)
            choices = whole.hydra.runtime.choices
            shown = {
                name: choices.get(name)
                if composer.is_group(name)
                else _plain(OmegaConf.select(config, name))
                for name in dict.fromkeys([*(p.name for p in space.parameters), *set_keys])
            }
        except Exception as error:
            raise SweepError(f"{key}: {message_line(error)}") from error
        if same:
            log.info("%s are not tried: the config has them already", name_reference(name))
            continue
        redact = load_redact(settings.redact, settings.storage)
        found.append((Reference(name, tuple(overrides), redact(shown)), config))
    return tuple(found)


def _read_values(given: Mapping[str, Any] | str, default: DictConfig, key: str) -> dict[str, Any]:
    if not isinstance(given, str):
        return dict(given)
    function = load_function(given, key=key)
    try:
        found = function(default)
    except Exception as error:
        raise SweepError(f"{key}={given} failed ({first_line(error)})") from error
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise SweepError(f"{key}={given}: it returned {found!r}; return a mapping of key to value")
    return dict(found)


def _plain(value: Any) -> Any:
    """Return what the storage can hold of a value."""
    if OmegaConf.is_config(value):
        return as_text(OmegaConf.to_container(value, resolve=True))
    return value if isinstance(value, int | float | str | None) else str(value)
