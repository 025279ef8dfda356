"""Tags of runs that say what they belong to."""

# What a run is: run, trial, study, finals or finalist.
ROLE = "tunetrail.role"
# The name of the study in whose storage a trial is; finals have one of their own.
STUDY = "tunetrail.study"
# The number of a trial in the search; its finals have it, too.
TRIAL = "tunetrail.trial"
# Of a trial that the winner is compared with: what it stands for.
REFERENCE = "tunetrail.reference"
# Of finals and their runs: the study that was searched, and the number of the trial in the finals.
FINAL_OF, FINALS_TRIAL = "tunetrail.final_of", "tunetrail.finals_trial"
# Of the run of a study: the run of its finals. Of a trial, and of its finals: that it has won.
FINALS_RUN, WINNER = "tunetrail.finals_run", "tunetrail.winner"
# Of the run of a study: the run of the last seed of the winner.
WINNER_RUN = "tunetrail.winner_run"
# Of a trial: which of its runs this is, from 0; the run whose numbers it got without running.
REPEAT, REUSED_FROM = "tunetrail.repeat", "tunetrail.reused_from"
# Of the run of a study: the run of its best trial.
BEST_RUN = "tunetrail.best_run"
# How a run ended, and how its model fits.
STATE, VERDICT = "tunetrail.state", "tunetrail.verdict"
PARENT = "mlflow.parentRunId"
