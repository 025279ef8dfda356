"""Which page of MLflow shows what a person asks for: a study's view, or a run."""

from dataclasses import dataclass

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tunetrail.config.secrets import redact
from tunetrail.config.store_key import store_key
from tunetrail.errors import InputError, did_you_mean
from tunetrail.tracking.run_ids import complete_run_id
from tunetrail.tracking.store import (
    connect_existing,
    look_up,
    not_vital,
    require_active,
    store_errors,
)
from tunetrail.tracking.tags import PARENT, STUDY, TRIAL
from tunetrail.tracking.views import has_view, mark_kind, try_save_view, view_key

# The toggle of MLflow's pages between agents and model training stands in the address.
_TRAINING = "workflowType=machine_learning"
# Runs that are looked through for names like one that is not there.
_MOST_NAMES = 1000
# The finals of a study are below it, and their runs below these.
_DEEPEST = 4


@dataclass(frozen=True)
class Address:
    """The address of a page of MLflow.

    Attributes:
        title: what it shows.
        path: what follows the address of a server.

    """

    title: str
    path: str


def find_page(asked: str | None, *, uri: str) -> Address:
    """Find the page that shows a study or a run.

    The view of a study and the kind of its experiment are written first. Where the store refuses
    them, a study that has no view yet is shown by the page of its run.

    Args:
        asked: the name of a study, the name of a run, its id or the first 8 digits or more; None
            for the newest study, or the newest run where there is no study.
        uri: of the store.

    Raises:
        InputError: there is no store, nothing in it, or nothing of that name.

    """
    client = connect_existing(uri)
    with store_errors(uri):
        experiments = [found.experiment_id for found in client.search_experiments()]
        found = _Finder(client, experiments)
        run = found.newest() if asked is None else found.named(asked)
        if run is None and asked is None:
            raise InputError(f"{redact(uri)} has no run yet; python train.py makes one")
        if run is None:
            near = did_you_mean(str(asked), found.list_names())
            raise InputError(
                f"no study and no run {asked} in {redact(uri)}{near}; without a name the newest "
                f"study is opened, {store_key()} names another store"
            )
        require_active(client, run)
        is_name = asked is None or asked == run.data.tags.get(STUDY)
        by_id = not is_name and str(run.info.run_id).startswith(str(asked))
        return _show(client, run, as_study=_is_study(run) and not by_id)


def _show(client: MlflowClient, run: Run, *, as_study: bool) -> Address:
    place, run_id = f"/#/experiments/{run.info.experiment_id}/runs", run.info.run_id
    if as_study:
        try_save_view(client, run_id)
        # Asked for a view that is not there, MLflow would show another page.
        if has_view(client, run):
            shown = f"viewStateShareKey={view_key(run_id)}&compareRunsMode=CHART&{_TRAINING}"
            return Address(f"study {run.data.tags[STUDY]}", f"{place}?{shown}")
    else:
        with not_vital("the kind of the experiment"):
            mark_kind(client, client.get_experiment(run.info.experiment_id))
    return Address(f"run {run.info.run_name} ({run_id})", f"{place}/{run_id}?{_TRAINING}")


def _is_study(run: Run) -> bool:
    return STUDY in run.data.tags and TRIAL not in run.data.tags


class _Finder:
    """Looks for runs in all experiments, the newest first."""

    def __init__(self, client: MlflowClient, experiments: list[str]) -> None:
        self._client = client
        self._experiments = experiments

    def newest(self) -> Run | None:
        """Find the study of the newest trial, else the newest run."""
        found = self._search(f"tags.`{STUDY}` != ''")
        study = self._climb(found[0]) if found else None
        return study or next(iter(self._search("")), None)

    def named(self, asked: str) -> Run | None:
        if (quoted := _quote(asked)) is None:
            return None
        for run in self._search(f"tags.`{STUDY}` = {quoted}"):
            if (study := self._climb(run, name=asked)) is not None:
                return study
        if (run_id := complete_run_id(self._client, asked)) is not None:
            return look_up(self._client.get_run, run_id)
        return next(iter(self._search(f"attributes.run_name = {quoted}")), None)

    def list_names(self) -> set[str]:
        """List the names of studies and of runs, of the newest runs."""
        runs = self._search("", most=_MOST_NAMES)
        names = {run.data.tags.get(STUDY) for run in runs} | {run.info.run_name for run in runs}
        return {name for name in names if name}

    def _search(self, condition: str, *, most: int = 1) -> list[Run]:
        if not self._experiments:
            return []
        return list(
            self._client.search_runs(
                self._experiments, condition, max_results=most,
                order_by=["attributes.start_time DESC"],
            )
        )  # fmt: skip

    def _climb(self, run: Run, *, name: str | None = None) -> Run | None:
        """Find the study of a run: the one of that name, else the topmost; None: it is gone."""
        study = None
        for _ in range(_DEEPEST):
            if _is_study(run) and run.info.lifecycle_stage != "deleted":
                study = run
                if run.data.tags[STUDY] == name:
                    break
            parent = run.data.tags.get(PARENT)
            above = None if parent is None else look_up(self._client.get_run, parent)
            if above is None:
                break
            run = above
        return study


def _quote(name: str) -> str | None:
    """Write a name as MLflow's conditions take it; None if it has quotes of both kinds."""
    marks = [mark for mark in "'\"" if mark not in name]
    return f"{marks[0]}{name}{marks[0]}" if marks else None
