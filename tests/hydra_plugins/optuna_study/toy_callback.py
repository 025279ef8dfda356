"""A callback of a sweep that keeps what it was told."""

from hydra_plugins.optuna_study.callbacks import StudyCallback

EVENTS = []


class Recorder(StudyCallback):
    """Records the calls; raises an error at the event that is named."""

    def __init__(self, broken: str | None = None) -> None:
        self.broken = broken

    def on_study_start(self, study, config):
        self._record("start", study.study_name, config.seed)

    def on_trial_end(self, study, trial):
        self._record("trial", trial.number, study.trials[trial.number].state.name)

    def on_study_end(self, study, interrupted, failure):
        self._record("end", len(study.trials), interrupted, failure)

    def on_finals_end(self, study, finals, finalists, config):
        names = study.study_name, finals.study_name
        self._record("finals", *names, list(finalists.items()), config.seed)

    def _record(self, event, *details):
        EVENTS.append((event, *details))
        if event == self.broken:
            raise RuntimeError(f"broken at {event}\nin two lines")


def recorder(name="r", **arguments):
    fields = {"_target_": f"{__name__}.Recorder", **arguments}
    node = ",".join(f"{key}: {value}" for key, value in fields.items())
    return f"+hydra.sweeper.callbacks.{name}={{{node}}}"
