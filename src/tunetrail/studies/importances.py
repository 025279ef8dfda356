"""Which parameter moved an objective, where there are enough trials to tell."""

import optuna
from optuna.trial import TrialState

from tunetrail.studies.states import state_of

# Fewer complete trials for each parameter say more about chance than about the parameters.
_TRIALS_PER_PARAM = 4


def find_importances(study: optuna.Study, index: int) -> dict[str, float]:
    """Estimate the share of each parameter in the variance of an objective, largest first.

    Nothing where it makes no sense: too few trials, one parameter, or values that are all equal.
    """
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    own = [trial for trial in trials if state_of(trial) == "complete"]
    names = {name for trial in own for name in trial.params}
    values = {trial.values[index] for trial in own}
    if len(names) < 2 or len(values) < 2 or len(own) < _TRIALS_PER_PARAM * len(names):
        return {}
    try:
        found = optuna.importance.get_param_importances(
            study,
            evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
            target=lambda trial: trial.values[index],
        )
    except (ValueError, RuntimeError):  # no parameter is common to all trials
        return {}
    return dict(found) if len(found) > 1 else {}
