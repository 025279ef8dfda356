"""The finals of a study of real training: their runs, and whose weights are left."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState
from toys import ROOT
from transformers import TrainingArguments
from warm import Warm

from tunetrail.studies.ranking import rank

pytestmark = pytest.mark.slow

Train = Callable[..., Any]


@pytest.fixture
def command(tiny: list[str]) -> list[str]:
    searched = ("trainer.learning_rate=", "trainer.num_train_epochs=")
    return [
        "-m",
        *(override for override in tiny if not override.startswith(searched)),
        "trainer.learning_rate=tag(log,interval(1e-4,1e-2))",
        "trainer.num_train_epochs=2,3",
        "sweep.num_trials=4",
        "sweep.final_seeds=2",
        "study=s",
    ]


def load(name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage="sqlite:///mlruns/optuna.db")


def connect(workspace: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")


def children(client: MlflowClient, parent: str) -> list[Run]:
    condition = f"tags.mlflow.parentRunId = '{parent}'"
    return list(client.search_runs(["1"], condition, order_by=["attributes.start_time"]))


def kept_weights(workspace: Path) -> list[Path]:
    return list((workspace / "mlruns").rglob("*.safetensors"))


def weights_of(client: MlflowClient, run_id: str) -> Path:
    (output,) = client.get_run(run_id).outputs.model_outputs
    location = client.get_logged_model(output.model_id).artifact_location
    (weights,) = Path(location.removeprefix("file://")).rglob("*.safetensors")
    return weights


def require_weights(workspace: Path) -> None:
    """One set for the best trial of the search, one for the best of the finals; no checkpoint."""
    client = connect(workspace)
    best = [rank(load(name))[0].user_attrs["mlflow_run_id"] for name in ("s", "s-finals-2")]
    expected = {weights_of(client, run_id) for run_id in best}
    assert set(kept_weights(workspace)) == expected
    assert len(expected) == 2
    assert list((workspace / "mlruns" / "checkpoints").iterdir()) == []


def test_finals_are_runs_below_the_run_of_their_study(
    train: Train, command: list[str], workspace: Path
) -> None:
    train(*command)
    study, finals = load("s"), load("s-finals-2")
    client = connect(workspace)
    parent = client.get_run(study.user_attrs["mlflow_run_id"])
    below = client.get_run(finals.user_attrs["mlflow_run_id"])
    assert parent.info.status == below.info.status == "FINISHED"
    assert below.info.run_name == "finals of s"
    assert below.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert below.data.tags["tunetrail.final_of"] == "s"
    trials = children(client, parent.info.run_id)
    assert [run.data.tags["tunetrail.role"] for run in trials] == [*["trial"] * 4, "finals"]
    winner = parent.data.tags["tunetrail.winner_trial"]
    for number, run in enumerate(trials[:4]):
        rate = f"{float(run.data.params['trainer.learning_rate']):.1e}".partition("e")[0]
        lr = f"lr {rate.removesuffix('.0')}"
        star = "★ " if str(number) == winner else ""
        what = f" · {run.data.tags.get('tunetrail.reference', '')}".replace("_", " ").rstrip(" ·")
        assert run.info.run_name.startswith(f"{star}trial {number}{what} · {lr}"), lr
        assert run.info.run_name.endswith(f" · {run.data.params['trainer.num_train_epochs']} ep")

    # They have the numbers of the search, in tags, names and the report.
    runs = children(client, below.info.run_id)
    numbered = [trial.user_attrs["finalist_of"] for trial in finals.trials]
    assert numbered != [trial.number for trial in finals.trials]
    # Of the default the run of the search counts as the first.
    numbers = [(n, repeat) for n in numbered for repeat in (0, 1) if (n, repeat) != (0, 0)]
    assert [run.info.run_name.removeprefix("★ ").replace(" · default", "") for run in runs] == [
        f"trial {n} · seed {43 + r}" for n, r in numbers
    ]
    assert [run.data.tags["tunetrail.trial"] for run in runs] == [str(n) for n, _ in numbers]
    assert {run.data.tags["tunetrail.final_of"] for run in runs} == {"s"}
    won = {run.data.tags["tunetrail.trial"] for run in runs if run.info.run_name[0] == "★"}
    assert won == {winner} == {
        run.data.tags["tunetrail.trial"] for run in [*trials[:4], *runs]
        if run.data.tags.get("tunetrail.winner") == "true"
    }  # fmt: skip
    assert parent.data.tags["tunetrail.finals_run"] == below.info.run_id
    assert [run.data.params["training_seed"] for run in runs] == [str(43 + r) for _, r in numbers]
    # The rows stay those of the search: it is the training that is repeated.
    assert {run.data.params["seed"] for run in runs} == {"42"}
    fingerprints = {run.data.tags["tunetrail.data_fingerprint"] for run in runs}
    assert fingerprints == {
        run.data.tags["tunetrail.data_fingerprint"]
        for run in children(client, parent.info.run_id)[:4]
    }
    for trial in finals.trials:
        assert trial.state is TrialState.COMPLETE
        last = client.get_run(trial.user_attrs["mlflow_run_id"])
        assert last.data.metrics["seeds/validation/accuracy_mean"] == pytest.approx(trial.value)
        searched = study.trials[trial.user_attrs["finalist_of"]]
        assert last.data.params["trainer.learning_rate"] == str(
            searched.params["trainer.learning_rate"]
        )
    require_weights(workspace)

    folder = Path(below.info.artifact_uri.removeprefix("file://"))
    report = (folder / "report.md").read_text()
    assert report.startswith("# Finals of study s\n\nThe best points of study s")
    assert "seeds that the search did not use: 43, 44." in report
    assert "## Spread over seeds" in report
    shown = [line.split(" | ")[0] for line in report.partition("## Trials")[2].splitlines()]
    assert [line for line in shown if line[2:].isdecimal()] == [f"| {n}" for n in numbered]
    assert not (folder / "figures").exists()

    # All over again it is all there.
    train(*command)
    assert len(children(client, below.info.run_id)) == len(runs)
    assert len(children(client, parent.info.run_id)) == 5
    require_weights(workspace)


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_in_the_finals_exactly_the_best_weights_are_left(
    command: list[str], workspace: Path, workers: int
) -> None:
    program = [sys.executable, str(ROOT / "train.py"), *command]
    program.append(f"hydra.sweeper.num_workers={workers}")

    def start() -> "subprocess.Popen[str]":
        return Warm(
            program, cwd=workspace, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=dict(os.environ), start_new_session=True,
        )  # fmt: skip

    process = start()
    assert process.stdout is not None
    # Killed when the first final has ended: what follows an end is not done yet.
    for line in process.stdout:
        if re.match(r"final of trial \d+ \| complete", line):
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = [t.number for t in load("s-finals-2").trials if t.state is TrialState.COMPLETE]
    assert done
    process = start()
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    finals = load("s-finals-2")
    complete = [trial for trial in finals.trials if trial.state is TrialState.COMPLETE]
    points = [trial.user_attrs["finalist_of"] for trial in complete]
    assert len(points) == len(set(points)) in (2, 3)
    assert len(load("s").trials) == 4
    require_weights(workspace)


def test_the_library_s_defaults_are_a_trial_and_a_finalist_and_stand_in_the_report(
    train: Train, command: list[str], workspace: Path
) -> None:
    asked = [text for text in command if not text.startswith("sweep.references")]
    train(*asked, "sweep.num_trials=3", "sweep.final_seeds=2", "pruner=threshold",
          "pruner.lower=2", "pruner.n_warmup_steps=0")  # fmt: skip
    study, finals = load("s"), load("s-finals-2")
    client = connect(workspace)
    # Both that the winner is compared with run to their end, whatever the pruner says.
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "PRUNED"]
    library = client.get_run(study.trials[1].user_attrs["mlflow_run_id"])
    assert library.data.tags["tunetrail.reference"] == "library_defaults"
    defaults = TrainingArguments(output_dir="none")
    for name in ("learning_rate", "warmup_steps", "weight_decay"):
        assert library.data.params[f"trainer.{name}"] == str(getattr(defaults, name))
    # How long it may train and what is measured is that of the study.
    assert library.data.params["trainer.eval_strategy"] == "epoch"
    tags = {
        client.get_run(trial.user_attrs["mlflow_run_id"]).data.tags.get("tunetrail.reference")
        for trial in finals.trials
    }
    assert tags == {"default", "library_defaults"}
    # Their runs in the search are not trained again, and are compared with the others.
    for final in finals.trials:
        first, second = final.user_attrs["repeats"]
        assert first == study.trials[final.user_attrs["finalist_of"]].values != second
    runs = children(client, finals.user_attrs["mlflow_run_id"])
    assert [run.info.run_name.endswith("seed 44") for run in runs] == [True, True]
    parent = client.get_run(study.user_attrs["mlflow_run_id"])
    report = Path(parent.info.artifact_uri.removeprefix("file://"), "report.md").read_text()
    first = report.partition("## Winner: ")[2].split("\n\n")
    assert first[1].startswith("**The search bought nothing")
    assert "no point of it has a result" in first[1]
    assert "over library defaults (trial 1)" in first[2]
    assert "| library defaults (trial 1) |" in report
