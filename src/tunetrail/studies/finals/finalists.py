"""The finalists of a study, trained again: its best points, the default config, references."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from hydra_plugins.optuna_study import attributes
from tunetrail.studies.ranking import greater_is_better, list_violations, rank, to_cost
from tunetrail.studies.states import find_default


@dataclass(frozen=True)
class Finalist:
    """A point of the search with the first objective of its seeds in the finals.

    They are fresh. The default config and references are in the finals whatever the search says,
    so that there is no luck in their runs in the search: the first ``carried`` scores are those.
    ``others`` are the means of the other objectives over the same runs.
    """

    number: int  # of its trial in the study
    final: int  # of its trial in the finals
    searched: float
    optimism: float  # how much better it looked in the search than on fresh seeds
    scores: tuple[float, ...]
    params: Mapping[str, Any]
    is_default: bool
    # Name of each constraint that it violates on fresh seeds -> by how much.
    violations: Mapping[str, float] = field(default_factory=dict)
    reference: str | None = None  # its name, if it is no point of the search
    carried: int = 0
    others: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """The name in a report."""
        if self.reference is not None:
            return f"{attributes.name_reference(self.reference)} ({self.title})"
        return f"the default config ({self.title})" if self.is_default else self.title

    @property
    def meets_constraints(self) -> bool:
        return not self.violations

    @property
    def was_searched(self) -> bool:
        """Whether it is a point that the search has found."""
        return not self.is_default and self.reference is None

    @property
    def title(self) -> str:
        return f"trial {self.number}"

    @property
    def mean(self) -> float:
        return fmean(self.scores)

    @property
    def std(self) -> float | None:
        """Sample standard deviation over seeds; None for one seed."""
        return stdev(self.scores) if len(self.scores) > 1 else None


@dataclass(frozen=True)
class FinalsResult:
    """All finalists that completed, best mean first.

    Those that violate a constraint are last, the nearest to the constraints first.
    ``greater_is_better`` is the direction of the first objective, which ranks them.
    """

    objectives: tuple[str, ...]
    greater_is_better: bool
    finalists: tuple[Finalist, ...]

    @property
    def objective(self) -> str:
        return self.objectives[0]

    @property
    def winner(self) -> Finalist | None:
        """The best finalist, if it meets the constraints on fresh seeds too."""
        best = self.finalists[0] if self.finalists else None
        return best if best is not None and best.meets_constraints else None

    @property
    def default(self) -> Finalist | None:
        return next((one for one in self.finalists if one.is_default), None)

    @property
    def references(self) -> tuple[Finalist, ...]:
        """The configs that were run beside the search, best first."""
        return tuple(one for one in self.finalists if one.reference is not None)


def collect_result(
    study: optuna.Study,
    finals: optuna.Study,
    finalists: Mapping[int, int],
    *,
    objectives: tuple[str, ...],
) -> FinalsResult:
    """Collect the values of the present finalists.

    Args:
        finalists: number of a trial of the study -> number of its trial in the finals.
        objectives: names of the study's values, in order.

    """
    trials = study.get_trials(deepcopy=False)
    default = _origin(find_default(trials))
    searched = {final: number for number, final in finalists.items()}
    found = [
        _build_finalist(study, trials[searched[final.number]], final, default=default)
        for final in rank(finals)
        if final.number in searched
    ]
    return FinalsResult(
        objectives=objectives,
        greater_is_better=greater_is_better(study),
        finalists=tuple(found),
    )


def _origin(trial: FrozenTrial | None) -> int | None:
    """Return the number of the trial that ran: its source for a reused trial."""
    return (
        None if trial is None else int(trial.user_attrs.get(attributes.REUSED_FROM, trial.number))
    )


def _build_finalist(
    study: optuna.Study, trial: FrozenTrial, final: FrozenTrial, *, default: int | None
) -> Finalist:
    repeats = final.user_attrs.get(attributes.REPEATS) or [final.values]
    scores = tuple(float(values[0]) for values in repeats)
    searched = trial.values[0]
    return Finalist(
        number=trial.number,
        final=final.number,
        searched=searched,
        optimism=to_cost(study, fmean(scores)) - to_cost(study, searched),
        scores=scores,
        params=dict(attributes.params_of(trial)),
        is_default=default is not None and _origin(trial) == default,
        reference=trial.user_attrs.get(attributes.REFERENCE),
        carried=len(final.user_attrs.get(attributes.CARRIED, ())),
        others=tuple(final.values[1:]),
        violations=list_violations(final),
    )
