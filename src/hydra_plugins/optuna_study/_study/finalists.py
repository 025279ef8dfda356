"""Which points of a study are trained again in its finals."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study._spec.references import Reference, identify
from hydra_plugins.optuna_study._study.ledger import rank
from hydra_plugins.optuna_study.attributes import (
    CARRIED,
    DEFAULT,
    ENQUEUED,
    OVERRIDES,
    PLAN_SINCE,
    REFERENCE,
    REPEATS,
    REUSED_FROM,
)

Point = tuple[str, ...]


@dataclass(frozen=True)
class FinalPoint:
    """A point of the search and what has come of it in the finals."""

    # Its trial in the search.
    trial: FrozenTrial
    is_default: bool
    # Its trial in the finals: the complete one, else the last one; None before there is one.
    final: FrozenTrial | None

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def reference(self) -> str | None:
        """The name of the reference that it is; None for a point of the search."""
        return self.trial.user_attrs.get(REFERENCE)

    @property
    def carried(self) -> list[list[float]]:
        """The values of its jobs in the search, if those count beside the ones on fresh seeds.

        The default config and the references are in the finals whatever the search says, so the
        luck of being chosen is not in them. A default that stands for a trial of the search may
        have become the default because of its score.
        """
        is_default = self.is_default and self.trial.user_attrs.get(ENQUEUED) == DEFAULT
        if self.reference is None and not is_default:
            return []
        return list(self.trial.user_attrs.get(REPEATS, [self.trial.values]))

    @property
    def was_searched(self) -> bool:
        """Whether the search has found it."""
        return not self.is_default and self.reference is None

    @property
    def complete(self) -> FrozenTrial | None:
        """Its trial in the finals, if that is complete."""
        done = self.final is not None and self.final.state is TrialState.COMPLETE
        return self.final if done else None


def choose_finalists(
    study: optuna.Study,
    finals: Sequence[FrozenTrial] = (),
    *,
    num_finalists: int,
    references: Sequence[Reference] = (),
    with_earlier: bool = False,
) -> list[FinalPoint]:
    """List the best points, each once, then earlier finalists, the default config, references.

    Best by the first objective, among the complete trials that meet every constraint and ran under
    the present config, the default left out: it takes part anyway, and what the search has found is
    compared with it. So do the references, whatever they scored. A reused trial stands for the
    trial it was reused from.

    Args:
        study: that was searched.
        finals: the trials of its finals.
        num_finalists: how many of the best points beside the default.
        references: those of the present config.
        with_earlier: whether points with a result in the finals stay in the comparison, on the
            same seeds as the others, even if the search has found better ones since.

    Returns:
        An empty list if no complete point meets every constraint.

    """
    trials = study.get_trials(deepcopy=False)
    since = study.user_attrs.get(PLAN_SINCE, 0)
    complete_now = _sources(rank(study, trials[since:]), trials)
    ranked = _distinct(trial for trial in complete_now if not identify(trial))
    if not ranked:
        return []
    defaults = [
        trial
        for trial in trials[since:]
        if trial.state is TrialState.COMPLETE and trial.user_attrs.get(ENQUEUED) == DEFAULT
    ]
    # The last one: files may give a searched key another default from one call to the next.
    default = _sources(defaults[-1:], trials)
    default_points = {_point_of(trial) for trial in default}
    best = [trial for trial in ranked if _point_of(trial) not in default_points][:num_finalists]
    done = [trial for trial in trials[since:] if trial.state is TrialState.COMPLETE]
    beside = _sources([t for one in references for t in done if one.is_of(t)], trials)
    complete = [trial for trial in finals if trial.state is TrialState.COMPLETE]
    earlier = {_point_of(trial) for trial in complete if with_earlier} - default_points
    again = [trial for trial in ranked if _point_of(trial) in earlier]
    attempts = [*complete, *reversed(finals)]
    points = []
    for trial in _distinct([*best, *again, *default, *beside]):
        is_default = _point_of(trial) in default_points
        # What was the default before, and is now one of the best, needs fresh seeds.
        may_carry = is_default or identify(trial)
        own = [t for t in attempts if may_carry or CARRIED not in t.user_attrs]
        points.append(FinalPoint(trial, is_default, _find_final(trial, own)))
    return points


def _point_of(trial: FrozenTrial) -> Point:
    """Return the point of a trial that was drawn in full, as the overrides of its jobs."""
    return (*identify(trial), *trial.user_attrs[OVERRIDES])


def _find_final(trial: FrozenTrial, finals: Iterable[FrozenTrial]) -> FrozenTrial | None:
    """Find the first trial of the finals that was given the point of a trial."""
    wanted = identify(trial), trial.params
    own = (t for t in finals if (identify(t), t.system_attrs.get("fixed_params")) == wanted)
    return next(own, None)


def _sources(trials: Iterable[FrozenTrial], all_trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    found = [all_trials[trial.user_attrs.get(REUSED_FROM, trial.number)] for trial in trials]
    # Without trials that a person has added to the study by hand.
    return [trial for trial in found if OVERRIDES in trial.user_attrs]


def _distinct(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Take the first trial of each point: two workers may have run one at the same time."""
    found: dict[Point, FrozenTrial] = {}
    for trial in trials:
        found.setdefault(_point_of(trial), trial)
    return list(found.values())
