"""How the trials of a study ended, in the words that people and figures use."""

from collections.abc import Iterable

from optuna.trial import FrozenTrial, Trial, TrialState

from hydra_plugins.optuna_study import attributes

# The order in which they are counted and drawn.
STATES = ("complete", "reused", "pruned", "infeasible", "failed", "interrupted")


def state_of(trial: FrozenTrial) -> str:
    """Name the state of a trial; ``infeasible`` is a trial that did not fit into memory."""
    kind = trial.user_attrs.get(attributes.FAILURE_KIND)
    if trial.state is TrialState.FAIL:
        return "interrupted" if kind == attributes.INTERRUPTED else "failed"
    if trial.state is TrialState.PRUNED and kind == attributes.OUT_OF_MEMORY:
        return "infeasible"
    if trial.state.is_finished() and attributes.REUSED_FROM in trial.user_attrs:
        return "reused"
    return trial.state.name.lower()


def number_of(trial: FrozenTrial | Trial) -> int:
    """Return the number that people see: that of the search, in finals, too."""
    return int(trial.user_attrs.get(attributes.FINALIST_OF, trial.number))


def reference_of(trial: FrozenTrial | Trial) -> str | None:
    """Name the config that a trial runs whatever the search says; None: a point of the search."""
    attrs = trial.user_attrs
    is_default = attrs.get(attributes.ENQUEUED) == attributes.DEFAULT
    return attrs.get(attributes.REFERENCE, attributes.DEFAULT if is_default else None)


def seconds_of(trial: FrozenTrial) -> float | None:
    if trial.duration is None or attributes.ABANDONED in trial.user_attrs:
        return None
    return trial.duration.total_seconds()


def find_default(trials: Iterable[FrozenTrial]) -> FrozenTrial | None:
    """Find the trial of the default config; of several the last one that completed.

    Files may give a searched key another default from one call to the next. If none completed,
    return the last attempt.
    """
    numbers: set[int] = set()
    tried: list[FrozenTrial] = []
    for trial in trials:
        attrs = trial.user_attrs
        if (
            attrs.get(attributes.ENQUEUED) == attributes.DEFAULT
            or attrs.get(attributes.RETRY_OF) in numbers
        ):
            numbers.add(trial.number)
            tried.append(trial)
    last = tried[-1] if tried else None
    return next((t for t in reversed(tried) if t.state is TrialState.COMPLETE), last)
