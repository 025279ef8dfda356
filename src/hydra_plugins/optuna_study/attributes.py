"""Every name of a user attribute on a study or a trial, those that the app writes included."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

# On a study: what it asks. Objective to direction, parameter to distribution, every other key of a
# job's config to its text, and the plain overrides that were typed.
OBJECTIVES = "objectives"
SEARCH_SPACE = "search_space"
FIXED_CONFIG = "fixed_config"
FIXED_OVERRIDES = "fixed_overrides"
# On a study: number of the first trial under the present config. An equal point of an earlier trial
# had another config.
PLAN_SINCE = "plan_since"
# On a study: that somebody asked for its end. An id, and whether trials that run are interrupted.
STOP = "stop"
# On a study of finals: the name of the study whose best points it trains again, and the seeds of
# the jobs of each trial (of one with carried values the last ones).
FINAL_OF = "final_of"
SEEDS = "seeds"

# On a trial: the worker that took it.
WORKER = "worker"
# On a trial whose point was drawn in full: the overrides of its job.
OVERRIDES = "overrides"
# On a trial that someone asked for: where its point came from.
ENQUEUED = "enqueued"
DEFAULT = "default"
POINT = "point"
# On a trial that runs a reference, which is no point of the search: its name, and what its config
# has at the keys that it sets and at those that are searched.
REFERENCE = "reference"
REFERENCE_VALUES = "reference_values"
# On a trial that runs an interrupted point again: the number of the trial that was interrupted.
RETRY_OF = "retry_of"
# On a trial that was closed after its process had gone: its times may be of two clocks.
ABANDONED = "abandoned"
# On a trial whose point was finished before: the number of that trial.
REUSED_FROM = "reused_from"
# On a trial of finals: the number of the trial of the search that it trains again.
FINALIST_OF = "finalist_of"
# On a trial of finals: the values of its jobs in the search, which count as its first ones.
CARRIED = "carried"
# On a failed trial, and on one that did not fit into memory. Two of the kinds have a name here.
FAILURE = "failure"
FAILURE_KIND = "failure_kind"
INTERRUPTED = "interrupted"
OUT_OF_MEMORY = "out of memory"
# On a trial of several seeds: the values of each job so far, and their standard deviations.
REPEATS = "repeats"
SPREAD = "spread"

# Written by the app. On a study or a trial: its run in MLflow.
RUN_ID = "mlflow_run_id"
# On a study: names of the registry that its trials start from, with the run that each stood for at
# first.
PINNED = "pinned"
# On a study: the runs whose weights were measured on test, in order.
TEST_LOOKS = "test_looks"
# On a trial: of each job so far, how its model fits, and how it stands against the best baseline.
FITS = "fits"
# On a trial: how many evaluations it makes unless it is pruned; of several seeds, by how much each
# job so far violates the constraints.
NUM_EVALUATIONS = "num_evaluations"
REPEAT_CONSTRAINTS = "repeat_constraints"


def params_of(trial: "FrozenTrial") -> Mapping[str, Any]:
    """Return the parameters of a trial for people; Optuna has none of a reference."""
    return {**trial.user_attrs.get(REFERENCE_VALUES, {}), **trial.params}


def name_reference(name: str) -> str:
    """Write the name of a reference for people."""
    return name.replace("_", " ")
