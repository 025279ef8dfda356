"""Open a study, or go on with one that is the same."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from hydra.utils import instantiate
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from hydra_plugins.optuna_study._errors import SweepError, first_line
from hydra_plugins.optuna_study._settings import Settings
from hydra_plugins.optuna_study._space import SearchSpace


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna from announcing what is no news here.

    Its info lines repeat the sweeper's own, and its ExperimentalWarning says that the interface of
    a class (PatientPruner, QMCSampler, WilcoxonPruner) or of Study.set_metric_names may change,
    which is for whoever raises the pinned version to see to.
    """
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(verbosity, optuna.logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def build_pruner(settings: Settings) -> BasePruner:
    """Make the pruner, which some samplers consult; jobs make their own.

    Optuna prunes by one objective only: with several, no pruner has a say.

    Raises:
        SweepError: no pruner can be built from the config.

    """
    key = settings.keys["pruner"]
    try:
        pruner = instantiate(settings.pruner)
    except Exception as error:
        cause = error.__cause__ or error
        raise SweepError(f"{key}: no pruner can be built from it ({first_line(cause)})") from error
    if not isinstance(pruner, BasePruner):
        raise SweepError(
            f"{key}._target_: {type(pruner).__name__} is no pruner; give a class of optuna.pruners"
        )
    return pruner if len(settings.objectives) == 1 else NopPruner()


def open_study(
    storage: BaseStorage, settings: Settings, space: SearchSpace, sampler: BaseSampler
) -> optuna.Study:
    """Create the study, or load it if it asks the same question.

    Raises:
        SweepError: the study in the storage has other objectives, another search space or other
            fixed overrides, so that old and new trials could not be compared.

    """
    study = optuna.create_study(
        study_name=settings.study_name,
        storage=storage,
        sampler=sampler,
        pruner=build_pruner(settings),
        directions=[StudyDirection[name.upper()] for name in settings.objectives.values()],
        load_if_exists=True,
    )
    asked = {
        "objectives": settings.objectives,
        "search_space": {parameter.name: parameter.expression for parameter in space.parameters},
        "fixed_overrides": _comparable(space.fixed, settings),
    }
    known = study.user_attrs
    if "objectives" not in known:
        directions = [direction.name.lower() for direction in study.directions]
        if directions != list(settings.objectives.values()):
            raise _changed(settings, "objectives", directions, list(settings.objectives.values()))
        for name, value in asked.items():
            study.set_user_attr(name, value)
        study.set_metric_names(list(settings.objectives))
        return study
    # As lists: the order of objectives is the order of values.
    if list(known["objectives"].items()) != list(settings.objectives.items()):
        raise _changed(settings, "objectives", known["objectives"], settings.objectives)
    for name in ("search_space", "fixed_overrides"):
        if changes := _diff(known[name], asked[name]):
            raise SweepError(
                f"study {settings.study_name} was started with another {name.replace('_', ' ')}: "
                f"{'; '.join(changes)}. Its trials could not be compared: set "
                f"{settings.keys['study_name']} to a new name, or take the changes back"
                + _changeable_hint(name)
            )
    return study


def _comparable(fixed: Sequence[str], settings: Settings) -> dict[str, str]:
    """Map fixed overrides by key, without those that say how to search rather than what."""
    kept = (text.partition("=") for text in fixed if not settings.is_changeable(text))
    return {key: value for key, _, value in kept}


def _diff(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [
        f"{key} was {old.get(key, 'not given')}, is {new.get(key, 'not given')}" for key in changed
    ]


def _changed(settings: Settings, what: str, old: Any, new: Any) -> SweepError:
    return SweepError(
        f"study {settings.study_name} was started with other {what}: they were {old}, are {new}; "
        f"set {settings.keys['study_name']} to a new name, or take the change back"
    )


def _changeable_hint(name: str) -> str:
    if name != "fixed_overrides":
        return ""
    return ", or list keys that make no difference in hydra.sweeper.changeable"
