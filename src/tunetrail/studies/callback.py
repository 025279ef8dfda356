"""The parent run of a study: opened when it starts, kept up to date, summed up at its end."""

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study import attributes
from tunetrail.config.project import ROOT
from tunetrail.config.settings import require_job
from tunetrail.config.untrusted import list_targets, load_project
from tunetrail.studies.finals.winner import Terms, crown_winner, read_section
from tunetrail.studies.page import plot_study_interactive
from tunetrail.studies.plots import plot_study
from tunetrail.studies.report import list_trials, write_report
from tunetrail.studies.states import is_feasible
from tunetrail.studies.trial import rank
from tunetrail.studies.trial_runs import TrialRuns
from tunetrail.tracking.store import (
    RunLog,
    close_run,
    create_run,
    read_artifact,
    reopen_run,
    store_errors,
)

log = logging.getLogger(__name__)


class TrackStudy:
    """A callback of the sweeper: keeps one MLflow run for the study, its trials as children.

    The run's id stands in the study as ``mlflow_run_id``, so that trials find their parent and
    a continued study goes on in the same run. The finals of a study have a run of their own, a
    child of the study's, which is open again until the winner is found: what stopped or failed in
    the finals is told there, too.

    Args:
        tracking: ``uri``, ``experiment``, ``artifact_dir`` and ``checkpoint_dir`` of the config.
        keep_best: how many trials keep their weights.

    """

    def __init__(self, tracking: DictConfig, keep_best: int) -> None:
        self._uri: str = tracking.uri
        self._experiment: str = tracking.experiment
        self._artifact_dir: str = tracking.artifact_dir
        self._checkpoint_dir = Path(tracking.checkpoint_dir)
        self._keep_best = keep_best
        self._objectives: list[str] = []
        self._constraints: dict[str, str] = {}
        self._logged_best: int | None = None

    # Set once there is a study.
    _runs: TrialRuns
    # Of finals: the run of the study whose best points they train.
    _searched: RunLog | None

    def before_study(self, config: DictConfig) -> None:
        """Find what no trial could be run with, before there is a study.

        Raises:
            InputError: a value that is not searched, or the name of a metric, is wrong.

        """
        require_job(config)

    def on_study_start(self, study: optuna.Study, config: DictConfig) -> None:
        """Open the parent run, or the one that an earlier start of this study opened.

        What an earlier process was killed over is made good: runs that do not say how their
        trial ended, weights and checkpoints that nobody waits for.
        """
        self._objectives = list(study.user_attrs[attributes.OBJECTIVES])
        self._constraints = dict(config.sweep.get("constraints") or {})
        run_id = study.user_attrs.get(attributes.RUN_ID)
        if run_id is None:
            parent = self._create_parent(study, config)
        else:
            parent = reopen_run(uri=self._uri, run_id=run_id)
        self._runs = TrialRuns(parent, study=study.study_name, objectives=self._objectives)
        searched_id = _searched_run_id(study)
        self._searched = (
            None if searched_id is None else reopen_run(uri=self._uri, run_id=searched_id)
        )
        with store_errors(self._uri):
            self._bring_in_line(study, parent)

    def on_trial_end(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Bring the trial's runs in line, log the best so far, let beaten weights go.

        The new best is saved and told before: whenever the process is killed, the weights of
        the best finished trial are there.
        """
        parent = self._reopen(study)
        with store_errors(self._uri):
            self._runs.bring_in_line([trial])
            self._log_best(study, parent)
            self._remove_leftovers(study)

    def on_study_end(self, study: optuna.Study, interrupted: bool, failure: str | None) -> None:
        """Log figures, report and best config, and close the parent run."""
        parent = self._reopen(study)
        status = "FAILED" if failure else "KILLED" if interrupted else "FINISHED"
        with store_errors(self._uri):
            run_ids = self._bring_in_line(study, parent)
            # What sums up may fail, on a full disk for one: the numbers are safe by now.
            _close(parent, status, failure)
            if self._searched is not None and status != "FINISHED":
                _close(self._searched, status, failure)
            self._sum_up(study, parent, run_ids)
        log.info("parent run   %s", parent.run_id)

    def on_finals_end(
        self,
        study: optuna.Study,
        finals: optuna.Study,
        finalists: dict[int, int],
        config: DictConfig,
    ) -> None:
        """Find the winner, score it on test once, compare and register it, and say so.

        Called again for the same finals, it says the same and does nothing.

        Args:
            finals: in which the best points were trained again on fresh seeds.
            finalists: number of a trial of the study -> number of its trial in ``finals``.

        """
        parent = self._reopen(study)
        terms = Terms(
            uri=self._uri,
            objective=self._objectives[0],
            registry_name=config.registry.name,
            keeps_weights=config.tracking.log_model,
            scores_all=config.score_test,
            known_targets=_list_known_targets(config),
        )
        with store_errors(self._uri), _closed_at_end(parent):
            for line in crown_winner(study, finals, finalists, parent=parent, terms=terms):
                log.info("%s", line)
            told = [
                trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()
            ]
            self._log_report(study, parent, self._runs.bring_in_line(told))

    def _create_parent(self, study: optuna.Study, config: DictConfig) -> RunLog:
        parent = create_run(
            uri=self._uri,
            experiment=self._experiment,
            artifact_dir=self._artifact_dir,
            name=study.study_name,
            tags={"tunetrail.study": study.study_name, **_tags_of_finals(study)},
        )
        study.set_user_attr(attributes.RUN_ID, parent.run_id)
        with store_errors(self._uri):
            parent.params(
                {"objectives": study.user_attrs[attributes.OBJECTIVES], "seed": config.seed}
                | {"constraints": self._constraints}
                | {"fixed": study.user_attrs[attributes.FIXED_OVERRIDES]}
                | _params_of_search(study, config)
            )
        return parent

    def _reopen(self, study: optuna.Study) -> RunLog:
        return reopen_run(uri=self._uri, run_id=study.user_attrs[attributes.RUN_ID])

    def _bring_in_line(self, study: optuna.Study, parent: RunLog) -> dict[int, str]:
        """Bring all told trials in line; the run of each trial comes back."""
        told = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
        run_ids = self._runs.bring_in_line(told)
        self._log_best(study, parent)
        self._remove_leftovers(study)
        return run_ids

    def _log_best(self, study: optuna.Study, parent: RunLog) -> None:
        best = find_best(study)
        if best is not None and best.number != self._logged_best:
            names = zip(self._objectives, best.values, strict=True)
            parent.metrics({f"best/{name}": value for name, value in names}, step=best.number)
            self._logged_best = best.number

    def _remove_leftovers(self, study: optuna.Study) -> None:
        """Remove weights, pages and checkpoints that no kept and no running trial needs."""

        def judge() -> Callable[[int], bool]:
            trials = study.get_trials(deepcopy=False)
            over = {trial.number for trial in trials if trial.state.is_finished()}
            # A reused trial has no weights: those of its source stand for both.
            own = [trial for trial in rank(study) if attributes.REUSED_FROM not in trial.user_attrs]
            return (over - {trial.number for trial in own[: self._keep_best]}).__contains__

        self._runs.lighten(judge)
        if not self._checkpoint_dir.is_dir():
            return
        folders = list(self._runs.belonging(self._checkpoint_dir.iterdir()))
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING))
        needed = {trial.number for trial in running}
        for folder, number in folders:
            if number not in needed:
                shutil.rmtree(folder, ignore_errors=True)

    def _sum_up(self, study: optuna.Study, parent: RunLog, run_ids: dict[int, str]) -> None:
        self._log_report(study, parent, run_ids)
        table = list_trials(study, self._objectives, run_ids)
        parent.text(table.to_csv(index=False), "tables/trials.csv")
        # Of a few points that nobody searched for there is no history and no slice to draw.
        if attributes.FINAL_OF not in study.user_attrs:
            for name, figure in plot_study(study, self._objectives).items():
                parent.figure(figure, f"figures/{name}.png")
            if pages := plot_study_interactive(study, self._objectives):
                parent.page(pages, "figures/study.html")
        best = find_best(study)
        if best is None:
            return
        run_id = run_ids.get(best.number)
        parent.tags({"tunetrail.best_trial": best.number, "tunetrail.best_run": run_id})
        if run_id is not None:
            config = read_artifact(uri=self._uri, run_id=run_id, path="config.yaml")
            parent.text(config, "best_config.yaml")

    def _log_report(self, study: optuna.Study, parent: RunLog, run_ids: dict[int, str]) -> None:
        winner = read_section(uri=self._uri, run_id=parent.run_id)
        report = write_report(study, self._objectives, self._constraints, run_ids, winner=winner)
        parent.text(report, "report.md")


def _list_known_targets(config: DictConfig) -> frozenset[str]:
    """List what the project's own YAML names, and what a person chose instead for this study."""
    chosen = list_targets(OmegaConf.to_container(config, resolve=False))
    return load_project(ROOT).targets | chosen


def _close(run: RunLog, status: str, failure: str | None) -> None:
    if failure is not None:
        run.tags({"tunetrail.failure": failure})
    close_run(run, status)


@contextlib.contextmanager
def _closed_at_end(run: RunLog) -> Iterator[None]:
    """Close a run with what becomes of the block."""
    try:
        yield
    except BaseException as error:
        stopped = not isinstance(error, Exception)
        # The store itself may be what failed: its error must not be hidden by another.
        with contextlib.suppress(Exception):
            failure = None if stopped else f"{type(error).__name__}: {error}"
            _close(run, "KILLED" if stopped else "FAILED", failure)
        raise
    _close(run, "FINISHED", None)


def _params_of_search(study: optuna.Study, config: DictConfig) -> dict[str, Any]:
    """Say how points are found; those of finals are given, and trained on seeds of their own."""
    if attributes.FINAL_OF in study.user_attrs:
        return {"seeds": study.user_attrs[attributes.SEEDS]}
    space = {
        f"search.{key}": text for key, text in study.user_attrs[attributes.SEARCH_SPACE].items()
    }
    return space | {"sampler": config.sampler._target_, "pruner": config.pruner._target_}


def _tags_of_finals(study: optuna.Study) -> dict[str, str]:
    """Make the run of finals a child of the run of the study whose best points they train."""
    run_id = _searched_run_id(study)
    if run_id is None:
        return {}
    return {
        "tunetrail.final_of": study.user_attrs[attributes.FINAL_OF],
        "mlflow.parentRunId": run_id,
    }


def _searched_run_id(study: optuna.Study) -> str | None:
    """Find the run of the study whose best points are trained in this one; None where none are."""
    name = study.user_attrs.get(attributes.FINAL_OF)
    if name is None:
        return None
    searched = optuna.load_study(study_name=name, storage=study._storage)  # noqa: SLF001 - the connection that is open already
    return str(searched.user_attrs[attributes.RUN_ID])


def find_best(study: optuna.Study) -> FrozenTrial | None:
    """Find the trial that is best by the first objective among those that meet the constraints."""
    ranked = rank(study)
    return ranked[0] if ranked and is_feasible(ranked[0]) else None
