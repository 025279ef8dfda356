"""A study in MLflow without training: a test makes its trials and runs by hand."""

from pathlib import Path
from typing import Any

import optuna
from mlflow.entities import Run
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from tunetrail.studies.callback import TrackStudy
from tunetrail.tracking.store import connect

STORE = "sqlite:///mlruns/mlflow.db"
STORAGE = "sqlite:///mlruns/optuna.db"
RATE = "trainer.learning_rate"
TRACKING = {
    "uri": STORE,
    "experiment": "tests",
    "artifact_dir": "mlruns/artifacts",
    "checkpoint_dir": "mlruns/checkpoints",
}
OOM = {"failure": "OutOfMemoryError: no room", "failure_kind": "out of memory"}
STOPPED = {"failure": "interrupted", "failure_kind": "interrupted"}


def sweep_config() -> DictConfig:
    return OmegaConf.create(
        {
            "seed": 1,
            "sampler": {"_target_": "sampler"},
            "pruner": {"_target_": "pruner"},
            "sweep": {"constraints": {}},
            "task": {"main_metric": "accuracy"},
        }
    )


class Bench:
    """A study in MLflow whose trials and runs a test makes as jobs and sweeper would."""

    def __init__(self, name: str = "s", *, keep_best: int = 1, num_objectives: int = 1) -> None:
        self.client = connect(STORE)
        self.study = optuna.create_study(
            study_name=name,
            storage=STORAGE,
            directions=["maximize"] * num_objectives,
            load_if_exists=True,
        )
        self.study.set_user_attr("search_space", {RATE: "interval(0,1)"})
        self.study.set_user_attr("fixed_overrides", {})
        self.names = [f"validation/{name}" for name in ("accuracy", "macro_f1")[:num_objectives]]
        self.study.set_user_attr("objectives", dict.fromkeys(self.names, "maximize"))
        self.keep_best = keep_best
        self.track = self.start()

    def start(self) -> TrackStudy:
        """What a new process does."""
        track = TrackStudy(OmegaConf.create(TRACKING), self.keep_best)
        track.on_study_start(self.study, sweep_config())
        return track

    @property
    def parent(self) -> Run:
        return self.client.get_run(self.study.user_attrs["mlflow_run_id"])

    def run(self, number: int, status: str = "RUNNING", **tags: str) -> str:
        """The run of a job."""
        tags = {f"tunetrail.{name}": value for name, value in tags.items()}
        run = self.client.create_run(
            self.parent.info.experiment_id,
            run_name=f"trial-{number}",
            tags={
                "mlflow.parentRunId": self.parent.info.run_id,
                "tunetrail.study": self.study.study_name,
                "tunetrail.trial": str(number),
                **tags,
            },
        )
        run_id = str(run.info.run_id)
        self.client.log_text(run_id, "config", "config.yaml")
        if status != "RUNNING":
            self.client.set_terminated(run_id, status)
        return run_id

    def add(
        self, value: float | None = None, state: TrialState = TrialState.COMPLETE, **attrs: Any
    ) -> FrozenTrial:
        """Report a trial to the study, as the sweeper does, without calling the callback."""
        values = None if value is None else [value] * len(self.names)
        constraints = attrs.pop("constraints", None)
        self.study.add_trial(
            create_trial(
                state=state,
                values=values,
                params={RATE: 0.5},
                distributions={RATE: FloatDistribution(0, 1)},
                user_attrs=attrs,
                constraints=constraints,
            )
        )
        return self.study.get_trials()[-1]

    def trial(
        self,
        value: float | None = None,
        state: TrialState = TrialState.COMPLETE,
        *,
        model: bool = False,
        **attrs: Any,
    ) -> FrozenTrial:
        """A job that ended, was reported, and for which the callback was called."""
        run_id = self.run(len(self.study.get_trials()), kept="true" if model else "false")
        if model:
            self.model(run_id)
        trial = self.add(value, state, mlflow_run_id=run_id, **attrs)
        if state.is_finished():
            self.track.on_trial_end(self.study, trial)
        return trial

    def model(self, run_id: str) -> str:
        """A logged model that its run does not name yet, and a page: as after a kill."""
        experiment_id = self.client.get_run(run_id).info.experiment_id
        model = self.client.create_logged_model(experiment_id, "model", source_run_id=run_id)
        self.client.log_text(run_id, "page", "figures/learning_curves.html")
        weights = Path("weights.bin")
        weights.write_text(run_id)
        self.client.log_model_artifact(model.model_id, str(weights))
        return str(model.model_id)

    def runs_of(self, number: int) -> list[Run]:
        return list(
            self.client.search_runs(
                [self.parent.info.experiment_id],
                f"tags.mlflow.parentRunId = '{self.parent.info.run_id}' "
                f"and tags.`tunetrail.trial` = '{number}'",
            )
        )
