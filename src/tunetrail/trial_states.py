"""How the trials of a study ended, in the words that people and figures use."""

from optuna.trial import FrozenTrial, TrialState

# The order in which they are counted and drawn.
STATES = ("complete", "reused", "pruned", "infeasible", "failed", "interrupted")


def state_of(trial: FrozenTrial) -> str:
    """Name how a trial ended; ``infeasible`` is what did not fit into memory."""
    kind = trial.user_attrs.get("failure_kind")
    if trial.state is TrialState.FAIL:
        return "interrupted" if kind == "interrupted" else "failed"
    if trial.state is TrialState.PRUNED and kind == "out of memory":
        return "infeasible"
    if trial.state.is_finished() and "reused_from" in trial.user_attrs:
        return "reused"
    return trial.state.name.lower()


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether a trial meets every constraint."""
    return all(value <= 0 for value in trial.constraints.values())


def seconds_of(trial: FrozenTrial) -> float | None:
    return None if trial.duration is None else trial.duration.total_seconds()
