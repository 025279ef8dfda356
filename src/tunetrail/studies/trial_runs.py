"""The runs of a study's trials, as children of its parent run: found, synchronised, cleaned up."""

import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study import attributes
from tunetrail.config.secrets import redact
from tunetrail.errors import InputError
from tunetrail.studies.states import reference_of, state_of
from tunetrail.templates.descriptions import join_paragraphs, link_to_run, say_rerun, say_trial
from tunetrail.templates.names import find_own_name, name_trial
from tunetrail.tracking.confinement import locate_run
from tunetrail.tracking.datasets import copy_datasets
from tunetrail.tracking.descriptions import tag_first
from tunetrail.tracking.models import is_registered, list_models, remove_model
from tunetrail.tracking.processes import list_tags, release
from tunetrail.tracking.run_log import (
    ADAPTER,
    KEPT,
    RunLog,
    RunSummary,
    cut_tag,
    read_run,
)
from tunetrail.tracking.system_metrics import PREFIX
from tunetrail.tracking.tags import (
    FINALS_TRIAL,
    PARENT,
    REFERENCE,
    REPEAT,
    REUSED_FROM,
    ROLE,
    STATE,
    STUDY,
    TRIAL,
    VERDICT,
)

log = logging.getLogger(__name__)

_PAGE_SIZE = 1000
# Tags that only a failure has: a run that ended otherwise must not keep one.
_OF_FAILURE = ("tunetrail.failure", "tunetrail.failure_kind")


class TrialRuns:
    """The children of a study's parent run.

    Args:
        parent: of the study, or of its finals.
        study: its name.
        objectives: names of its values.
        of_finals: whether trials are known by the numbers of finals, and runs by those of the
            search, too.

    """

    def __init__(
        self, parent: RunLog, *, study: str, objectives: Sequence[str], of_finals: bool = False
    ) -> None:
        self._of_finals = of_finals
        self._parent = parent
        self._client = parent.client
        self._study = study
        self._objectives = list(objectives)
        # Run -> number of its trial; None for a run of no trial of this study.
        self._trials: dict[str, int | None] = {}
        self._with_page: set[str] = set()
        self._refused: set[str] = set()

    def synchronise(self, trials: Sequence[FrozenTrial]) -> dict[int, str]:
        """Give the runs of finished trials the status and tags of their trials.

        One trial is looked up by its number, several with one search for all.

        Returns:
            The run of each trial; of a trial with repeats the last run.

        """
        if len(trials) > 1:
            found = self._find_all()
        else:
            found = {trial.number: self._find(trial.number) for trial in trials}
        for trial in trials:
            runs = found.setdefault(trial.number, [])
            if attributes.REUSED_FROM in trial.user_attrs:
                found[trial.number] = self._complete_reused(trial, runs, found)
                continue
            for run in runs:
                self._set_ending(run, trial)
            repeats = trial.user_attrs.get(attributes.REPEATS)
            if runs and repeats and trial.state is TrialState.COMPLETE:
                self._log_repeats(runs[-1], repeats)
        return {number: runs[-1].info.run_id for number, runs in found.items() if runs}

    def list_repeats(self, number: int, *, first: int | None = None) -> list[RunSummary]:
        """List the finished runs of a trial in the order of their seeds.

        Of a seed that ran again after an interruption only the last run is listed.

        Args:
            number: of the trial.
            first: of its first seeds alone, so many.

        """
        runs = self._find(number)
        return _last_of_each_seed(
            runs if first is None else [run for run in runs if _repeat(run)[0] < first]
        )

    def list_all_repeats(self) -> dict[int, list[RunSummary]]:
        """List the finished runs of every trial, as :meth:`list_repeats` does."""
        return {number: _last_of_each_seed(runs) for number, runs in self._find_all().items()}

    def _find(self, number: int) -> list[Run]:
        """Find the runs of a trial in the order of its repeats."""
        # Finals are few, and those of older versions have one number only.
        condition = "" if self._of_finals else f" and tags.`{TRIAL}` = '{number}'"
        found = [r for r in self._search(condition) if self._trials[r.info.run_id] == number]
        return sorted(found, key=_repeat)

    def _find_all(self) -> dict[int, list[Run]]:
        """Find the runs of all trials by number, with one search."""
        found = defaultdict(list)
        for run in self._search(""):
            if (number := self._trials[run.info.run_id]) is not None:
                found[number].append(run)
        return {number: sorted(runs, key=_repeat) for number, runs in found.items()}

    def _search(self, condition: str) -> Iterator[Run]:
        token = None
        while True:
            page = self._client.search_runs(
                [self._parent.experiment_id],
                f"tags.`{PARENT}` = '{self._parent.run_id}'{condition}",
                max_results=_PAGE_SIZE,
                page_token=token,
            )
            for run in page:
                self._note(run)
                yield run
            token = page.token
            if not token:
                return

    def _set_ending(self, run: Run, trial: FrozenTrial) -> None:
        """Give a run the status and tags of its finished trial, whatever they were before."""
        run_id, status = run.info.run_id, _status_of(trial)
        state = "FAILED" if trial.state is TrialState.FAIL else trial.state.name
        if state_of(trial) == "infeasible":
            state = "INFEASIBLE"
        tags = {STATE: state}
        if status == "FAILED":
            for name in _OF_FAILURE:
                found = trial.user_attrs.get(name.removeprefix("tunetrail."), "unknown")
                tags[name] = cut_tag(str(found))
        if changed := {k: v for k, v in tags.items() if run.data.tags.get(k) != v}:
            RunLog(self._client, run).tags(changed)
        for name in _OF_FAILURE:
            if name in run.data.tags and name not in tags:
                self._client.delete_tag(run_id, name)
        if run.info.status in ("RUNNING", "SCHEDULED"):
            # The clock of the machine that closed the trial may be behind that of the run.
            ended = max(run.info.start_time, _milliseconds(trial.datetime_complete))
            self._client.set_terminated(run_id, status, end_time=ended)
            release(self._client, run_id, list_tags(run))
        elif run.info.status != status:
            self._client.update_run(run_id, status=status)  # keeps its end time

    def _complete_reused(
        self, trial: FrozenTrial, runs: list[Run], found: Mapping[int, list[Run]]
    ) -> list[Run]:
        """Give a reused trial, which never ran, a run with the numbers of its source."""
        number = int(trial.user_attrs[attributes.REUSED_FROM])
        if runs and runs[-1].info.status == _status_of(trial):
            return runs
        sources = found.get(number) or self._find(number)
        # A run that is there was left incomplete by a killed process.
        run = runs[-1] if runs else self._create_reused(trial, number, sources)
        if sources:
            run_log = RunLog(self._client, run)
            copy_datasets(run_log, sources[-1])
            run_log.params(sources[-1].data.params)
            measured = sources[-1].data.metrics.items()
            run_log.metrics({name: v for name, v in measured if not name.startswith(PREFIX)})
        self._set_ending(run, trial)
        return [run]

    def _create_reused(self, trial: FrozenTrial, number: int, sources: list[Run]) -> Run:
        tags = {
            "mlflow.source.name": "train.py",
            "mlflow.source.type": "LOCAL",
            PARENT: self._parent.run_id,
            TRIAL: str(trial.number),
            ROLE: "trial",
            STUDY: self._study,
        }
        reference, own = reference_of(trial), None
        if reference is not None:
            tags[REFERENCE] = reference
        if sources:
            own = find_own_name(sources[-1].info.run_name, number)
            tags[REUSED_FROM] = sources[-1].info.run_id
            if (verdict := sources[-1].data.tags.get(VERDICT)) is not None:
                tags[VERDICT] = verdict
        tags |= tag_first(self._describe_reused(trial, number, sources))
        name = name_trial(trial.number, trial.params, reference=reference, own=own)
        run = self._client.create_run(self._parent.experiment_id, run_name=redact(name), tags=tags)
        self._note(run)
        return run

    def _describe_reused(self, trial: FrozenTrial, number: int, sources: list[Run]) -> str:
        experiment_id, source, rerun = self._parent.experiment_id, f"trial {number}", ""
        study = link_to_run(self._study, experiment_id, self._parent.run_id)
        if sources:
            run_id = sources[-1].info.run_id
            source, rerun = link_to_run(source, experiment_id, run_id), say_rerun(run_id)
        same = f"Same point as {source}, so it was not trained again: it has the same result."
        return join_paragraphs([same, say_trial(trial.number, study, trial.params), rerun])

    def _log_repeats(self, run: Run, repeats: list[list[float]]) -> None:
        """Log mean and sample standard deviation over seeds, and a table of the values."""
        names = [f"seeds/{name}_mean" for name in self._objectives]
        if set(names) <= set(run.data.metrics):
            return
        table = pd.DataFrame(repeats, columns=self._objectives)
        run_log = RunLog(self._client, run)
        run_log.shown_table(table.rename_axis("repeat").reset_index(), "reports/seeds.json")
        # Last, because their presence means that all of it is there.
        deviations = [f"seeds/{name}_std" for name in self._objectives]
        spread = dict(zip(deviations, table.std(), strict=True)) if len(table) > 1 else {}
        run_log.metrics(spread | dict(zip(names, table.mean(), strict=True)))

    def delete_weights(self, find_unneeded: Callable[[], set[int]]) -> None:
        """Delete weights, adapters and interactive pages of unneeded trials; their numbers stay.

        Registered weights stay: they belong to the registry.

        Args:
            find_unneeded: returns the numbers of the trials. It is called after the models are
                listed, so that it knows every trial that has logged one of them.

        """
        models = list(list_models(self._client, self._parent.experiment_id))
        unneeded = find_unneeded()
        for model in models:
            run_id = str(model.source_run_id)
            if self.trial_of(run_id) in unneeded and not is_registered(self._client, model):
                with self._unless_refused(model.model_id):
                    remove_model(self._client, model)
                self._with_page.add(run_id)
        for run_id in list(self._with_page):
            if self.trial_of(run_id) in unneeded:
                with self._unless_refused(run_id):
                    self._delete_artifacts(run_id)
                self._with_page.discard(run_id)

    @contextlib.contextmanager
    def _unless_refused(self, name: str) -> Iterator[None]:
        """Say once what is not deleted because the store names a wrong place for it."""
        try:
            yield
        except InputError as error:
            if name not in self._refused:
                log.warning("not deleted: %s", error)
                self._refused.add(name)

    def _delete_artifacts(self, run_id: str) -> None:
        run = self._client.get_run(run_id)
        repository = get_artifact_repository(locate_run(self._client, run))
        for folder in (None, "figures"):
            for artifact in self._client.list_artifacts(run_id, folder):
                if artifact.path == ADAPTER or artifact.path.endswith(".html"):
                    repository.delete_artifacts(artifact.path)
        self._client.set_tag(run_id, KEPT, "false")

    def trial_of(self, run_id: str) -> int | None:
        """Return the number of a run's trial; None if the study has no such run."""
        if run_id not in self._trials:
            try:
                self._note(self._client.get_run(run_id))
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
                self._trials[run_id] = None
        return self._trials[run_id]

    def _note(self, run: Run) -> None:
        tags, run_id = run.data.tags, run.info.run_id
        number = tags.get(FINALS_TRIAL) or tags.get(TRIAL, "")
        ours = tags.get(PARENT) == self._parent.run_id and number.isdecimal()
        self._trials[run_id] = int(number) if ours else None
        if ours and tags.get(KEPT) == "true":
            self._with_page.add(run_id)


def _status_of(trial: FrozenTrial) -> str:
    """Return the status of the runs of a finished trial."""
    failed = trial.state is TrialState.FAIL or state_of(trial) == "infeasible"
    return "FAILED" if failed else "FINISHED"


def _repeat(run: Run) -> tuple[int, int]:
    repeat = run.data.tags.get(REPEAT, "0")
    return int(repeat) if repeat.isdecimal() else 0, run.info.start_time


def _last_of_each_seed(runs: Sequence[Run]) -> list[RunSummary]:
    finished = {_repeat(run)[0]: run for run in runs if _is_finished(run)}
    return [read_run(run) for run in finished.values()]


def _is_finished(run: Run) -> bool:
    return str(run.info.status) == "FINISHED"


def _milliseconds(moment: datetime | None) -> int:
    return int((time.time() if moment is None else moment.timestamp()) * 1000)
