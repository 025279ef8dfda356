"""Ctrl-C: one line and the exit code 130, whatever the program is doing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from toys import ROOT

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(workspace: Path) -> Iterator[Start]:
    """Start ``python train.py …`` as a terminal does, in a group of processes of its own."""
    processes = []
    # What runs in the background of a shell ignores it, and so would what it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def run(*overrides: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *overrides],
            cwd=workspace,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield run
    signal.signal(signal.SIGINT, before)
    for process in processes:
        process.kill()
        process.communicate()


def interrupt(process: "subprocess.Popen[str]") -> list[str]:
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    return said.splitlines()


def wait_until(process: "subprocess.Popen[str]", has_come: Callable[[], object]) -> None:
    until = time.monotonic() + 120
    while not has_come():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("mode", [[], ["-m"]])
def test_in_start_up_it_is_one_line(start: Start, tiny: list[str], mode: list[str]) -> None:
    process = start(*mode, *tiny)
    time.sleep(0.4)  # Python has started, and imports
    assert interrupt(process) == ["interrupted"]


@pytest.mark.slow
def test_while_a_study_is_checked_it_is_one_line(
    start: Start, tiny: list[str], workspace: Path
) -> None:
    process = start("-m", "study=s", *tiny[:-3], "precision=fp32")
    wait_until(process, (workspace / "mlruns/hydra/studies/s").exists)
    time.sleep(1.5)  # the sweeper imports what checks the config
    assert interrupt(process) == ["interrupted"]


@pytest.mark.slow
def test_in_training_the_run_is_closed(start: Start, tiny: list[str], workspace: Path) -> None:
    process = start(*tiny, "trainer.num_train_epochs=500")
    checkpoints = workspace / "mlruns" / "checkpoints"
    wait_until(process, lambda: list(checkpoints.glob("*/checkpoint-*")))
    # The progress bar may be drawn once more beside it.
    assert "interrupted" in "".join(interrupt(process))
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("tunetrail").experiment_id])
    assert run.info.status == "KILLED"


@pytest.mark.slow
def test_while_workers_start_none_of_them_shows_a_traceback(
    start: Start, tiny: list[str], workspace: Path
) -> None:
    process = start("-m", "study=s", *tiny[:-3], "precision=fp32", "hydra.sweeper.num_workers=2")
    # Each names itself there once it has imported what it needs.
    wait_until(process, (workspace / "mlruns/hydra/studies/s/multirun.yaml").exists)
    time.sleep(2)
    assert interrupt(process)[-1].startswith("interrupted")
