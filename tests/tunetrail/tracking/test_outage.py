"""A real MLflow server that stops answering, and comes back or does not."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from mlflow.tracking import MlflowClient
from omegaconf import OmegaConf
from optuna.trial import TrialState, create_trial
from servers import Server

from tunetrail.errors import OutageError
from tunetrail.studies.callback import TrackStudy
from tunetrail.tracking import store as tracking
from tunetrail.tracking.run_log import RunLog, open_run
from tunetrail.tracking.store import store_errors

pytestmark = pytest.mark.slow


@pytest.fixture
def server(workspace: Path) -> Iterator[Server]:
    server = Server(workspace)
    server.start()
    yield server
    server.stop()


@contextlib.contextmanager
def restarting(server: Server) -> Iterator[None]:
    """The server is stopped at the start of the block, and started some seconds later."""
    server.stop()
    thread = threading.Thread(target=server.start)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few seconds instead of the minute."""
    monkeypatch.setattr(tracking, "_WAITS", (1, 1))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")


def store_of(server: Server) -> dict[str, str]:
    return {"uri": server.uri, "experiment": "tests", "artifact_dir": "unused"}


def start_study(server: Server) -> tuple[TrackStudy, optuna.Study]:
    study = optuna.create_study(study_name="s", direction="maximize")
    study.set_user_attr("objectives", {"validation/accuracy": "maximize"})
    study.set_user_attr("search_space", {})
    study.set_user_attr("fixed_overrides", {})
    track = TrackStudy(OmegaConf.create({**store_of(server), "checkpoint_dir": "checkpoints"}), 1)
    track.on_study_start(
        study,
        OmegaConf.create(
            {
                "seed": 1,
                "sampler": {"_target_": "x"},
                "pruner": {"_target_": "x"},
                "sweep": {},
            }
        ),
    )
    return track, study


def test_a_study_waits_for_a_server_that_starts_again(server: Server) -> None:
    """Before a call, and within a run that logs."""
    track, study = start_study(server)
    parent = {
        "mlflow.parentRunId": study.user_attrs["mlflow_run_id"],
        "tunetrail.trial": "0",
    }
    with open_run(**store_of(server), tags=parent) as run_log:
        run_log.metrics({"train/loss": 0.5}, step=1)
        with restarting(server):
            run_log.metrics({"train/loss": 0.4}, step=2)
        run_log.text("config", "config.yaml")
    study.add_trial(create_trial(value=0.5, user_attrs={"mlflow_run_id": run_log.run_id}))
    with restarting(server):
        track.on_trial_end(study, study.trials[0])
    with restarting(server):
        track.on_study_end(study, interrupted=False, failure=None)
    client = MlflowClient(server.uri)
    run = client.get_run(run_log.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"train/loss": 0.4}
    summed_up = client.get_run(study.user_attrs["mlflow_run_id"])
    assert summed_up.info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(summed_up.info.run_id)][-1] == "tables"
    assert summed_up.data.metrics == {
        f"{group}/validation/accuracy": 0.5 for group in ("best", "trials")
    }


def test_a_server_that_stays_away_ends_in_one_line(server: Server, impatient: None) -> None:
    """What was missed is logged when the study is continued."""
    track, study = start_study(server)
    opened: list[RunLog] = []
    parent = {
        "mlflow.parentRunId": study.user_attrs["mlflow_run_id"],
        "tunetrail.trial": "0",
    }
    before = time.monotonic()
    with (
        pytest.raises(OutageError) as logging,
        open_run(**store_of(server), tags=parent) as run_log,
    ):
        opened.append(run_log)
        server.stop()
        run_log.metrics({"train/loss": 0.5}, step=1)
    failure = {"failure": f"OutageError: {logging.value}", "failure_kind": "outage"}
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs=failure))
    with pytest.raises(OutageError) as connecting:
        track.on_trial_end(study, study.trials[0])
    with pytest.raises(OutageError) as calling, store_errors(server.uri):
        opened[0].tags({"a": "b"})
    assert time.monotonic() - before < 40
    for caught in (logging, connecting, calling):
        assert str(caught.value).startswith(f"tracking.uri={server.uri}: ")
        assert "\n" not in str(caught.value)
    server.start()
    track.on_study_end(study, interrupted=False, failure=None)
    run = MlflowClient(server.uri).get_run(opened[0].run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["tunetrail.failure_kind"] == "outage"


def test_a_run_that_cannot_be_closed_is_an_outage(server: Server, impatient: None) -> None:
    with pytest.raises(OutageError), open_run(**store_of(server)):
        server.stop()
