"""A callback that takes its time."""

import time

from hydra_plugins.optuna_study.callbacks import StudyCallback


class Slow(StudyCallback):
    """Blocks the sweep for a while after trial 0."""

    def on_trial_end(self, study, trial):
        if trial.number == 0:
            time.sleep(3)
