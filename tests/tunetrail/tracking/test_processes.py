"""Runs of killed processes are closed; a run that a process may still hold never is."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tunetrail.__main__ import main
from tunetrail.tracking import processes
from tunetrail.tracking.run_log import close_abandoned, create_run, open_run, reopen_run
from tunetrail.tracking.store import connect
from tunetrail.training.run_lock import hold_run

STORE = {
    "uri": "sqlite:///mlruns/mlflow.db",
    "experiment": "tests",
    "artifact_dir": "mlruns/artifacts",
}
CHECKPOINTS = Path("mlruns/checkpoints")


class Holder:
    """A process that holds a run until it is killed."""

    def __init__(self, run_id: str | None = None) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                with open_run(**STORE, name="held", run_id=run_id) as log:
                    log.metrics({"loss": 0.5}, step=1)
                    os.write(writing, log.run_id.encode())
                    time.sleep(60)
            finally:
                os._exit(1)
        self.run_id = os.read(reading, 32).decode()
        assert len(self.run_id) == 32

    def kill(self, *, wait: bool = True) -> None:
        os.kill(self.pid, signal.SIGKILL)
        if wait:
            os.waitpid(self.pid, 0)


@pytest.fixture
def holders(workspace: Path) -> Iterator[list[Holder]]:
    started: list[Holder] = []
    yield started
    for holder in started:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            holder.kill()


def statuses(*run_ids: str) -> list[str]:
    client = connect(STORE["uri"])
    return [client.get_run(run_id).info.status for run_id in run_ids]


def close() -> None:
    with open_run(**STORE, name="next") as log:
        close_abandoned(log, CHECKPOINTS)
        assert statuses(log.run_id) == ["RUNNING"]


def test_the_next_run_closes_those_of_killed_processes_and_no_other(
    holders: list[Holder],
) -> None:
    holders += [Holder(), Holder(), Holder()]
    killed, zombie, _ = holders
    killed.kill()
    zombie.kill(wait=False)
    close()
    found = statuses(*(holder.run_id for holder in holders))
    assert found == ["KILLED", "KILLED", "RUNNING"]
    client = connect(STORE["uri"])
    run = client.get_run(killed.run_id)
    assert run.data.tags["tunetrail.failure"] == "its process was killed"
    assert not processes.list_tags(run)
    # It ended where its last sign was, not when somebody came by.
    [metric] = client.get_metric_history(killed.run_id, "loss")
    assert run.info.end_time == metric.timestamp


def change(client: MlflowClient, run_id: str, **values: object) -> None:
    [(key, text)] = processes.list_tags(client.get_run(run_id)).items()
    client.set_tag(run_id, key, json.dumps(json.loads(text) | values))


OTHERS = [
    {"boot": "another", "host": "another"},
    {"boot": "another", "machine": "another"},
    {"boot": "another"},  # this machine before its restart, but its lock is not here
    {"namespace": "pid:[1]"},
    {"pid": "no number"},
    {"pid": -1},
    {"pid": 2**70},
]


def test_what_is_not_known_to_have_ended_stays(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = [create_run(**STORE, name="other", tags={}) for _ in OTHERS]
    for log, values in zip(logs, OTHERS, strict=True):
        change(log.client, log.run_id, **values)
    for log, text in zip(logs[-4:], ("", "[" * 4000, "[]", '{"pid": 1e999}'), strict=True):
        log.client.set_tag(log.run_id, "tunetrail.process.tampered", text)
    unmarked = connect(STORE["uri"]).create_run(logs[0].experiment_id).info.run_id
    run_ids = [unmarked, *(log.run_id for log in logs)]
    close()
    assert set(statuses(*run_ids)) == {"RUNNING"}
    assert main(["repair"]) == 0
    said = capsys.readouterr().out
    assert all(f"unknown    {run_id} (" in said for run_id in run_ids), said
    assert set(statuses(*run_ids)) == {"RUNNING"}
    # unless a person says so
    first, *others = run_ids
    assert main(["repair", first[:8]]) == 0
    assert f"closed     {first} (" in capsys.readouterr().out
    assert (statuses(first), set(statuses(*others))) == (["KILLED"], {"RUNNING"})
    assert main(["repair", first]) == 1
    assert "is KILLED; only one that is RUNNING" in capsys.readouterr().err


def test_after_a_restart_of_the_machine_the_lock_of_the_run_decides(workspace: Path) -> None:
    log = create_run(**STORE, name="before", tags={})
    change(log.client, log.run_id, boot="another")
    folder = CHECKPOINTS / log.run_id
    with hold_run(folder, run_id=log.run_id):
        pid = os.fork()  # a lock is no lock to the process that holds it
        if not pid:
            found = processes.find_held(log.client.get_run(log.run_id), CHECKPOINTS)
            os._exit(0 if found is processes.Held.UNKNOWN else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        (folder / "checkpoint-1").mkdir()
    close()
    assert statuses(log.run_id) == ["KILLED"]


def test_a_run_of_this_process_is_held_by_it(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_run(**STORE, name="own") as log:
        assert main(["repair"]) == 0
        assert f"running    {log.run_id} (own)" in capsys.readouterr().out
        assert main(["repair", log.run_id]) == 1
        assert "is held by a process of this machine" in capsys.readouterr().err
    assert not processes.list_tags(log.client.get_run(log.run_id))


def test_a_parent_is_held_as_long_as_one_of_several_processes_lives(
    holders: list[Holder], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two workers on a study, one is killed, then the other."""
    first = Holder()
    holders.append(first)
    log = reopen_run(uri=STORE["uri"], run_id=first.run_id)
    first.kill()
    close()
    assert statuses(log.run_id) == ["RUNNING"]
    [(key, _)] = processes.own_tag().items()
    log.client.delete_tag(log.run_id, key)
    close()
    assert statuses(log.run_id) == ["KILLED"]


def test_a_number_that_another_process_has_now_is_not_its_process(workspace: Path) -> None:
    log = create_run(**STORE, name="before", tags={})
    change(log.client, log.run_id, started="1")
    close()
    assert statuses(log.run_id) == ["KILLED"]
