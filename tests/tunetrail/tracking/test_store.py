"""A real store: every run that is opened is closed with its status."""

import json
import socket
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from mlflow.tracking import MlflowClient

from tunetrail.errors import InputError
from tunetrail.templates.sections import Page
from tunetrail.tracking.artifacts import read_artifact
from tunetrail.tracking.recording import log_page
from tunetrail.tracking.run_log import RunLog, create_run, open_run
from tunetrail.tracking.store import connect, connect_existing

STORE = {
    "uri": "sqlite:///mlruns/mlflow.db",
    "experiment": "tests",
    "artifact_dir": "mlruns/artifacts",
}


@pytest.fixture
def client(workspace: Path) -> MlflowClient:
    return connect(STORE["uri"])


def test_a_run_holds_what_was_logged_and_ends_finished(client: MlflowClient) -> None:
    with open_run(**STORE, name="one", tags={"tunetrail.study": "s"}) as log:
        log.params({"trainer.learning_rate": 1e-4, "data.num_train": None})
        log.metrics({"train/loss": 0.5, "validation/loss": 0.6, "epoch": 1.0}, step=7)
        log.data({"a": 1}, "reports/fit.json")
        log.figure(Figure(), "figures/learning_curves.png")
    run = client.get_run(log.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "one"
    assert run.data.params == {"trainer.learning_rate": "0.0001", "data.num_train": "None"}
    history = client.get_metric_history(log.run_id, "validation/loss")
    assert [(m.step, m.value) for m in history] == [(7, 0.6)]
    assert json.loads(read_artifact(uri=STORE["uri"], run_id=log.run_id, path="reports/fit.json"))
    assert [a.path for a in client.list_artifacts(log.run_id, "figures")] == [
        "figures/learning_curves.png"
    ]


def test_a_page_that_cannot_be_built_or_holds_broken_text_ends_no_run(
    client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    def build() -> Page:
        raise KeyError("a heading")

    with open_run(**STORE) as log:
        assert not log_page(log, build)
        assert "KeyError: 'a heading'" in caplog.text
        # A lone half of a pair of code units, as broken data have it, is no UTF-8: an escape is.
        assert log_page(log, lambda: Page("\ud800", "one", [], []))
    assert client.get_run(log.run_id).info.status == "FINISHED"


def test_more_params_than_one_batch_takes_all_arrive(client: MlflowClient) -> None:
    with open_run(**STORE) as log:
        log.params({f"key.{number}": "x" * 7000 for number in range(150)})
    found = client.get_run(log.run_id).data.params
    assert len(found) == 150
    assert {len(value) for value in found.values()} == {6000}


@pytest.mark.parametrize(
    ("error", "status", "failure"),
    [
        (ValueError("no such column"), "FAILED", "ValueError: no such column"),
        (KeyboardInterrupt(), "KILLED", "KeyboardInterrupt"),
        (SystemExit(143), "KILLED", "SystemExit: 143"),
    ],
)
def test_a_run_that_breaks_off_says_why(
    client: MlflowClient, error: BaseException, status: str, failure: str
) -> None:
    opened: list[RunLog] = []
    with pytest.raises(type(error)), open_run(**STORE) as log:
        opened.append(log)
        log.metrics({"train/loss": 0.5}, step=1)
        raise error
    run = client.get_run(opened[0].run_id)
    assert run.info.status == status
    assert run.data.tags["tunetrail.failure"] == failure
    assert run.data.metrics == {"train/loss": 0.5}


def test_an_earlier_run_is_continued_in_place(client: MlflowClient) -> None:
    log = create_run(**STORE, name="study", tags={})
    with open_run(**STORE, run_id=log.run_id) as again:
        assert client.get_run(log.run_id).info.status == "RUNNING"
    assert again.run_id == log.run_id
    absent = open_run(**STORE, run_id="absent")
    with (
        pytest.raises(InputError, match=r"run absent is not in .*; give its store with"),
        absent,
    ):
        pass


def test_a_server_that_does_not_answer_is_noticed_in_seconds() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        before = time.monotonic()
        with pytest.raises(InputError) as caught:
            connect(f"http://me:secret@127.0.0.1:{port}")
    assert time.monotonic() - before < 10
    assert "no MLflow server answers" in str(caught.value)
    assert "tracking.uri=http://***@127.0.0.1" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "uri", ["", "mlruns", "file:///mlruns", "sqlite:", "sqlite://", "sqlite:///", "sqlite://a/b",
            "sqlite:a.db", "sqlite+pysqlite:///a.db"]
)  # fmt: skip
def test_what_names_no_store_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for open_store in (connect, connect_existing):
        with pytest.raises(InputError, match="use sqlite:///PATH"):
            open_store(uri)
    assert not list(tmp_path.iterdir())


def test_a_store_that_cannot_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlruns").write_text("a file where the folder belongs")
    with pytest.raises(InputError) as caught:
        connect(STORE["uri"])
    assert "tracking.uri=sqlite:///mlruns/mlflow.db" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_text("not a database at all " * 100)
    with pytest.raises(InputError) as caught, open_run(**STORE):
        pass
    assert "the store cannot be used" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("workspace")
def test_a_run_log_writes_no_password(workspace: Path) -> None:
    url = "postgresql://me:hunter2hunter2@host/db"
    with pytest.raises(RuntimeError), open_run(**STORE, name=url, tags={"a": url}) as run_log:
        run_log.params({"uri": url, "trainer.hub_token": "hunter2hunter2"})
        run_log.tags({"b": url})
        run_log.text(f"at {url}", "text.md")
        run_log.data({"password": "hunter2hunter2", "at": [url]}, "data.json")
        raise RuntimeError(f"cannot reach {url}")
    assert run_log.name == "postgresql://***@host/db"
    files = [path for path in (workspace / "mlruns").rglob("*") if path.is_file()]
    assert {"mlflow.db", "text.md", "data.json"} <= {path.name for path in files}
    for path in files:
        assert b"hunter2" not in path.read_bytes(), path


def test_a_run_stopped_in_the_middle_of_a_statement_is_closed(tmp_path: Path) -> None:
    """A statement that has not ended locks the database, as long as somebody holds its cursor."""

    def stop_in_a_statement(store: Path) -> None:
        rows = sqlite3.connect(store).execute("SELECT * FROM experiments, alembic_version")
        rows.fetchone()
        raise KeyboardInterrupt

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with (
        pytest.raises(KeyboardInterrupt),
        open_run(uri=uri, experiment="e", artifact_dir=str(tmp_path / "artifacts")) as run_log,
    ):
        # a second experiment: the statement has another row to give
        run_log.client.create_experiment("other")
        stop_in_a_statement(tmp_path / "mlflow.db")
    run = MlflowClient(uri).get_run(run_log.run_id)
    assert run.info.status == "KILLED"
    assert run.data.tags["tunetrail.failure"] == "KeyboardInterrupt"


@pytest.mark.parametrize(
    ("lose", "message"),
    [
        (lambda log: log.client.delete_run(log.run_id), "was deleted; restore it with .* runs r"),
        (
            lambda log: log.client.delete_experiment(log.experiment_id),
            "was deleted with its experiment tests; restore it with .* experiments restore",
        ),
        (lambda _: Path("mlruns/mlflow.db").unlink(), "was moved or deleted while run"),
        (lambda _: Path("mlruns/mlflow.db").rename("x"), "was moved or deleted while run"),
    ],
    ids=["run", "experiment", "store", "moved"],
)
def test_what_is_lost_while_a_run_is_open_is_one_line(
    workspace: Path, caplog: pytest.LogCaptureFixture, lose: Callable[[RunLog], None], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught, open_run(**STORE) as log:
        lose(log)
        log.metrics({"a": 1})
    assert "\n" not in str(caught.value)
    assert not caplog.records
