"""The run log: one MLflow run open for writing."""

import contextlib
import io
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from tunetrail.config.secrets import redact
from tunetrail.errors import InputError
from tunetrail.tracking.store import (
    ask_server,
    connect,
    find_outage,
    look_up,
    make_folder,
    outage_error,
    store_errors,
)

# Tag of a run that holds an interactive page and, if tracking.log_model, weights.
KEPT = "tunetrail.kept"
# Tag of a run that holds all there is to know about its model on the test split.
TEST_SCORED = "tunetrail.test_scored"

# One call of MLflow takes no more than these.
_PARAMS_PER_BATCH = 100
_PARAM_LENGTH = 6000
_TAG_LENGTH = 5000


class RunLog:
    """One MLflow run that is open for writing. Nothing it writes is buffered.

    Params, tags, texts and data are written without the secrets in them; tables, figures and raw
    content as they are.
    """

    def __init__(self, client: MlflowClient, run: Run) -> None:
        self.client = client
        self.run_id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.name: str = run.info.run_name
        self.artifact_uri: str = run.info.artifact_uri

    def params(self, values: Mapping[str, Any]) -> None:
        """Log the leaves of a config; a value is cut at MLflow's limit of 6,000 characters."""
        rows = [
            Param(key, str(value)[:_PARAM_LENGTH]) for key, value in redact(dict(values)).items()
        ]
        for start in range(0, len(rows), _PARAMS_PER_BATCH):
            self.client.log_batch(self.run_id, params=rows[start : start + _PARAMS_PER_BATCH])

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Log numbers that belong to one optimizer step."""
        now = int(time.time() * 1000)
        rows = [Metric(key, float(value), now, step) for key, value in values.items()]
        self.client.log_batch(self.run_id, metrics=rows)

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags; those of the project begin with ``tunetrail.``."""
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
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight")
        self.content(buffer.getvalue(), path)

    def page(self, figures: list[go.Figure], path: str) -> None:
        """Write interactive figures as one page that needs no network (about 5 MB)."""
        parts = [
            figure.to_html(full_html=False, include_plotlyjs=index == 0)
            for index, figure in enumerate(figures)
        ]
        head = '<!doctype html><html><head><meta charset="utf-8"></head><body>'
        # Not through text: megabytes of the drawing library, and no text of ours but titles.
        page = head + "\n".join(parts) + "</body></html>\n"
        self.client.log_text(self.run_id, page, path)

    def shown_table(self, frame: pd.DataFrame, path: str) -> None:
        """Write a table as JSON that the MLflow UI shows as one; an earlier one is replaced."""
        self.text(frame.to_json(orient="split", index=False), path)
        shown = json.dumps([{"path": path, "type": "table"}])
        self.client.set_tag(self.run_id, "mlflow.loggedArtifacts", shown)

    def table(self, frame: pd.DataFrame, path: str) -> None:
        """Write a table as Parquet."""
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        self.content(buffer.getvalue(), path)

    def content(self, content: bytes, path: str) -> None:
        """Write bytes as they are."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / Path(path).name
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
    """Open a run, or an earlier one by ``run_id``, and close it with what became of it.

    FINISHED where the block ends, FAILED with the cause as ``tunetrail.failure`` where it raises,
    KILLED where the process is told to stop.

    Args:
        no_failure: exceptions that end a run early but as planned, such as a pruned trial.

    Raises:
        InputError: the store or the server cannot be used, or it has no such run.
        OutageError: the server was there and does not answer any more.

    """
    run_log = (
        create_run(
            uri=uri, experiment=experiment, artifact_dir=artifact_dir, name=name, tags=tags or {}
        )
        if run_id is None
        else reopen_run(uri=uri, run_id=run_id)
    )
    try:
        yield run_log
    except no_failure:
        with store_errors(uri):
            close_run(run_log, "FINISHED")
        raise
    except Exception as error:
        _close(run_log, uri, "FAILED", failure=f"{type(error).__name__}: {error}")
        if (cause := find_outage(error)) is not None:
            raise outage_error(uri, cause) from error
        raise
    except BaseException as stop:
        _close(run_log, uri, "KILLED", failure=type(stop).__name__)
        raise
    with store_errors(uri):
        close_run(run_log, "FINISHED")


def close_run(run_log: RunLog, status: str) -> None:
    """Close a run that several processes write to, and that no block holds open."""
    run_log.client.set_terminated(run_log.run_id, status)


def _close(run_log: RunLog, uri: str, status: str, *, failure: str) -> None:
    # A server that is gone is not waited for a second time.
    if ask_server(uri) is not None:
        return
    # The store itself may be what failed: the error that led here must not be hidden by another.
    with contextlib.suppress(Exception):
        run_log.tags({"tunetrail.state": status, "tunetrail.failure": failure})
        close_run(run_log, status)


def create_run(
    *, uri: str, experiment: str, artifact_dir: str, name: str | None, tags: Mapping[str, str]
) -> RunLog:
    """Create a run that stays open beyond this call, such as the parent of a study.

    Raises:
        InputError: the store or the server cannot be used.

    """
    client = connect(uri)
    if not uri.startswith("http"):
        make_folder(Path(artifact_dir), key=f"tracking.artifact_dir={artifact_dir}")
    with store_errors(uri):
        experiment_id = _experiment_id(client, experiment, artifact_dir=artifact_dir, uri=uri)
        tags = {"mlflow.source.name": "train.py", "mlflow.source.type": "LOCAL", **tags}
        run = client.create_run(experiment_id, run_name=redact(name), tags=redact(dict(tags)))
        return RunLog(client, run)


def reopen_run(*, uri: str, run_id: str) -> RunLog:
    """Open an earlier run for writing again.

    Raises:
        InputError: the store cannot be used, or has no such run.

    """
    client, run = _find_run(uri, run_id)
    with store_errors(uri):
        client.update_run(run_id, status="RUNNING")
        if "tunetrail.failure" in run.data.tags:
            client.delete_tag(run_id, "tunetrail.failure")
    return RunLog(client, run)


@dataclass(frozen=True)
class RunSummary:
    """What a run says of itself."""

    run_id: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]


def read_run(run: Run) -> RunSummary:
    return RunSummary(run.info.run_id, dict(run.data.tags), dict(run.data.metrics))


def add_to_run(*, uri: str, run_id: str) -> RunLog:
    """Open a run to add to it: its status and its end stay as they are.

    Raises:
        InputError: the store cannot be used, or has no such run.

    """
    return RunLog(*_find_run(uri, run_id))


def _find_run(uri: str, run_id: str) -> tuple[MlflowClient, Run]:
    client = connect(uri)
    with store_errors(uri):
        run = look_up(client.get_run, run_id)
    if run is None:
        raise InputError(
            f"run {run_id} is not in {redact(uri)}; set tracking.uri to the store that holds it"
        )
    return client, run


def require_interrupted(*, uri: str, run_id: str) -> None:
    """Check that a run did not come to its end.

    One whose process was killed stays RUNNING: the store cannot tell whether it still trains.

    Raises:
        InputError: the store has no such run, or it finished.

    """
    _, run = _find_run(uri, run_id)
    if run.info.status == "FINISHED":
        raise InputError(f"resume={run_id}: this run is FINISHED; start a new one")


def cut_tag(value: object) -> str:
    """Write a tag's value as MLflow takes it: 5,000 characters at most, and no secrets."""
    return redact(str(value))[:_TAG_LENGTH]


def _experiment_id(client: MlflowClient, experiment: str, *, artifact_dir: str, uri: str) -> str:
    found = client.get_experiment_by_name(experiment)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            raise InputError(
                f"tracking.experiment={experiment} was deleted; restore it with `mlflow "
                f"experiments restore -x {found.experiment_id}`, or choose another name"
            )
        return str(found.experiment_id)
    location = None
    if not uri.startswith("http"):
        location = Path(artifact_dir).resolve().as_uri()
    try:
        # Without the kind MLflow guesses one at every look, and shows the pages for agents.
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return str(client.create_experiment(experiment, artifact_location=location, tags=kind))
    except MlflowException:
        # Another worker made it between the look and the making.
        found = client.get_experiment_by_name(experiment)
        if found is None:
            raise
        return str(found.experiment_id)
