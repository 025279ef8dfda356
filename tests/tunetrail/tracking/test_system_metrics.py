"""What the machine does while a run works, and that nothing is left of it afterwards."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor

from tunetrail.tracking.run_log import RunLog, open_run
from tunetrail.tracking.system_metrics import sampled

STORE = {
    "uri": "sqlite:///mlruns/mlflow.db",
    "experiment": "tests",
    "artifact_dir": "mlruns/artifacts",
}


@pytest.fixture
def run_log(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunLog]:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.02")
    assert workspace.is_dir()
    with open_run(**STORE, name="one") as opened:
        yield opened


def names_of(run_log: RunLog) -> set[str]:
    return set(run_log.client.get_run(run_log.run_id).data.metrics)


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "system-metrics"]


def wait(condition: object) -> None:
    until = time.monotonic() + 10
    while not condition() and time.monotonic() < until:  # type: ignore[operator]
        time.sleep(0.01)


def test_samples_are_logged_with_the_numbers_of_the_run(run_log: RunLog) -> None:
    with sampled(run_log, wanted=True):
        assert threads()
        time.sleep(0.2)
        run_log.metrics({"loss": 1.0}, step=3)
        first = len(run_log.client.get_metric_history(run_log.run_id, CPU))
        time.sleep(0.1)
    history = run_log.client.get_metric_history(run_log.run_id, CPU)
    assert len(history) > first > 0
    # Seconds since the run began, which is how a resumed run goes on.
    assert all(0 <= one.step < 60 and 0 <= one.value <= 100 for one in history)
    assert {"system/system_memory_usage_megabytes", "loss"} <= names_of(run_log)
    assert not threads()


CPU = "system/cpu_utilization_percentage"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_thread_ends_on_every_way_out(run_log: RunLog, error: type[BaseException]) -> None:
    with pytest.raises(error), sampled(run_log, wanted=True):
        raise error
    assert not threads()
    run_log.metrics({"loss": 1.0})
    assert names_of(run_log) == {"loss"}


def test_nothing_is_sampled_where_it_is_switched_off(run_log: RunLog) -> None:
    with sampled(run_log, wanted=False):
        assert not threads()


def test_a_machine_that_does_not_tell_ends_no_run(
    run_log: RunLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(CPUMonitor, "collect_metrics", lambda _: 1 / 0)
    with sampled(run_log, wanted=True):
        wait(lambda: not threads())
        run_log.metrics({"loss": 1.0})
    assert names_of(run_log) == {"loss"}
    assert capsys.readouterr() == ("", "")
