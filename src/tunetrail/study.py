"""The parent run of a study: opened when it starts, kept up to date, summed up at its end."""

import logging
import shutil
from datetime import datetime
from pathlib import Path

import optuna
from omegaconf import DictConfig
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tunetrail.diagnostics.study_plots import plot_study, plot_study_interactive
from tunetrail.study_report import write_report
from tunetrail.tracking import RunLog, close_run, create_run, read_artifact, reopen_run

log = logging.getLogger(__name__)

_RUN_ID = "mlflow_run_id"


class TrackStudy:
    """A callback of the sweeper: keeps one MLflow run for the study, its trials as children.

    The run's id stands in the study as ``mlflow_run_id``, so that trials find their parent and
    a continued study goes on in the same run.

    Args:
        tracking: ``uri``, ``experiment``, ``artifact_dir`` and ``checkpoint_dir`` of the config.

    """

    def __init__(self, tracking: DictConfig) -> None:
        self._uri: str = tracking.uri
        self._experiment: str = tracking.experiment
        self._artifact_dir: str = tracking.artifact_dir
        self._checkpoint_dir = Path(tracking.checkpoint_dir)
        self._objectives: list[str] = []
        self._swept: set[int] = set()  # beaten trials whose weights are known to be gone

    def on_study_start(self, study: optuna.Study, config: DictConfig) -> None:
        """Open the parent run, or the one that an earlier start of this study opened."""
        self._objectives = list(config.sweep.objectives)
        run_id = study.user_attrs.get(_RUN_ID)
        if run_id is not None:
            reopen_run(uri=self._uri, run_id=run_id)
            return
        run_log = create_run(
            uri=self._uri,
            experiment=self._experiment,
            artifact_dir=self._artifact_dir,
            name=study.study_name,
            tags={"tunetrail.study": study.study_name},
        )
        study.set_user_attr(_RUN_ID, run_log.run_id)
        run_log.params(
            {f"search.{key}": text for key, text in study.user_attrs["search_space"].items()}
            | {"objectives": dict(config.sweep.objectives), "seed": config.seed}
            | {"fixed": study.user_attrs["fixed_overrides"]}
            | {"sampler": config.sampler._target_, "pruner": config.pruner._target_}
        )

    def on_trial_end(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Log the best so far, and let the beaten trial's weights go.

        The new best is saved and told before: whenever the process is killed, the weights of
        the best finished trial are there.
        """
        run_log = self._run_log(study)
        if trial.state is TrialState.FAIL:
            self._close_failed(run_log, trial)
        if trial.state is not TrialState.COMPLETE:
            return
        best = best_trial(study)
        if best.number == trial.number:
            names = zip(self._objectives, trial.values, strict=True)
            run_log.metrics({f"best/{name}": value for name, value in names}, step=trial.number)
        for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            run_id = other.user_attrs.get(_RUN_ID)
            if other.number not in {best.number, *self._swept} and run_id is not None:
                run_log.remove_weights_of(run_id)
                self._swept.add(other.number)

    def on_study_end(self, study: optuna.Study, interrupted: bool, failure: str | None) -> None:
        """Log figures, report and best config, and close the parent run."""
        run_log = self._run_log(study)
        trials = study.get_trials(deepcopy=False)
        run_log.text(
            write_report(study.study_name, trials, best_or_none(study), self._objectives),
            "report.md",
        )
        for name, figure in plot_study(study, self._objectives).items():
            run_log.figure(figure, f"figures/{name}.png")
        best = best_or_none(study)
        if best is not None:
            run_log.page(plot_study_interactive(study, self._objectives), "figures/study.html")
            run_id = best.user_attrs.get(_RUN_ID)
            run_log.tags({"tunetrail.best_trial": best.number, "tunetrail.best_run": run_id})
            if run_id is not None:
                config = read_artifact(uri=self._uri, run_id=run_id, path="config.yaml")
                run_log.text(config, "best_config.yaml")
        if failure is not None:
            run_log.tags({"tunetrail.failure": failure})
        status = "FAILED" if failure else "KILLED" if interrupted else "FINISHED"
        close_run(run_log, status)
        log.info("parent run   %s", run_log.run_id)

    def _close_failed(self, run_log: RunLog, trial: FrozenTrial) -> None:
        """Close the run of a trial that could not do so itself: its process may be gone."""
        run_id = trial.user_attrs.get(_RUN_ID)
        if run_id is None:
            return
        run_log.close_other(run_id, failure=str(trial.user_attrs.get("failure")))
        run_log.remove_weights_of(run_id)
        shutil.rmtree(self._checkpoint_dir / run_id, ignore_errors=True)

    def _run_log(self, study: optuna.Study) -> RunLog:
        return reopen_run(uri=self._uri, run_id=study.user_attrs[_RUN_ID])


def best_or_none(study: optuna.Study) -> FrozenTrial | None:
    """Find the finished trial that is best by the first objective.

    Of equals the one that finished first: it alone saved its weights.
    """
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    finished = sorted(finished, key=_completed)
    sign = 1 if study.directions[0] == StudyDirection.MAXIMIZE else -1
    return max(finished, key=lambda trial: sign * trial.values[0], default=None)


def _completed(trial: FrozenTrial) -> datetime:
    assert trial.datetime_complete is not None
    return trial.datetime_complete


def best_trial(study: optuna.Study) -> FrozenTrial:
    best = best_or_none(study)
    assert best is not None
    return best
