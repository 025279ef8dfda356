"""The run log: one MLflow run open for writing, and how a store is reached."""

import contextlib
import io
import json
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
import pandas as pd
import plotly.graph_objects as go
import requests
from matplotlib.figure import Figure
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from tunetrail.config.secrets import redact
from tunetrail.errors import InputError, OutageError, chain_of

log = logging.getLogger(__name__)

# One bar for the training is enough: MLflow draws its own for every file it copies.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# With a server MLflow prints two links at the end of every run; the summary has the run's id.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# Every call to a server that does not answer is tried again after 0, 2, 4, 8, 16 and 32 s (and up
# to a second each, drawn): about a minute. MLflow's own defaults wait for four, and two minutes
# more for each answer that does not come.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "6")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

# Tag of a run that holds an interactive page and, if tracking.log_model, weights.
KEPT = "tunetrail.kept"
# Tag of a run that holds all there is to know about its model on the test split.
TEST_SCORED = "tunetrail.test_scored"

# One call of MLflow takes no more than these.
_PARAMS_PER_BATCH = 100
_PARAM_LENGTH = 6000
_TAG_LENGTH = 5000

# Seconds between the questions to a server that has answered this process before: 60 in all.
_WAITS = (1, 2, 4, 8, 16, 29)
# How requests, with which MLflow asks a server, says that no answer came.
_NO_ANSWER = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.RetryError,
)
# Servers that have answered this process.
_known_servers: set[str] = set()


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

    def folder(self, folder: Path, path: str) -> None:
        """Copy all files of a folder."""
        self.client.log_artifacts(self.run_id, str(folder), path)

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
    client = connect(uri)
    if not uri.startswith("http"):
        make_folder(Path(artifact_dir), key=f"tracking.artifact_dir={artifact_dir}")
    with store_errors(uri):
        run = (
            _reopen(client, run_id)
            if run_id is not None
            else client.create_run(
                _experiment_id(client, experiment, artifact_dir=artifact_dir, uri=uri),
                run_name=redact(name),
                tags={
                    "mlflow.source.name": "train.py",
                    "mlflow.source.type": "LOCAL",
                    **redact(dict(tags or {})),
                },
            )
        )
    run_log = RunLog(client, run)
    try:
        yield run_log
    except no_failure:
        with store_errors(uri):
            close_run(run_log, "FINISHED")
        raise
    except Exception as error:
        _close(run_log, uri, "FAILED", failure=f"{type(error).__name__}: {error}")
        if (cause := _find_outage(error)) is not None:
            raise _outage(uri, cause) from error
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
    if _ask(uri) is not None:
        return
    # The store itself may be what failed: the error that led here must not be hidden by another.
    with contextlib.suppress(Exception):
        run_log.tags({"tunetrail.state": status, "tunetrail.failure": failure})
        close_run(run_log, status)


def create_run(
    *, uri: str, experiment: str, artifact_dir: str, name: str, tags: Mapping[str, str]
) -> RunLog:
    """Create a run that stays open beyond this call, such as the parent of a study.

    Raises:
        InputError: the store or the server cannot be used.

    """
    client = connect(uri)
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
    client = connect(uri)
    with store_errors(uri):
        return RunLog(client, _reopen(client, run_id))


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
    client = connect(uri)
    with store_errors(uri):
        return RunLog(client, client.get_run(run_id))


def require_interrupted(*, uri: str, run_id: str) -> None:
    """Check that a run did not come to its end.

    One whose process was killed stays RUNNING: the store cannot tell whether it still trains.

    Raises:
        InputError: the store has no such run, or it finished.

    """
    client = connect(uri)
    with store_errors(uri):
        try:
            status = client.get_run(run_id).info.status
        except MlflowException as error:
            if _find_outage(error) is not None:
                raise
            raise InputError(f"resume={run_id}: {redact(uri)} has no such run") from error
    if status == "FINISHED":
        raise InputError(f"resume={run_id}: this run is FINISHED; start a new one")


def read_artifact(*, uri: str, run_id: str, path: str) -> str:
    """Read a text artifact of a run.

    Raises:
        InputError: the store cannot be used, or the run or the artifact is not there.

    """
    client = connect(uri)
    with store_errors(uri), tempfile.TemporaryDirectory() as folder:
        try:
            return Path(client.download_artifacts(run_id, path, folder)).read_text("utf-8")
        except (OSError, MlflowException) as error:
            if _find_outage(error) is not None:
                raise
            raise InputError(f"run {run_id} has no artifact {path} in {redact(uri)}") from error


def read_table(*, uri: str, run_id: str, path: str) -> pd.DataFrame:
    """Read a Parquet artifact of a run.

    Raises:
        InputError: the store cannot be used, or the run or the artifact is not there.

    """
    client = connect(uri)
    with store_errors(uri), tempfile.TemporaryDirectory() as folder:
        try:
            return pd.read_parquet(client.download_artifacts(run_id, path, folder))
        except (OSError, MlflowException) as error:
            if _find_outage(error) is not None:
                raise
            raise InputError(f"run {run_id} has no artifact {path} in {redact(uri)}") from error


def connect(uri: str) -> MlflowClient:
    """Connect to a store; a server is asked whether it is there.

    One that has never answered this process is noticed in seconds. One that has is waited for,
    a minute at most: it may be starting again.

    Raises:
        OutageError: the server does not answer.
        InputError: what answers is no MLflow server, or the database's folder cannot be made.

    """
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        _require_server(uri)
    elif parts.scheme == "sqlite":
        # MLflow keeps one store for each URI in a process: a relative one would go on meaning
        # the folder that the process was in at first.
        path = Path(uri.removeprefix("sqlite:///")).resolve()
        make_folder(path.parent, key=f"tracking.uri={uri}")
        uri = f"sqlite:///{path}"
    elif parts.scheme in ("", "file"):
        raise InputError(
            f"tracking.uri={uri}: MLflow keeps no plain-file stores any more; "
            "use sqlite:///PATH or http://HOST:PORT"
        )
    mlflow.set_tracking_uri(uri)
    with store_errors(uri), quiet_mlflow():
        return MlflowClient(uri)


def connect_existing(uri: str) -> MlflowClient:
    """Connect to a store that must be there already: looking into one makes none.

    Raises:
        OutageError: the server does not answer.
        InputError: there is no such store.

    """
    path = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:") and not path.is_file():
        raise InputError(
            f"no store in {path.absolute()}; give another with --uri, or go to the folder that "
            "train.py was started in"
        )
    return connect(uri)


def _require_server(uri: str) -> None:
    error = _ask(uri)
    if error is not None and uri in _known_servers:
        log.warning("tracking.uri=%s does not answer; waiting for it", redact(uri))
        error = _await_server(uri)
        if error is not None:
            raise _outage(uri, error)
    if error is not None:
        kind = InputError if _is_refusal(error) else OutageError
        raise kind(
            f"tracking.uri={redact(uri)}: no MLflow server answers there "
            f"({type(error).__name__}); start it, or leave tracking.uri at its default"
        )
    _known_servers.add(uri)


def _await_server(uri: str) -> requests.RequestException | None:
    until = time.monotonic() + sum(_WAITS)
    for seconds in _WAITS:
        time.sleep(min(seconds, max(until - time.monotonic(), 0)))
        error = _ask(uri)
        # A server that takes the question and gives no answer takes 5 s each time.
        if error is None or time.monotonic() > until:
            break
    return error


def _ask(uri: str) -> requests.RequestException | None:
    """Ask a server whether it is well; the error if it is not. A local store always is."""
    if not uri.startswith("http"):
        return None
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=5).raise_for_status()
    except requests.RequestException as error:
        return error
    return None


def _is_refusal(error: requests.RequestException) -> bool:
    """Whether something answered, but with words of its own: it will do so again."""
    return error.response is not None and error.response.status_code < 500


def cut_tag(value: object) -> str:
    """Write a tag's value as MLflow takes it: 5,000 characters at most, and no secrets."""
    return redact(str(value))[:_TAG_LENGTH]


def _reopen(client: MlflowClient, run_id: str) -> Run:
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if _find_outage(error) is not None:
            raise
        raise InputError(
            f"run {run_id} is not in this store; set tracking.uri to the store it was logged to"
        ) from error
    client.update_run(run_id, status="RUNNING")
    if "tunetrail.failure" in run.data.tags:
        client.delete_tag(run_id, "tunetrail.failure")
    return run


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
        folder = Path(artifact_dir).resolve()
        make_folder(folder, key=f"tracking.artifact_dir={artifact_dir}")
        location = folder.as_uri()
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


def make_folder(folder: Path, *, key: str) -> None:
    """Make a folder and check that it can be written to.

    Raises:
        InputError: it cannot.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{key}: cannot write to {folder} ({error.strerror}); free it or choose another"
        ) from error


@contextlib.contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Say in one line what is wrong with a store.

    Raises:
        OutageError: its server does not answer, after MLflow has tried for a minute.
        InputError: it cannot be used.

    """
    try:
        yield
    except (SQLAlchemyError, MlflowException) as error:
        if (cause := _find_outage(error)) is not None:
            raise _outage(uri, cause) from error
        text = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise InputError(
            f"tracking.uri={redact(uri)}: the store cannot be used ({redact(text)}); "
            "check the path, the space on its disk and the rights to it"
        ) from error


@contextlib.contextmanager
def registry_errors(name: str) -> Iterator[None]:
    """Say in one line why a model could not be registered; an outage passes as it is.

    Raises:
        InputError: the registry refused.

    """
    try:
        yield
    except MlflowException as error:
        if _find_outage(error) is not None:
            raise
        text = redact(str(error).splitlines()[0])
        raise InputError(
            f"registry.name={name}: the model registry refused ({text}); give the same command "
            "once it can be written to"
        ) from error


def _find_outage(error: BaseException) -> BaseException | None:
    """Find what says that a store's server is away, or too busy to answer, in a store's error."""
    if not isinstance(error, MlflowException | SQLAlchemyError):
        return None
    for link in chain_of(error):
        if isinstance(link, _NO_ANSWER):
            return link
        if isinstance(link, OperationalError):
            # SQLite is a file: what else goes wrong with it does not pass by itself.
            passes = not isinstance(link.orig, sqlite3.Error) or "locked" in str(link.orig)
            return link if passes else None
    return None


def _outage(uri: str, cause: BaseException) -> OutageError:
    return OutageError(
        f"tracking.uri={redact(uri)}: the store does not answer any more "
        f"({type(cause).__name__}); start it again and give the same command"
    )


@contextlib.contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Hold back MLflow's progress notes on migrations and model files; warnings still pass."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
