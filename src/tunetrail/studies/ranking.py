"""Which trial is better: the one place that reads a study's directions and its constraints."""

from collections.abc import Mapping
from datetime import datetime

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study import attributes


def greater_is_better(study: optuna.Study, index: int = 0) -> bool:
    """Return the direction of an objective."""
    return study.directions[index] is StudyDirection.MAXIMIZE


def to_cost(study: optuna.Study, value: float, index: int = 0) -> float:
    """Turn a value of an objective into a cost, of which less is better."""
    return -value if greater_is_better(study, index) else value


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether a trial meets every constraint."""
    return not list_violations(trial)


def list_violations(trial: FrozenTrial) -> dict[str, float]:
    """List the constraints that a trial violates, and by how much."""
    return {name: value for name, value in trial.constraints.items() if value > 0}


def total_violation(constraints: Mapping[str, float]) -> float:
    """Sum up by how much the constraints are violated; 0 if all are met."""
    return sum(max(0.0, value) for value in constraints.values())


def rank(study: optuna.Study) -> list[FrozenTrial]:
    """Order the complete trials, best first by the first objective.

    Trials that violate a constraint come last, the least violation first. Of equal trials the one
    that finished first is better, because it alone has saved its weights. Trials that reuse the
    values of an earlier one are left out.
    """

    def order(trial: FrozenTrial) -> tuple[float, float, datetime, int]:
        assert trial.datetime_complete is not None
        return (*_score(study, trial), trial.datetime_complete, trial.number)

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(
        (t for t in complete if t.user_attrs.get(attributes.REUSED_FROM) is None), key=order
    )


def count_better(study: optuna.Study, value: float, *, violation: float) -> int:
    """Count the complete trials that rank before a trial which completes now."""
    return sum(_score(study, trial) <= (violation, to_cost(study, value)) for trial in rank(study))


def find_best(study: optuna.Study) -> FrozenTrial | None:
    """Find the best trial by the first objective among those that meet the constraints."""
    ranked = rank(study)
    return ranked[0] if ranked and is_feasible(ranked[0]) else None


def rank_front(study: optuna.Study) -> list[FrozenTrial]:
    """Order the trials of the Pareto front, best first by the first objective, then the next."""

    def order(trial: FrozenTrial) -> tuple[list[float], int]:
        costs = [to_cost(study, value, index) for index, value in enumerate(trial.values)]
        return costs, trial.number

    return sorted(study.best_trials, key=order)


def _score(study: optuna.Study, trial: FrozenTrial) -> tuple[float, float]:
    return total_violation(trial.constraints), to_cost(study, trial.values[0])
