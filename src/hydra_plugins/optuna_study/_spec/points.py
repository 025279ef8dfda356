"""The points that a study tries first, and the function that adds to its space."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.optuna_study._configs import Composer, without_hydra
from hydra_plugins.optuna_study._errors import ForeignPointError, SweepError, first_line
from hydra_plugins.optuna_study._functions import load_function
from hydra_plugins.optuna_study._spec.settings import Settings
from hydra_plugins.optuna_study._spec.space import SearchSpace
from hydra_plugins.optuna_study.attributes import DEFAULT, POINT

log = logging.getLogger(__name__)

# Called with the config of a job and the trial, as in Hydra's own Optuna plugin. It suggests values
# that depend on those drawn before.
CustomSearchSpace = Callable[[DictConfig, optuna.trial.BaseTrial], None]


def load_custom(settings: Settings) -> CustomSearchSpace:
    """Load the function, which raises SweepError if it fails; without one it does nothing.

    Raises:
        SweepError: there is no such function.

    """
    name, key = settings.custom_search_space, settings.keys["custom_search_space"]
    if name is None:
        return lambda *_: None
    function = load_function(name, key=key)

    def suggest(config: DictConfig, trial: optuna.trial.BaseTrial) -> None:
        try:
            function(config, trial)
        except ForeignPointError:
            raise
        except Exception as error:
            raise SweepError(f"{key}={name} failed ({first_line(error)})") from error

    return suggest


def compose_default(
    composer: Composer, space: SearchSpace, settings: Settings, *more: str
) -> DictConfig:
    """Compose the config of a job without the search.

    A group that the config leaves open has no default: it gets the first of its choices.
    """
    opened = [p.override(p.first()) for p in space.parameters if composer.is_open(p.name)]
    return composer.compose([*space.fixed, *opened, *more, *settings.job_overrides])


def first_points(
    settings: Settings,
    space: SearchSpace,
    composer: Composer,
    custom: CustomSearchSpace,
) -> list[tuple[str, dict[str, Any]]]:
    """List the points to try first, as (origin, point): the default config, then ``enqueue``.

    If the default is not in the search space, it is left out, and logged.

    Raises:
        SweepError: a point of ``enqueue`` is not in the search space.

    """
    config = compose_default(composer, space, settings)
    points: list[tuple[str, dict[str, Any]]] = []
    if settings.try_default:
        try:
            points.append((DEFAULT, _default_point(config, space, composer, custom)))
        except SweepError as error:
            log.info("the default config is not tried: %s", error)
    for given in settings.enqueue:
        try:
            points.append((POINT, space.point(given)))
        except SweepError as error:
            raise SweepError(f"{settings.keys['enqueue']}: {error}") from None
    return points


def _default_point(
    config: DictConfig,
    space: SearchSpace,
    composer: Composer,
    custom: CustomSearchSpace,
) -> dict[str, Any]:
    choices = config.hydra.runtime.choices
    values = {}
    for parameter in space.parameters:
        if composer.is_open(parameter.name):
            raise SweepError(f"the config leaves {parameter.name} open")
        if composer.is_group(parameter.name):
            value = choices.get(parameter.name)
        else:
            node = OmegaConf.select(config, parameter.name)
            value = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
        values[parameter.name] = parameter.find(value)
    drawn = find_point(_Defaults(config, values), space, custom, without_hydra(config))
    return {**values, **drawn}


def find_point(
    values: Mapping[str, Any], space: SearchSpace, custom: CustomSearchSpace, config: DictConfig
) -> dict[str, Any]:
    """Find among values those of a point: what is searched, and what the function suggests.

    Args:
        values: by key.
        space, custom: that are searched.
        config: of a job, for the function.

    Raises:
        SweepError: a value is missing, or is not in its distribution.

    """
    trial = optuna.trial.FixedTrial(values)  # type: ignore[arg-type] # a mapping, of which FixedTrial reads single keys
    with warnings.catch_warnings():
        # A value out of range is an error below, as for every other parameter.
        warnings.simplefilter("ignore", UserWarning)
        try:
            for parameter in space.parameters:
                trial._suggest(parameter.name, parameter.distribution)  # noqa: SLF001 - for the function they are drawn already
        except (ValueError, TypeError) as error:
            raise SweepError(f"{parameter.key}: {first_line(error)}") from error
        custom(config, trial)
    for name, distribution in trial.distributions.items():
        if not distribution._contains(distribution.to_internal_repr(trial.params[name])):  # noqa: SLF001 - Optuna has no public way to ask
            raise SweepError(f"{name}={trial.params[name]} is not in {distribution}")
    return trial.params


class _Defaults(Mapping[str, Any]):
    """The values of the default config, by key."""

    def __init__(self, config: DictConfig, values: Mapping[str, Any]) -> None:
        self._config = config
        self._values = values

    def __getitem__(self, key: str) -> Any:
        if key in self._values:
            return self._values[key]
        value = OmegaConf.select(self._config, key)
        if value is None:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
