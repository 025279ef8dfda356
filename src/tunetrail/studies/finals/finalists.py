"""The finals of a study: its best points, trained again on fresh seeds, and which of them won."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from hydra_plugins.optuna_study import attributes
from tunetrail.studies.states import find_default, is_feasible
from tunetrail.studies.trial import rank


@dataclass(frozen=True)
class Finalist:
    """A point of the search and what its fresh seeds gave, by the first objective."""

    number: int  # of its trial in the study
    final: int  # of its trial in the finals
    searched: float
    scores: tuple[float, ...]
    params: Mapping[str, Any]
    is_default: bool
    meets_constraints: bool

    @property
    def name(self) -> str:
        """How a report calls it."""
        return f"the default config (trial {self.number})" if self.is_default else self.title

    @property
    def title(self) -> str:
        return f"trial {self.number}"

    @property
    def mean(self) -> float:
        return fmean(self.scores)

    @property
    def std(self) -> float | None:
        """Sample standard deviation over seeds; None where there is one seed."""
        return stdev(self.scores) if len(self.scores) > 1 else None


@dataclass(frozen=True)
class Field:
    """All finalists that completed, best mean first, those that break a constraint last."""

    objective: str
    maximize: bool
    finalists: tuple[Finalist, ...]

    @property
    def winner(self) -> Finalist | None:
        """The best of those that keep the constraints on fresh seeds too."""
        best = self.finalists[0] if self.finalists else None
        return best if best is not None and best.meets_constraints else None

    @property
    def default(self) -> Finalist | None:
        return next((one for one in self.finalists if one.is_default), None)

    def optimism(self, finalist: Finalist) -> float:
        """Return how much better the search made a point look than fresh seeds do."""
        surplus = finalist.searched - finalist.mean
        return surplus if self.maximize else -surplus


def collect_field(
    study: optuna.Study, finals: optuna.Study, finalists: Mapping[int, int], *, objective: str
) -> Field:
    """Collect how the present finalists did.

    Args:
        finalists: number of a trial of the study -> number of its trial in the finals.
        objective: name of the first objective.

    """
    trials = study.get_trials(deepcopy=False)
    default = _origin(find_default(trials))
    searched = {final: number for number, final in finalists.items()}
    found = [
        _describe(trials[searched[final.number]], final, default=default)
        for final in rank(finals)
        if final.number in searched
    ]
    return Field(
        objective=objective,
        maximize=study.directions[0] is StudyDirection.MAXIMIZE,
        finalists=tuple(found),
    )


def _origin(trial: FrozenTrial | None) -> int | None:
    """Return the number of the trial that ran: a reused one stands for its source."""
    return (
        None if trial is None else int(trial.user_attrs.get(attributes.REUSED_FROM, trial.number))
    )


def _describe(trial: FrozenTrial, final: FrozenTrial, *, default: int | None) -> Finalist:
    repeats = final.user_attrs.get(attributes.REPEATS) or [final.values]
    return Finalist(
        number=trial.number,
        final=final.number,
        searched=trial.values[0],
        scores=tuple(float(values[0]) for values in repeats),
        params=dict(trial.params),
        is_default=default is not None and _origin(trial) == default,
        meets_constraints=is_feasible(final),
    )
