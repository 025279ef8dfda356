"""What a sweep is asked to do, checked before there is a study."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.trial import FrozenTrial

from hydra_plugins.optuna_study._configs import Composer, plain, without_hydra
from hydra_plugins.optuna_study._errors import SweepError, first_line, message_line
from hydra_plugins.optuna_study._spec.plan import Plan, build_plan, load_objectives
from hydra_plugins.optuna_study._spec.points import (
    CustomSearchSpace,
    compose_default,
    find_point,
    first_points,
    load_custom,
)
from hydra_plugins.optuna_study._spec.references import Reference, build_references
from hydra_plugins.optuna_study._spec.settings import Settings, read_settings
from hydra_plugins.optuna_study._spec.space import SearchSpace, build_search_space
from hydra_plugins.optuna_study.attributes import REFERENCE
from hydra_plugins.optuna_study.callbacks import StudyCallback

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepSpec:
    """What a sweep is asked to do, checked."""

    settings: Settings
    space: SearchSpace
    composer: Composer
    # What was typed for Hydra and for the app that a single run needs too.
    run_overrides: tuple[str, ...]
    # Of a job at one point, without Hydra's node.
    job_config: DictConfig
    custom: CustomSearchSpace
    plan: Plan
    points: list[tuple[str, dict[str, Any]]]
    references: tuple[Reference, ...]
    callbacks: dict[str, StudyCallback]
    # Of the first job of a trial; those of the others are counted up from it.
    first_seed: int

    @property
    def objectives(self) -> dict[str, str]:
        """Name to direction, in the order in which a job returns its values."""
        return self.plan.objectives

    def find_reference(self, trial: FrozenTrial) -> Reference | None:
        """Find the reference that a trial runs, as the config has it now."""
        return next((one for one in self.references if one.is_of(trial)), None)

    def write_overrides(self, trial: FrozenTrial) -> list[str]:
        """Write what a trial in the storage holds as overrides: somebody may paste them.

        Raises:
            SweepError: it is neither a point of the search space nor a reference.

        """
        values = trial.params
        if REFERENCE in trial.user_attrs:
            if (found := self.find_reference(trial)) is None:
                raise SweepError("the config has no such reference now")
            return list(found.overrides)
        point = find_point(values, self.space, self.custom, self.job_config)
        if unknown := [name for name in values if name not in point]:
            raise SweepError(f"{unknown[0]} is not searched")
        return self.space.overrides(point)


def check_spec(
    values: Mapping[str, Any],
    arguments: Sequence[str],
    config: DictConfig,
    config_loader: ConfigLoader,
) -> SweepSpec:
    """Check all that can be checked before there is a study.

    Args:
        values: the node ``hydra.sweeper``, resolved.
        arguments: overrides as typed.
        config: the whole config of the sweep.
        config_loader: composes configs and lists the options of groups.

    Raises:
        HydraException: in one line for a setting of the sweeper, in Hydra's words for a wrong key.

    """
    settings = read_settings(values, config)
    custom = load_custom(settings)
    space = build_search_space(
        settings.params,
        arguments,
        config_loader=config_loader,
        may_be_empty=settings.custom_search_space is not None,
        params_key=settings.keys["params"],
    )
    composer = Composer(config_loader, config)
    job_config = without_hydra(
        composer.compose([*space.fixed, *space.sample(), *settings.job_overrides])
    )
    callbacks = build_callbacks(settings.callbacks)
    default_config = without_hydra(_compose_default(composer, space, settings))
    names = [parameter.name for parameter in space.parameters]
    _call_before_study(callbacks, default_config, names)
    if settings.custom_search_space is None and callbacks:
        _require_usable(composer, space, settings, callbacks)
    objectives = load_objectives(settings, default_config)
    references = build_references(settings, space, composer, default_config)
    for reference, its_config in references:
        try:
            _call_before_study(callbacks, its_config, [])
        except SweepError as error:
            raise SweepError(f"{settings.keys['references']}.{reference.name}: {error}") from error
    plan = build_plan(job_config, settings, space, objectives)
    _require_fresh_seeds(settings, names, plan)
    return SweepSpec(
        settings=settings,
        space=space,
        run_overrides=tuple(
            text
            for text in [*plain(config.hydra.overrides.hydra), *space.fixed]
            if not settings.is_of_study(text)
        ),
        composer=composer,
        job_config=job_config,
        custom=custom,
        plan=plan,
        points=first_points(settings, space, composer, custom),
        references=tuple(reference for reference, _ in references),
        callbacks=callbacks,
        first_seed=_read_seed(job_config, settings),
    )


def _compose_default(
    composer: Composer, space: SearchSpace, settings: Settings, *more: str
) -> DictConfig:
    """Compose the config of a job with each searched key at its default, where it has one.

    Args:
        more: overrides of searched keys.

    """
    config = compose_default(composer, space, settings, *more)
    missing = [
        parameter.override(parameter.first())
        for parameter in space.parameters
        if not composer.is_group(parameter.name)
        and OmegaConf.select(config, parameter.name) is None
    ]
    return compose_default(composer, space, settings, *missing, *more)


def _require_usable(
    composer: Composer,
    space: SearchSpace,
    settings: Settings,
    callbacks: Mapping[str, StudyCallback],
) -> None:
    """Refuse a searched value with which no job could run; its trials would all fail.

    A value that the defaults of the other keys do not suit is tried with each other value of each.

    Raises:
        SweepError: in the words of Hydra or of the callback.

    """
    names = [parameter.name for parameter in space.parameters]

    def find_fault(*overrides: str) -> Exception | None:
        try:
            config = without_hydra(_compose_default(composer, space, settings, *overrides))
            _call_before_study(callbacks, config, names)
        except (HydraException, OmegaConfBaseException) as error:
            return error
        return None

    for parameter in space.parameters:
        others = [
            other.override(value)
            for other in space.parameters
            if other is not parameter
            for value in other.extremes()
        ]
        for value in parameter.extremes():
            override = parameter.override(value)
            fault = find_fault(override)
            if fault is not None and all(find_fault(override, other) for other in others):
                raise SweepError(
                    f"{parameter.key}={parameter.expression}: no trial can have {override} "
                    f"({message_line(fault)})"
                ) from fault


def _require_fresh_seeds(settings: Settings, searched: Sequence[str], plan: Plan) -> None:
    # As written: a seed that refers to another key varies with it.
    written = plan.fixed_config.get(settings.seed_key, "").removeprefix("${").removesuffix("}")
    if settings.final_seeds and {settings.seed_key, written} & {*searched}:
        raise SweepError(
            f"{settings.seed_key} is searched, so there is no fresh seed for finals; set "
            f"{settings.keys['final_seeds']}=0"
        )


def _read_seed(job_config: DictConfig, settings: Settings) -> int:
    seed = OmegaConf.select(job_config, settings.seed_key)
    if isinstance(seed, int) and not isinstance(seed, bool):
        return seed
    wanted = {"num_seeds": settings.num_seeds > 1, "final_seeds": settings.final_seeds > 0}
    for name in (name for name, is_wanted in wanted.items() if is_wanted):
        raise SweepError(
            f"{settings.seed_key}={seed!r}: {settings.keys[name]}={getattr(settings, name)} needs "
            "a whole number there, to count up from"
        )
    return 0  # is not used


def build_callbacks(nodes: Mapping[str, Any]) -> dict[str, StudyCallback]:
    """Build the callbacks of the app.

    Raises:
        SweepError: one cannot be built.

    """
    callbacks = {}
    for name, node in nodes.items():
        try:
            callbacks[name] = instantiate(node)
        except Exception as error:
            cause = error.__cause__ or error
            raise SweepError(
                f"hydra.sweeper.callbacks.{name}: it cannot be built ({first_line(cause)})"
            ) from error
    return callbacks


def _call_before_study(
    callbacks: Mapping[str, StudyCallback], job_config: DictConfig, searched: Sequence[str]
) -> None:
    """Let the callbacks refuse a config before there is a study.

    Raises:
        SweepError: in the words of the callback.

    """
    for name, callback in callbacks.items():
        try:
            callback.before_study(job_config, searched)
        except Exception as error:
            log.debug("traceback of callbacks.%s", name, exc_info=True)
            raise SweepError(message_line(error)) from error
