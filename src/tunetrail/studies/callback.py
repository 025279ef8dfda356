"""The parent run of a study: opened at its start, kept up to date, completed at its end."""

import logging
import shutil
from collections.abc import Sequence
from typing import Any

import optuna
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study import attributes
from tunetrail.config.paths import locate
from tunetrail.config.project import ROOT
from tunetrail.config.secrets import says_secret
from tunetrail.config.untrusted import Trusted, list_targets, list_variables, load_project
from tunetrail.errors import InputError, OutageError
from tunetrail.studies.costs import find_baselines, list_costs, plot_costs
from tunetrail.studies.curves import plot_curves
from tunetrail.studies.description import describe_study
from tunetrail.studies.finals.finalists import collect_result
from tunetrail.studies.finals.marks import mark_winner
from tunetrail.studies.finals.plots import plot_finals
from tunetrail.studies.finals.record import Terms
from tunetrail.studies.finals.report import require_winner
from tunetrail.studies.finals.winner import read_said, read_section, register_winner
from tunetrail.studies.fits import list_fits, plot_fits
from tunetrail.studies.forgetting import describe_forgotten, list_forgotten, plot_forgotten
from tunetrail.studies.page import FINALS, build_study_page
from tunetrail.studies.plots import plot_study
from tunetrail.studies.ranking import find_best, is_feasible, rank
from tunetrail.studies.report import list_trials, write_report
from tunetrail.studies.start import pin_start
from tunetrail.studies.states import number_of
from tunetrail.studies.trial_runs import TrialRuns
from tunetrail.tracking.artifacts import read_artifact
from tunetrail.tracking.descriptions import describe
from tunetrail.tracking.recording import log_study_page
from tunetrail.tracking.run_log import (
    ForeignRunError,
    RunLog,
    add_to_run,
    close_abandoned,
    closed_at_end,
    create_run,
    reopen_run,
)
from tunetrail.tracking.store import store_errors
from tunetrail.tracking.tags import BEST_RUN, FINAL_OF, FINALS_RUN, PARENT, ROLE, STUDY
from tunetrail.tracking.views import try_save_view
from tunetrail.training.inputs import require_effect, require_job, require_sources
from tunetrail.training.run_lock import read_trial

log = logging.getLogger(__name__)


class TrackStudy:
    """A callback of the sweeper: keeps one MLflow run for the study, its trials as children.

    The study holds the run's id as ``mlflow_run_id``. So trials find their parent, and a continued
    study continues its run. The finals of a study have a run of their own, a child of the study's.
    The study's run is open again until the winner is registered; a failure of the finals is
    logged there, too.

    Args:
        tracking: ``uri``, ``experiment``, ``artifact_dir`` and ``checkpoint_dir`` of the config.
        keep_best: how many trials keep their weights.

    """

    def __init__(self, tracking: DictConfig, keep_best: int) -> None:
        self._uri: str = tracking.uri
        self._experiment: str = tracking.experiment
        self._artifact_dir: str = tracking.artifact_dir
        self._checkpoint_dir = locate(tracking.checkpoint_dir)
        self._keep_best = keep_best
        self._objectives: list[str] = []
        self._constraints: dict[str, str] = {}
        self._main_metric = ""
        self._logged_best: int | None = None
        self._has_view = False
        # Name of a study -> what was drawn of it, by the names of artifacts.
        self._figures: dict[str, dict[str, Figure]] = {}

    # Set once there is a study.
    _runs: TrialRuns
    # Of finals: the run of the study whose best points they train.
    _searched: RunLog | None

    def before_study(self, config: DictConfig, searched: Sequence[str]) -> None:
        """Check what every trial needs, before the study is created.

        Raises:
            InputError: a value that is not searched, or the name of a metric, is wrong, there is no
                such model, file or run to start from, or what is searched has no effect.

        """
        require_job(config)
        for key in filter(says_secret, searched):
            raise InputError(f"{key} is searched, and what is searched is stored; give one value")
        require_effect(config, searched)
        pin_start(config, None)
        require_sources(config)

    def on_study_start(self, study: optuna.Study, config: DictConfig) -> None:
        """Open the parent run, or the one that an earlier start of this study opened.

        Whatever a killed process left is put right: runs that do not show how their trial ended,
        weights and checkpoints that no trial needs.
        """
        self._objectives = list(study.user_attrs[attributes.OBJECTIVES])
        self._constraints = dict(config.sweep.get("constraints") or {})
        self._main_metric = str(OmegaConf.select(config, "task.main_metric"))
        searched = _load_searched(study)
        if attributes.RUN_ID in study.user_attrs:
            parent = self._reopen(study)
        else:
            parent = self._create_parent(study, config, searched)
        self._searched = None if searched is None else self._reopen(searched)
        if self._searched is not None:
            self._searched.tags({FINALS_RUN: parent.run_id})
        self._runs = TrialRuns(
            parent,
            study=study.study_name,
            objectives=self._objectives,
            of_finals=searched is not None,
        )
        with store_errors(self._uri):
            self._synchronise(study, parent)
            self._describe(study, parent)
            try_save_view(parent.client, parent.run_id)
        close_abandoned(parent, self._checkpoint_dir)

    def on_trial_end(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Synchronise the trial's runs, log the best trial so far, delete weights of worse ones.

        A new best trial has saved its weights before this. So at any moment at which the process
        is killed, the store has the weights of the best finished trial.
        """
        parent = self._reopen(study)
        with store_errors(self._uri):
            self._runs.synchronise([trial])
            self._log_values(study, trial, parent)
            self._log_best(study, parent)
            self._describe(study, parent)
            self._delete_unneeded(study)
            if not self._has_view:
                # Now it is known what the trials measure.
                try_save_view(parent.client, parent.run_id)
                self._has_view = True

    def on_study_end(self, study: optuna.Study, interrupted: bool, failure: str | None) -> None:
        """Log figures, report and best config, and close the parent run."""
        parent = self._reopen(study)
        status = "FAILED" if failure else "KILLED" if interrupted else "FINISHED"
        with store_errors(self._uri):
            run_ids = self._synchronise(study, parent)
            self._describe(study, parent)
            # Before figures and report, which may fail, such as on a full disk.
            parent.close(status, failure=failure)
            if self._searched is not None and status != "FINISHED":
                self._searched.close(status, failure=failure)
            try_save_view(parent.client, parent.run_id)
            self._log_summary(study, parent, run_ids)
        log.info("parent run   %s", parent.run_id)

    def on_finals_end(
        self,
        study: optuna.Study,
        finals: optuna.Study,
        finalists: dict[int, int],
        config: DictConfig,
    ) -> None:
        """Find the winner, score it on test once, compare and register it, and print a summary.

        Called again for the same finals, it prints the same and does nothing.

        Raises:
            InputError: there is no winner.

        Args:
            finals: in which the best points, the default and references were trained again.
            finalists: number of a trial of the study -> number of its trial in ``finals``.

        """
        parent = self._reopen(study)
        terms = Terms(
            uri=self._uri,
            objectives=tuple(self._objectives),
            registry_name=config.registry.name,
            keeps_weights=config.tracking.log_model,
            scores_all=config.score_test,
            trusted=_list_trusted(config),
        )
        with store_errors(self._uri), closed_at_end(parent):
            lines = register_winner(study, finals, finalists, parent=parent, terms=terms)
            for line in lines:
                log.info("%s", line)
            result = collect_result(study, finals, finalists, objectives=terms.objectives)
            if result.finalists:
                drawn = self._figures.setdefault(study.study_name, {})
                drawn[FINALS] = plot_finals(result)
                parent.figure(drawn[FINALS], FINALS)
            self._log_report(study, parent, self._synchronise(study, parent))
            mark_winner(
                parent.client,
                parent.experiment_id,
                [parent.run_id, finals.user_attrs[attributes.RUN_ID]],
                None if result.winner is None else result.winner.number,
            )
            self._describe(study, parent)
        require_winner(result)

    def _create_parent(
        self, study: optuna.Study, config: DictConfig, searched: optuna.Study | None
    ) -> RunLog:
        tags = {STUDY: study.study_name, ROLE: "study"}
        name = study.study_name
        if searched is not None:
            name = f"finals of {searched.study_name}"
            tags |= {ROLE: "finals", FINAL_OF: searched.study_name}
            tags[PARENT] = searched.user_attrs[attributes.RUN_ID]
        parent = create_run(
            uri=self._uri,
            experiment=self._experiment,
            artifact_dir=self._artifact_dir,
            name=name,
            tags=tags,
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
        """Open the run of a study again.

        Raises:
            OutageError: the store's server does not answer.
            InputError: it was deleted, or the store with it, or the study names another's.

        """
        run_id = study.user_attrs[attributes.RUN_ID]
        try:
            return reopen_run(uri=self._uri, run_id=run_id, study=study.study_name)
        except (OutageError, ForeignRunError):
            raise
        except InputError as error:
            name = study.user_attrs.get(attributes.FINAL_OF, study.study_name)
            raise InputError(
                f"study={name}: its run is gone from MLflow: {error}, or start again with a new "
                "name: study=NAME"
            ) from error

    def _synchronise(self, study: optuna.Study, parent: RunLog) -> dict[int, str]:
        """Synchronise the runs of all finished trials; return the run of each trial."""
        trials = study.get_trials(deepcopy=False)
        run_ids = self._runs.synchronise([trial for trial in trials if trial.state.is_finished()])
        self._log_best(study, parent)
        self._delete_unneeded(study)
        return run_ids

    def _describe(self, study: optuna.Study, parent: RunLog) -> None:
        """Describe the study as it stands, for MLflow's pages."""
        # With the tags that it has by now.
        parent = add_to_run(uri=self._uri, run_id=parent.run_id)
        searched = None if self._searched is None else self._searched.run_id
        said = read_said(parent)
        text = describe_study(study, self._objectives, parent=parent, searched=searched, said=said)
        describe(parent.client, parent.run_id, text)

    def _log_values(self, study: optuna.Study, trial: FrozenTrial, parent: RunLog) -> None:
        """Log the values of a trial of the search that can be used: a curve over the trials."""
        is_complete = trial.state is TrialState.COMPLETE and is_feasible(trial)
        if is_complete and attributes.FINAL_OF not in study.user_attrs:
            named = zip(self._objectives, trial.values, strict=True)
            parent.metrics({f"trials/{name}": v for name, v in named}, step=trial.number)

    def _log_best(self, study: optuna.Study, parent: RunLog) -> None:
        """Log the best trial so far, if it is a new one."""
        best = find_best(study)
        if best is not None and best.number != self._logged_best:
            names = zip(self._objectives, best.values, strict=True)
            # Finals are given in no order, so the best of them so far is no curve.
            step = 0 if attributes.FINAL_OF in study.user_attrs else best.number
            parent.metrics({f"best/{name}": value for name, value in names}, step=step)
            self._logged_best = best.number

    def _delete_unneeded(self, study: optuna.Study) -> None:
        """Delete weights and pages of trials outside the best, and checkpoints of ended ones."""

        def find_unneeded() -> set[int]:
            trials = study.get_trials(deepcopy=False)
            finished = {trial.number for trial in trials if trial.state.is_finished()}
            return finished - {trial.number for trial in rank(study)[: self._keep_best]}

        self._runs.delete_weights(find_unneeded)
        parent_run_id = study.user_attrs[attributes.RUN_ID]
        if not self._checkpoint_dir.is_dir():
            return
        owners = [(read_trial(folder), folder) for folder in self._checkpoint_dir.iterdir()]
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING))
        needed = {trial.number for trial in running}
        for owner, folder in owners:
            if owner is not None and owner.parent == parent_run_id and owner.number not in needed:
                shutil.rmtree(folder, ignore_errors=True)

    def _log_summary(self, study: optuna.Study, parent: RunLog, run_ids: dict[int, str]) -> None:
        table = list_trials(study, self._objectives, run_ids)
        parent.text(table.to_csv(index=False), "tables/trials.csv")
        # Finals are not searched, so there is no history and no slice to draw.
        if attributes.FINAL_OF not in study.user_attrs:
            self._log_figures(study, parent)
        self._log_report(study, parent, run_ids)
        best = find_best(study)
        if best is None:
            return
        run_id = run_ids.get(best.number)
        parent.tags({"tunetrail.best_trial": number_of(best), BEST_RUN: run_id})
        if run_id is not None:
            config = read_artifact(uri=self._uri, run_id=run_id, path="config.yaml")
            parent.text(config, "best_config.yaml")

    def _log_figures(self, study: optuna.Study, parent: RunLog) -> None:
        if figures := plot_study(study, self._objectives):
            parent.page(figures, "figures/study.html")
        runs = self._runs.list_all_repeats()
        baselines = find_baselines(study, self._objectives, runs, main_metric=self._main_metric)
        curves = plot_curves(study, self._objectives, baselines=baselines)
        drawn = {f"figures/over_{name.rpartition('.')[2]}.png": curves[name] for name in curves}
        fits = list_fits(study)
        if (figure := plot_fits(fits)) is not None:
            drawn["figures/fits.png"] = figure
        costs = list_costs(study, self._objectives, runs, main_metric=self._main_metric)
        if len(costs):
            parent.shown_table(costs, "tables/costs.json")
            figure = plot_costs(costs, self._objectives[0], baselines=baselines)
            drawn["figures/costs.png"] = figure
        forgotten = list_forgotten(study, self._objectives, runs, main_metric=self._main_metric)
        if len(forgotten):
            parent.shown_table(forgotten, "tables/forgetting.json")
            figure = plot_forgotten(forgotten, self._objectives[0], baselines=baselines)
            drawn["figures/forgetting.png"] = figure
        for path, figure in drawn.items():
            parent.figure(figure, path)
        self._figures[study.study_name] = drawn

    def _log_report(self, study: optuna.Study, parent: RunLog, run_ids: dict[int, str]) -> None:
        winner, forgetting = read_section(parent), ""
        # Finals have neither the table nor the figure of it.
        if attributes.FINAL_OF not in study.user_attrs:
            runs = self._runs.list_all_repeats()
            table = list_forgotten(study, self._objectives, runs, main_metric=self._main_metric)
            forgetting = describe_forgotten(table, self._objectives[0])
        report = write_report(
            study, self._objectives, self._constraints, run_ids,
            winner=winner, forgetting=forgetting,
        )  # fmt: skip
        parent.text(report, "report.md")
        figures = self._figures.get(study.study_name, {})
        log_study_page(parent, lambda: build_study_page(study, self._objectives, report, figures))


def _list_trusted(config: DictConfig) -> Trusted:
    """List what the project's YAML and this study's own config name."""
    chosen = OmegaConf.to_container(config, resolve=False)
    targets = load_project(ROOT).targets | list_targets(chosen)
    return Trusted(targets, list_variables(chosen), cache_dir=config.cache_dir)


def _params_of_search(study: optuna.Study, config: DictConfig) -> dict[str, Any]:
    """List how points are searched; finals have given points, and seeds of their own."""
    if attributes.FINAL_OF in study.user_attrs:
        return {"seeds": study.user_attrs[attributes.SEEDS]}
    space = {
        f"search.{key}": text for key, text in study.user_attrs[attributes.SEARCH_SPACE].items()
    }
    return space | {"sampler": config.sampler._target_, "pruner": config.pruner._target_}


def _load_searched(study: optuna.Study) -> optuna.Study | None:
    """Load the study whose best points are trained in this one; None if this one is searched."""
    name = study.user_attrs.get(attributes.FINAL_OF)
    if name is None:
        return None
    return optuna.load_study(study_name=name, storage=study._storage)  # noqa: SLF001 - the connection that is open already
