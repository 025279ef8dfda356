"""A study of real training, killed again and again: nothing is lost, nothing is counted twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from optuna.trial import FrozenTrial, TrialState
from safetensors import safe_open
from toys import ROOT
from warm import Warm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

NUM_KILLS = 20
# More than a fast machine finishes between the kills; the last start asks for few.
NEVER_REACHED = 1000
NUM_AFTER = 8
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@pytest.fixture
def command(tiny: list[str]) -> list[str]:
    searched = ("trainer.learning_rate=", "trainer.num_train_epochs=")
    return [
        sys.executable,
        str(ROOT / "train.py"),
        "-m",
        *(override for override in tiny if not override.startswith(searched)),
        "trainer.learning_rate=tag(log,interval(1e-5,1e-2))",
        "trainer.num_train_epochs=2,3",
        "sampler=random",
        f"sweep.num_trials={NEVER_REACHED}",
        "sweep.final_seeds=0",
        "hydra.sweeper.num_workers=2",
        "study=s",
    ]


def start(command: list[str], workspace: Path) -> "subprocess.Popen[bytes]":
    """Start in a group of its own: a kill of the group takes the workers, too."""
    with (workspace / "output.txt").open("ab") as output:
        return Warm(command, cwd=workspace, stdout=output, stderr=output, start_new_session=True)


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)


def read_trials(workspace: Path) -> list[FrozenTrial]:
    try:
        storage = f"sqlite:///{workspace}/mlruns/optuna.db"
        return optuna.load_study(study_name="s", storage=storage).get_trials()
    except Exception:  # noqa: BLE001 - killed before there was a study
        return []


def wait_for(process: "subprocess.Popen[bytes]", is_there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and not is_there():
        time.sleep(0.1)


def wait_for_moment(
    process: "subprocess.Popen[bytes]", workspace: Path, kill: int, draw: random.Random
) -> None:
    """Wait until some moment of a start, of a first trial, or of what follows a trial's end."""
    before = read_trials(workspace)
    num_ended = sum(trial.state in FINISHED for trial in before)

    def has_begun() -> bool:
        trials = read_trials(workspace)[len(before) :]
        return any(trial.state is TrialState.RUNNING for trial in trials)

    def has_ended() -> bool:
        return sum(trial.state in FINISHED for trial in read_trials(workspace)) > num_ended

    match kill % 4:
        case 0:
            time.sleep(draw.uniform(0.2, 4))
        case 1:
            wait_for(process, has_begun)
            time.sleep(draw.uniform(0, 4))
        case _:
            wait_for(process, has_ended)
            time.sleep(draw.uniform(0, 1.5))


def facts(trial: FrozenTrial) -> tuple[Any, ...]:
    return trial.state, trial.values, json.dumps(trial.params), trial.intermediate_values


def test_twenty_kills_lose_nothing_and_count_nothing_twice(
    workspace: Path, command: list[str]
) -> None:
    draw = random.Random(20)
    known: dict[int, tuple[Any, ...]] = {}
    for kill in range(NUM_KILLS):
        process = start(command, workspace)
        wait_for_moment(process, workspace, kill, draw)
        assert process.poll() is None, (workspace / "output.txt").read_text()
        kill_group(process)
        trials = read_trials(workspace)
        for number, fact in known.items():
            assert facts(trials[number]) == fact, f"trial {number} after kill {kill}"
        known = {trial.number: facts(trial) for trial in trials if trial.state in FINISHED}
        require_best_weights(trials, workspace)
    assert known

    num_trials = len(known) + NUM_AFTER
    process = start([*command, f"sweep.num_trials={num_trials}"], workspace)
    assert process.wait(timeout=600) == 0, (workspace / "output.txt").read_text()
    trials = read_trials(workspace)
    for number, fact in known.items():
        assert facts(trials[number]) == fact
    require_exact(trials, num_trials)
    require_agreement(trials, workspace)
    require_best_weights(trials, workspace)
    # Of all trials one set of weights is left, and of no trial a checkpoint.
    assert len(list((workspace / "mlruns").rglob("*.safetensors"))) == 1
    assert list((workspace / "mlruns" / "checkpoints").iterdir()) == []


def require_exact(trials: list[FrozenTrial], num_trials: int) -> None:
    """The budget is exact, no trial is open, and every interrupted point was run again once."""
    states = Counter(trial.state for trial in trials)
    assert states[TrialState.COMPLETE] + states[TrialState.PRUNED] == num_trials
    assert set(states) <= {*FINISHED, TrialState.FAIL}
    failed = [trial for trial in trials if trial.state is TrialState.FAIL]
    assert {trial.user_attrs["failure_kind"] for trial in failed} == {"interrupted"}
    again = Counter(t.user_attrs["retry_of"] for t in trials if "retry_of" in t.user_attrs)
    drawn = {trial.number for trial in failed if "overrides" in trial.user_attrs}
    assert again == Counter(drawn)
    for trial in trials:
        if "retry_of" in trial.user_attrs:
            assert trial.params == trials[trial.user_attrs["retry_of"]].params
    points = Counter(json.dumps(trial.params) for trial in trials if trial.state in FINISHED)
    assert max(points.values()) == 1


def require_agreement(trials: list[FrozenTrial], workspace: Path) -> None:
    """MLflow and the study agree on every trial."""
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    runs = client.search_runs(["1"], max_results=1000)
    (parent,) = [run for run in runs if "tunetrail.trial" not in run.data.tags]
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["tunetrail.best_trial"]
    by_trial: dict[int, list[Run]] = {}
    for run in runs:
        if run is not parent:
            assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
            by_trial.setdefault(int(run.data.tags["tunetrail.trial"]), []).append(run)
    for trial in trials:
        found = by_trial.pop(trial.number, [])
        if trial.state is TrialState.FAIL:
            for run in found:  # none, where the kill came before the run was made
                assert run.info.status == "FAILED"
                assert run.data.tags["tunetrail.state"] == "FAILED"
                assert run.data.tags["tunetrail.failure_kind"] == "interrupted"
            continue
        (run,) = found
        assert run.info.status == "FINISHED"
        assert run.data.tags["tunetrail.state"] == trial.state.name
        assert run.data.params["trainer.learning_rate"] == str(
            trial.params["trainer.learning_rate"]
        )
        if trial.state is TrialState.COMPLETE:
            assert run.data.metrics["best/validation/accuracy"] == trial.value
    assert by_trial == {}


def require_best_weights(trials: list[FrozenTrial], workspace: Path) -> None:
    """The best finished trial has complete weights, whenever the kill came."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if not complete:
        return
    top = max(trial.value or 0.0 for trial in complete)
    best = min((t for t in complete if t.value == top), key=lambda t: t.datetime_complete or 0)
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    run = client.get_run(best.user_attrs["mlflow_run_id"])
    assert run.outputs is not None, f"trial {best.number} has no model"
    (output,) = run.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    folder = Path(model.artifact_location.removeprefix("file://"))
    (weights,) = folder.rglob("*.safetensors")
    with safe_open(weights, framework="np") as file:
        assert len(list(file.keys())) > 10
