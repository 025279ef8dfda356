"""A killed run continues from its last checkpoint, to the same numbers."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from architectures import ARCHITECTURES
from mlflow.tracking import MlflowClient
from toys import ROOT
from warm import Warm

from tunetrail.__main__ import main
from tunetrail.errors import InputError
from tunetrail.training.checkpoints import find_checkpoint

# In the middle of an epoch, with dropout, a shuffled order and a log that is no multiple of a save.
STEPS = (
    "trainer.num_train_epochs=6",
    "trainer.eval_strategy=steps",
    "trainer.save_strategy=steps",
    "trainer.eval_steps=5",
    "trainer.save_steps=5",
    "trainer.logging_steps=1",
    "tracking.log_model=false",
)
EPOCHS = ("trainer.num_train_epochs=6", "trainer.logging_steps=1", "tracking.log_model=false")


def histories(client: MlflowClient, run_id: str) -> dict[str, set[tuple[int, float]]]:
    """Every logged number that is no time, with its step; what was logged twice must be equal."""
    return {
        name: {(m.step, m.value) for m in client.get_metric_history(run_id, name)}
        for name in client.get_run(run_id).data.metrics
        if not name.startswith("speed/")
    }


@contextlib.contextmanager
def started(overrides: tuple[str, ...], workspace: Path, *, step: int) -> Iterator[Any]:
    """A run as a process of its own that has saved at ``step``, and its id; killed at the end."""
    process = Warm(
        [sys.executable, str(ROOT / "train.py"), *overrides],
        cwd=workspace,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoints = workspace / "mlruns" / "checkpoints"
    try:
        deadline = time.monotonic() + 120
        # The state of the trainer is written last but one: a checkpoint without it is half one.
        while not list(checkpoints.glob(f"*/checkpoint-{step}/trainer_state.json")):
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.001)
        (folder,) = checkpoints.iterdir()
        yield process, folder.name
    finally:
        process.kill()
        process.wait(timeout=60)


def kill_after_checkpoint(overrides: tuple[str, ...], workspace: Path, *, step: int) -> str:
    """Start a run, kill -9 it once it has saved at ``step``, and return its id."""
    with started(overrides, workspace, step=step) as (_, run_id):
        return str(run_id)


@pytest.mark.slow
@pytest.mark.usefixtures("warm_processes")
@pytest.mark.parametrize(
    ("how", "step"),
    [
        (STEPS, 20),
        ((*STEPS, "trainer.train_sampling_strategy=random", "method=frozen"), 20),
        ((*STEPS, "method=lora"), 20),
        (EPOCHS, 24),
        ((*STEPS, "task=causal_lm", "task.max_length=13", "task.max_new_tokens=4"), 20),
        ((*STEPS, "task=masked_lm", "task.max_length=13", "model.path=bert"), 20),
    ],
    ids=["steps", "steps-random", "steps-lora", "epochs", "causal", "masked"],
)
@pytest.mark.timeout(900)
def test_a_killed_run_resumes_to_the_numbers_of_an_uninterrupted_one(
    workspace: Path,
    tiny: list[str],
    run_train: Callable[..., Any],
    how: tuple[str, ...],
    step: int,
) -> None:
    ARCHITECTURES["bert"].save(workspace / "bert")
    overrides = (*tiny, *how)
    run_id = kill_after_checkpoint(overrides, workspace, step=step)
    done = run_train(*overrides, f"resume={run_id}")
    assert done.returncode == 0, done.stderr
    done = run_train(*overrides, "tracking.experiment=whole")
    assert done.returncode == 0, done.stderr
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("whole")
    (whole,) = client.search_runs([experiment.experiment_id])
    resumed = client.get_run(run_id)
    assert resumed.info.status == "FINISHED"
    assert "tunetrail.failure" not in resumed.data.tags
    expected, found = histories(client, whole.info.run_id), histories(client, run_id)
    assert {"best/validation/loss", "best/above_baseline", "train/step_loss"} < set(expected)
    for name in expected.keys() | found.keys():
        assert found.get(name) == expected.get(name), name
    # nor does a rerun, which is never interrupted, find a difference
    assert main(["rerun", run_id]) == 0


@pytest.mark.slow
def test_a_run_that_is_still_training_elsewhere_is_not_resumed(
    workspace: Path, tiny: list[str], train: Callable[..., Any]
) -> None:
    overrides = (*tiny, *STEPS, "trainer.num_train_epochs=500")
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    with started(overrides, workspace, step=20) as (process, run_id):
        with pytest.raises(SystemExit, match=f"error: resume={run_id}: this run is still training"):
            train(*overrides, f"resume={run_id}")
        assert process.poll() is None
        assert client.get_run(run_id).info.status == "RUNNING"
        # as a terminal does
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    assert client.get_run(run_id).info.status == "KILLED"
    # it can still be resumed, as soon as no process trains it
    with pytest.raises(SystemExit, match="the config differs from the run's"):
        train(*tiny, *STEPS, f"resume={run_id}")
    assert list((workspace / "mlruns" / "checkpoints" / run_id).glob("checkpoint-*"))


def test_a_run_that_saved_nothing_leaves_no_folder(
    workspace: Path, tiny: list[str], train: Callable[..., Any]
) -> None:
    with pytest.raises(SystemExit, match="no such file"):
        train(*tiny, "data.train=nowhere.csv")
    assert not list((workspace / "mlruns" / "checkpoints").iterdir())


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Two checkpoints as Trainer leaves them, the second one's step with more digits."""
    from transformers import TrainerState

    for step in (5, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "optimizer.pt").touch()
        TrainerState(global_step=step).save_to_json(str(folder / "trainer_state.json"))
    return tmp_path


def test_the_last_checkpoint_is_that_of_the_highest_step(checkpoints: Path) -> None:
    assert find_checkpoint(checkpoints, run_id="r").name == "checkpoint-10"


@pytest.mark.parametrize("content", [None, "", '{"epoch": 1'], ids=["none", "empty", "torn"])
def test_a_checkpoint_that_a_kill_left_incomplete_is_skipped(
    checkpoints: Path, content: str | None
) -> None:
    state = checkpoints / "checkpoint-10" / "trainer_state.json"
    state.unlink()
    if content is not None:
        state.write_text(content)
    assert find_checkpoint(checkpoints, run_id="r").name == "checkpoint-5"


def test_without_a_complete_checkpoint_a_run_cannot_be_resumed(checkpoints: Path) -> None:
    for state in checkpoints.glob("*/trainer_state.json"):
        state.unlink()
    with pytest.raises(InputError, match="resume=r: no checkpoint in"):
        find_checkpoint(checkpoints, run_id="r")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_resumed_run_stops_early_where_an_uninterrupted_one_does(
    workspace: Path, tiny: list[str], run_train: Callable[..., Any]
) -> None:
    """Also if it was killed after the checkpoint with which it ended."""
    key = "early_stopping.early_stopping_patience"
    overrides = (*tiny, *EPOCHS, "trainer.learning_rate=1e-12", f"{key}=3")
    whole = run_train(*overrides, "tracking.experiment=whole")
    assert whole.returncode == 0, whole.stderr
    assert "best epoch 1 of 4, stopped early" in whole.stdout
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("whole")
    (run,) = client.search_runs([experiment.experiment_id])
    expected = histories(client, run.info.run_id)
    for step in (24, 32):
        run_id = kill_after_checkpoint(overrides, workspace, step=step)
        resumed = run_train(*overrides, f"resume={run_id}")
        assert resumed.returncode == 0, resumed.stderr
        assert "best epoch 1 of 4, stopped early: 3 evaluations" in resumed.stdout
        assert histories(client, run_id) == expected
