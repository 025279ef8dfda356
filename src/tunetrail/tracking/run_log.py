"""The run log: one MLflow run open for writing."""

import contextlib
import io
import json
import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from tunetrail.config.paths import locate
from tunetrail.config.scratch import scratch
from tunetrail.config.secrets import redact
from tunetrail.config.store_key import store_key
from tunetrail.errors import InputError, chain_of, describe
from tunetrail.templates.figures import draw
from tunetrail.tracking import processes
from tunetrail.tracking.artifacts import Artifacts
from tunetrail.tracking.confinement import locate_run
from tunetrail.tracking.descriptions import append_cause
from tunetrail.tracking.store import (
    ask_server,
    connect,
    connect_existing,
    explain_loss,
    find_outage,
    look_up,
    make_folder,
    outage_error,
    require_active,
    say_restore,
    store_errors,
)
from tunetrail.tracking.tags import PARENT, STUDY, TRIAL
from tunetrail.tracking.views import KIND, mark_kind

log = logging.getLogger(__name__)

# Tag of a run that has an interactive page and, with tracking.log_model, weights.
KEPT = "tunetrail.kept"
# Artifact folder of a run whose method trains something beside the model.
ADAPTER = "adapter"
# Config groups whose choice is a tag of the run.
CHOICES = ("experiment", "approach", "task", "data", "model", "method")
# Validation rows of a run that has measured the untuned model.
UNTUNED_ROWS = "predictions/validation_untuned.parquet"
# Labels that are probably wrong, worst first.
SUSPECTS = "reports/suspects.csv"
# Tag of a run whose test scores are complete.
TEST_SCORED = "tunetrail.test_scored"

# MLflow's limits.
_PARAMS_PER_BATCH, _METRICS_PER_BATCH = 100, 1000
_PARAM_LENGTH = 6000
_TAG_LENGTH = 5000


class RunLog:
    """One MLflow run that is open for writing. Nothing is buffered.

    Params, tags, texts and data are written without their secrets, tables and figures as they are.
    """

    def __init__(self, client: MlflowClient, run: Run) -> None:
        self.client = client
        self.artifact_uri = locate_run(client, run)
        self.run_id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.name: str = run.info.run_name
        self.started: int = run.info.start_time
        self.tags_at_start: Mapping[str, str] = run.data.tags
        self.take_samples: Callable[[], list[Metric]] = list

    def close(self, status: str, *, failure: str | None = None) -> None:
        """End the run.

        Args:
            status: FINISHED, FAILED or KILLED.
            failure: the cause, for the tag ``tunetrail.failure``.

        Raises:
            InputError: the store cannot be used.

        """
        with store_errors(self.client.tracking_uri):
            if failure is not None:
                self.tags({"tunetrail.failure": failure})
            self.client.set_terminated(self.run_id, status)
            if failure is not None:
                append_cause(self.client, self.run_id, status.capitalize(), failure)
            processes.release(self.client, self.run_id, processes.own_tag())

    def params(self, values: Mapping[str, Any]) -> None:
        """Log params; a value is cut at MLflow's limit of 6,000 characters."""
        rows = [
            Param(key, str(value)[:_PARAM_LENGTH]) for key, value in redact(dict(values)).items()
        ]
        for start in range(0, len(rows), _PARAMS_PER_BATCH):
            self.client.log_batch(self.run_id, params=rows[start : start + _PARAMS_PER_BATCH])

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Log the numbers of one optimizer step, and what ``take_samples`` returns."""
        now = int(time.time() * 1000)
        rows = [Metric(key, float(value), now, step) for key, value in values.items()]
        rows += self.take_samples()
        for start in range(0, len(rows), _METRICS_PER_BATCH):
            self.client.log_batch(self.run_id, rows[start : start + _METRICS_PER_BATCH])

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags; the project's own begin with ``tunetrail.``."""
        rows = [RunTag(key, cut_tag(value)) for key, value in values.items()]
        self.client.log_batch(self.run_id, tags=rows)

    def text(self, text: str, path: str) -> None:
        """Write a text artifact."""
        self.client.log_text(self.run_id, redact(text), path)

    def data(self, values: Mapping[str, Any], path: str) -> None:
        """Write a JSON artifact."""
        plain = redact(dict(values))
        text = json.dumps(plain, indent=2, ensure_ascii=False, default=str) + "\n"
        self.client.log_text(self.run_id, text, path)

    def figure(self, figure: Figure, path: str) -> None:
        """Write a figure as PNG at 150 dpi."""
        self.content(draw(figure), path)

    def page(self, figures: list[go.Figure], path: str) -> None:
        """Write interactive figures as one page of about 5 MB that needs no network."""
        parts = [
            figure.to_html(full_html=False, include_plotlyjs=index == 0)
            for index, figure in enumerate(figures)
        ]
        head = '<!doctype html><html><head><meta charset="utf-8"></head><body>'
        # Not through self.text: only the titles are ours, and megabytes of JavaScript take long.
        page = head + "\n".join(parts) + "</body></html>\n"
        self.client.log_text(self.run_id, page, path)

    def shown_table(self, frame: pd.DataFrame, path: str) -> None:
        """Write a table that MLflow's UI shows as one; an earlier one is replaced."""
        self.text(frame.to_json(orient="split", index=False), path)
        name, this = "mlflow.loggedArtifacts", {"path": path, "type": "table"}
        shown = json.loads(self.client.get_run(self.run_id).data.tags.get(name, "[]"))
        if this not in shown:
            self.client.set_tag(self.run_id, name, json.dumps([*shown, this]))

    def read_shown_table(self, path: str) -> pd.DataFrame | None:
        """Read a table that :meth:`shown_table` wrote; None if there is none."""
        found = Artifacts(self.client, self.client.get_run(self.run_id)).mapping(path)
        return None if found is None else pd.DataFrame(found["data"], columns=found["columns"])

    def table(self, frame: pd.DataFrame, path: str) -> None:
        """Write a table as Parquet."""
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        self.content(buffer.getvalue(), path)

    def folder(self, folder: Path, path: str) -> None:
        """Copy all files of a folder."""
        self.client.log_artifacts(self.run_id, str(folder), path)

    def content(self, content: bytes, path: str) -> None:
        """Write bytes as they are."""
        with scratch() as folder:
            file = folder / Path(path).name
            file.write_bytes(content)
            self.client.log_artifact(self.run_id, str(file), str(Path(path).parent))


@contextlib.contextmanager
def open_run(
    *,
    uri: str,
    experiment: str,
    artifact_dir: str,
    name: str | None = None,
    run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    no_failure: type[Exception] | tuple[type[Exception], ...] = (),
) -> Iterator[RunLog]:
    """Create a run, or reopen ``run_id``, and close it with its status.

    The run is FINISHED when the block ends, FAILED if it raises, KILLED if the process is stopped.
    ``tunetrail.failure`` has the cause.

    Args:
        no_failure: exceptions that end a run early as planned, such as a pruned trial.

    Raises:
        InputError: the store cannot be used, or has no such run.
        OutageError: the server does not answer any more.

    """
    run_log = (
        create_run(
            uri=uri, experiment=experiment, artifact_dir=artifact_dir, name=name, tags=tags or {}
        )
        if run_id is None
        else reopen_run(uri=uri, run_id=run_id, alone=True)
    )
    try:
        with closed_at_end(run_log, no_failure=no_failure):
            yield run_log
    except Exception as error:
        if (cause := find_outage(error)) is not None:
            raise outage_error(uri, cause) from error
        if (lost := explain_loss(run_log.client, run_log.run_id, error)) is not None:
            raise lost from error
        raise


@contextlib.contextmanager
def closed_at_end(
    run_log: RunLog, *, no_failure: type[Exception] | tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Close a run with the status of the block: see open_run."""
    try:
        yield
    except no_failure as early:
        append_cause(run_log.client, run_log.run_id, "Pruned", describe(early))
        run_log.close("FINISHED")
        raise
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        if status == "KILLED":
            # A signal may come in the middle of a statement, which locks the database for as long
            # as a frame of the traceback holds its cursor.
            for link in chain_of(error):
                traceback.clear_frames(link.__traceback__)
        # The store may be what failed: another error of it must not hide the first one, and
        # nobody waits twice for a server that is down.
        if ask_server(run_log.client.tracking_uri) is None:
            with contextlib.suppress(Exception):
                run_log.close(status, failure=describe(error))
        raise
    run_log.close("FINISHED")


def create_run(
    *, uri: str, experiment: str, artifact_dir: str, name: str | None, tags: Mapping[str, str]
) -> RunLog:
    """Create a run that stays open, such as the parent of a study.

    Raises:
        InputError: the store cannot be used.

    """
    client = connect(uri)
    if not uri.startswith("http"):
        make_folder(locate(artifact_dir), key=f"tracking.artifact_dir={artifact_dir}")
    with store_errors(uri):
        parent = tags.get(PARENT)
        experiment_id = (
            _experiment_id(client, experiment, artifact_dir=artifact_dir, uri=uri)
            if parent is None
            # The study's may have been renamed, or tracking.experiment changed since.
            else _find_run(uri, parent)[1].info.experiment_id
        )
        tags = {"mlflow.source.name": "train.py", "mlflow.source.type": "LOCAL", **tags}
        tags |= processes.own_tag()
        run = client.create_run(experiment_id, run_name=redact(name), tags=redact(dict(tags)))
        return RunLog(client, run)


class ForeignRunError(InputError):
    """A study names a run that is another's."""


def reopen_run(*, uri: str, run_id: str, study: str | None = None, alone: bool = False) -> RunLog:
    """Open an earlier run again; its status is RUNNING from now on.

    Args:
        uri: of the store.
        run_id: of the run.
        study: whose run it must be: the study names it, and others may write to that.
        alone: no other process can hold it.

    Raises:
        ForeignRunError: it is not the run of that study.
        InputError: the store cannot be used, or has no such run.

    """
    client, run = _find_run(uri, run_id)
    tags = run.data.tags
    if study is not None and (tags.get(STUDY) != study or TRIAL in tags):
        raise ForeignRunError(
            f"study {study} names run {run_id} as its own, which is another's; refused: start a "
            "study with a new name"
        )
    with store_errors(uri):
        # First, so that no moment shows a run that is RUNNING and held by nobody.
        client.log_batch(run_id, tags=[RunTag(*tag) for tag in processes.own_tag().items()])
        client.update_run(run_id, status="RUNNING")
        others = processes.list_tags(run).keys() - processes.own_tag().keys()
        processes.release(client, run_id, others if alone else processes.list_ended(run))
        if "tunetrail.failure" in run.data.tags:
            client.delete_tag(run_id, "tunetrail.failure")
    return RunLog(client, run)


@dataclass(frozen=True)
class RunSummary:
    """Id, tags and last metrics of a run."""

    run_id: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]


def read_run(run: Run) -> RunSummary:
    return RunSummary(run.info.run_id, dict(run.data.tags), dict(run.data.metrics))


def add_to_run(*, uri: str, run_id: str) -> RunLog:
    """Open a run to add to it; its status stays as it is.

    Raises:
        InputError: the store cannot be used, or has no such run.

    """
    return RunLog(*_find_run(uri, run_id))


def _find_run(uri: str, run_id: str) -> tuple[MlflowClient, Run]:
    client = connect_existing(uri)
    with store_errors(uri):
        run = look_up(client.get_run, run_id)
        if run is None:
            raise InputError(
                f"run {run_id} is not in {redact(uri)}; give its store with {store_key()}"
            )
        require_active(client, run)
    return client, run


def require_interrupted(*, uri: str, run_id: str) -> None:
    """Check that a run is not FINISHED.

    The run of a killed process stays RUNNING: the store does not know whether it still trains.

    Raises:
        InputError: the store has no such run, or it is FINISHED.

    """
    _, run = _find_run(uri, run_id)
    if run.info.status == "FINISHED":
        raise InputError(f"resume={run_id}: the run is FINISHED; start a new one")


def close_abandoned(run_log: RunLog, checkpoint_dir: Path) -> None:
    """Close the runs of the same experiment that killed processes left RUNNING.

    Args:
        run_log: of a run that this process has open.
        checkpoint_dir: where this machine's runs keep their locks.

    """
    with store_errors(run_log.client.tracking_uri):
        closed = processes.close_abandoned(run_log.client, [run_log.experiment_id], checkpoint_dir)
    for run_id in closed:
        log.info("run %s is closed as KILLED: its process was killed", run_id)


def cut_tag(value: object) -> str:
    """Return a tag's value without secrets, cut at MLflow's limit of 5,000 characters."""
    return redact(str(value))[:_TAG_LENGTH]


def _experiment_id(client: MlflowClient, experiment: str, *, artifact_dir: str, uri: str) -> str:
    found = client.get_experiment_by_name(experiment)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            how = say_restore(uri, f"experiments restore -x {found.experiment_id}")
            raise InputError(
                f"tracking.experiment={experiment} was deleted; {how}, or choose another name"
            )
        mark_kind(client, found)
        return str(found.experiment_id)
    location = None
    if not uri.startswith("http"):
        location = locate(artifact_dir).resolve().as_uri()
    try:
        return str(client.create_experiment(experiment, artifact_location=location, tags=KIND))
    except MlflowException:
        # Another worker has just created it.
        found = client.get_experiment_by_name(experiment)
        if found is None:
            raise
        return str(found.experiment_id)
