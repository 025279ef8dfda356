"""The runs of a study's trials, as children of its parent run: found, closed, copied, lightened."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study import attributes
from tunetrail.studies.states import state_of
from tunetrail.tracking.models import is_registered, list_models, remove_model
from tunetrail.tracking.store import KEPT, RunLog, RunSummary, cut_tag, read_run

_PARENT = "mlflow.parentRunId"
_TRIAL = "tunetrail.trial"
_REPEAT = "tunetrail.repeat"
_PAGE_SIZE = 1000
# Tags that only some endings have: whoever ended otherwise must not keep one.
_OF_FAILURE = {f"tunetrail.{name}": name for name in (attributes.FAILURE, attributes.FAILURE_KIND)}


@dataclass(frozen=True)
class Ending:
    """How a trial was told, in the words of a run."""

    status: str  # FINISHED or FAILED
    tags: Mapping[str, str]
    ended: datetime | None


def read_ending(trial: FrozenTrial) -> Ending:
    """Translate how a trial was told into what its runs have to say."""
    failure = {tag: str(trial.user_attrs.get(name, "unknown")) for tag, name in _OF_FAILURE.items()}
    failed = trial.state is TrialState.FAIL
    infeasible = state_of(trial) == "infeasible"
    state = "FAILED" if failed else "INFEASIBLE" if infeasible else trial.state.name
    return Ending(
        status="FAILED" if failed or infeasible else "FINISHED",
        tags={"tunetrail.state": state, **(failure if failed or infeasible else {})},
        ended=trial.datetime_complete,
    )


class TrialRuns:
    """The children of a study's parent run."""

    def __init__(self, parent: RunLog, *, study: str, objectives: Sequence[str]) -> None:
        self._parent = parent
        self._client = parent.client
        self._study = study
        self._objectives = list(objectives)
        # Run -> number of its trial; None for a run of no trial of this study.
        self._trials: dict[str, int | None] = {}
        self._with_page: set[str] = set()

    def bring_in_line(self, trials: Sequence[FrozenTrial]) -> dict[int, str]:
        """Make the runs of told trials say how these ended, whatever killed whom in between.

        A few trials are looked up one by one, many with one search for all.

        Returns:
            The run of each trial, the last one of a trial with repeats.

        """
        if len(trials) > 1:
            found = self._find_all()
        else:
            found = {trial.number: self._find(trial.number) for trial in trials}
        for trial in trials:
            runs = found.setdefault(trial.number, [])
            ending = read_ending(trial)
            if attributes.REUSED_FROM in trial.user_attrs:
                found[trial.number] = self._complete_copy(trial, runs, found, ending)
                continue
            for run in runs:
                self._settle(run, ending)
            repeats = trial.user_attrs.get(attributes.REPEATS)
            if runs and repeats and trial.state is TrialState.COMPLETE:
                self._log_repeats(runs[-1], repeats)
        return {number: runs[-1].info.run_id for number, runs in found.items() if runs}

    def list_repeats(self, number: int) -> list[RunSummary]:
        """List the runs of a trial that ended well, in the order of their seeds.

        A seed that was run again after an interruption is listed once, as it ran last.
        """
        runs = {_repeat(run)[0]: run for run in self._find(number) if _is_finished(run)}
        return [read_run(run) for run in runs.values()]

    def _find(self, number: int) -> list[Run]:
        """Find the runs of a trial in the order of its repeats, noted in the study or not."""
        return sorted(self._search(f" and tags.`{_TRIAL}` = '{number}'"), key=_repeat)

    def _find_all(self) -> dict[int, list[Run]]:
        """Find the runs of all trials, by number, with one search."""
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
                f"tags.`{_PARENT}` = '{self._parent.run_id}'{condition}",
                max_results=_PAGE_SIZE,
                page_token=token,
            )
            for run in page:
                self._note(run)
                yield run
            token = page.token
            if not token:
                return

    def _settle(self, run: Run, ending: Ending) -> None:
        """Make a run say how its trial ended, whatever it said before."""
        run_id = run.info.run_id
        tags = {name: cut_tag(value) for name, value in ending.tags.items()}
        if changed := {k: v for k, v in tags.items() if run.data.tags.get(k) != v}:
            RunLog(self._client, run).tags(changed)
        for name in _OF_FAILURE:
            if name in run.data.tags and name not in tags:
                self._client.delete_tag(run_id, name)
        if run.info.status in ("RUNNING", "SCHEDULED"):
            self._client.set_terminated(run_id, ending.status, end_time=_milliseconds(ending.ended))
        elif run.info.status != ending.status:
            self._client.update_run(run_id, status=ending.status)  # which keeps its end

    def _complete_copy(
        self,
        trial: FrozenTrial,
        runs: list[Run],
        found: Mapping[int, list[Run]],
        ending: Ending,
    ) -> list[Run]:
        """Give a trial that was told again without running a run with its source's numbers."""
        number = int(trial.user_attrs[attributes.REUSED_FROM])
        if runs and runs[-1].info.status == ending.status:
            return runs
        sources = found.get(number) or self._find(number)
        # What is there was left half written by a killed process.
        run = runs[-1] if runs else self._create_copy(trial.number, sources)
        if sources:
            run_log = RunLog(self._client, run)
            run_log.params(sources[-1].data.params)
            run_log.metrics(sources[-1].data.metrics)
        self._settle(run, ending)
        return [run]

    def _create_copy(self, number: int, sources: list[Run]) -> Run:
        tags = {
            "mlflow.source.name": "train.py",
            "mlflow.source.type": "LOCAL",
            _PARENT: self._parent.run_id,
            _TRIAL: str(number),
            "tunetrail.study": self._study,
        }
        if sources:
            tags["tunetrail.reused_from"] = sources[-1].info.run_id
        run = self._client.create_run(
            self._parent.experiment_id, run_name=f"trial-{number}", tags=tags
        )
        self._note(run)
        return run

    def _log_repeats(self, run: Run, repeats: list[list[float]]) -> None:
        """Log mean and sample standard deviation over seeds, and the table of both."""
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

    def lighten(self, may_go: Callable[[], Callable[[int], bool]]) -> None:
        """Remove weights and interactive pages of trials that may go; their numbers stay.

        Weights that were registered belong to the registry: its version is nothing without them.

        Args:
            may_go: called once the models are listed, and only then, so that a trial which ended
                meanwhile is judged by how it ended; gives what tells for a trial's number.

        """
        models = list(list_models(self._client, self._parent.experiment_id))
        is_over = may_go()
        for model in models:
            run_id = str(model.source_run_id)
            number = self._trial_of(run_id)
            if number is None or not is_over(number):
                continue
            # What the registry hands out is no longer this study's to remove.
            if not is_registered(self._client, model):
                remove_model(self._client, model)
                self._with_page.add(run_id)
        for run_id in list(self._with_page):
            number = self._trial_of(run_id)
            if number is not None and is_over(number):
                self._remove_pages(run_id)
                self._with_page.discard(run_id)

    def belonging(self, folders: Iterable[Path]) -> Iterator[tuple[Path, int]]:
        """Pick the folders that are named after a run of this study, with the trial's number."""
        for folder in folders:
            number = self._trial_of(folder.name)
            if number is not None:
                yield folder, number

    def _remove_pages(self, run_id: str) -> None:
        run = self._client.get_run(run_id)
        repository = get_artifact_repository(run.info.artifact_uri)
        for artifact in self._client.list_artifacts(run_id, "figures"):
            if artifact.path.endswith(".html"):
                repository.delete_artifacts(artifact.path)
        self._client.set_tag(run_id, KEPT, "false")

    def _trial_of(self, run_id: str) -> int | None:
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
        number = tags.get(_TRIAL, "")
        ours = tags.get(_PARENT) == self._parent.run_id and number.isdecimal()
        self._trials[run_id] = int(number) if ours else None
        if ours and tags.get(KEPT) == "true":
            self._with_page.add(run_id)


def _repeat(run: Run) -> tuple[int, int]:
    return int(run.data.tags.get(_REPEAT, 0)), run.info.start_time


def _is_finished(run: Run) -> bool:
    return str(run.info.status) == "FINISHED"


def _milliseconds(moment: datetime | None) -> int:
    return int((time.time() if moment is None else moment.timestamp()) * 1000)
