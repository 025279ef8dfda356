"""Draw the point of a trial. What the storage holds of it counts only inside the search space.

Whoever can write to the storage can queue a trial, with any key and any value. So the overrides of
a job are written from what this process has asked for and found, never from what stands in the
storage.
"""

from collections.abc import Callable
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import Trial

from hydra_plugins.optuna_study._errors import ForeignPointError, first_line
from hydra_plugins.optuna_study._spec.sweep_spec import SweepSpec


def draw_point(trial: Trial, spec: SweepSpec) -> dict[str, Any]:
    """Draw all parameters that are searched, those of the function last.

    Args:
        trial: as ``study.ask()`` returns it, without parameters.
        spec: of the sweep.

    Raises:
        ForeignPointError: the trial was queued with another key, or with a value out of range.

    """
    given, before = trial._fixed_params, trial.params  # noqa: SLF001 - Optuna has no public name for what was queued
    if not isinstance(given, dict):
        raise ForeignPointError(f"{given!r} is no point")
    values: dict[str, Any] = {}
    suggest: Callable[[str, BaseDistribution], Any] = trial._suggest  # noqa: SLF001 - what all of a trial's methods go through

    def watch(name: str, distribution: BaseDistribution) -> Any:
        try:
            value = suggest(name, distribution)
            is_inside = distribution._contains(distribution.to_internal_repr(value))  # noqa: SLF001 - Optuna has no public way to ask
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if name not in given and name not in before:
                raise
            raise ForeignPointError(f"{name}: {first_line(error)}") from error
        if not is_inside:
            raise ForeignPointError(f"{name}={value!r} is not in {distribution}")
        values[name] = value
        return value

    trial._suggest = watch  # type: ignore[method-assign] # noqa: SLF001 - as above
    for parameter in spec.space.parameters:
        watch(parameter.name, parameter.distribution)
    spec.custom(spec.job_config, trial)
    if unknown := [name for name in {**given, **before} if name not in values]:
        raise ForeignPointError(f"{unknown[0]} is not searched")
    return values
