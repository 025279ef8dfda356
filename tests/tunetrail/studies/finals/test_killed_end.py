"""The end of a study, killed between one thing that it writes and the next."""

import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import warm
from mlflow.tracking import MlflowClient
from toys import ROOT, make_rows, write_csv

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# The calls after which the process is killed, in the order in which the end makes them.
MOMENTS = [
    "tunetrail.studies.finals.scoring.load_logged",
    "tunetrail.studies.finals.scoring.score_saved",
    "tunetrail.tracking.run_log.RunLog.table",
    "tunetrail.tracking.recording.log_test",
    "tunetrail.tracking.registry.hold_model",
    "mlflow.tracking.MlflowClient.create_registered_model",
    "mlflow.tracking.MlflowClient.create_model_version",
    "mlflow.tracking.MlflowClient.set_registered_model_alias",
    "tunetrail.tracking.registry.register",
    "tunetrail.tracking.models.write_card",
    "tunetrail.tracking.registry.describe",
    "tunetrail.studies.finals.winner._log_conclusion",
    "tunetrail.studies.callback.register_winner",
]
# A program, killed by the kernel right after a call: no handler, no clean-up, no flush.
KILLED = """
import os, pkgutil, runpy, signal, sys

moment, *sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
owner, _, name = moment.rpartition(".")
owner = pkgutil.resolve_name(owner)
real = getattr(owner, name)

def call_and_die(*args, **options):
    real(*args, **options)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, call_and_die)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def start(workspace: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return warm.run(
        [sys.executable, *arguments],
        cwd=workspace,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.timeout(900)
def test_after_a_kill_at_any_step_of_the_end_the_same_command_completes_it(
    workspace: Path, tiny: list[str]
) -> None:
    write_csv(workspace / "test.csv", make_rows(45, seed=3))
    command = [str(ROOT / "train.py"), "-m", *tiny, "data.test=test.csv", "study=s"]
    command += ["trainer.learning_rate=choice(3e-3)", "sweep.search_space={}"]
    command += ["sweep.num_trials=1", "sweep.finalists=1", "sweep.final_seeds=1"]
    for moment in MOMENTS:
        done = start(workspace, "-c", KILLED, moment, *command)
        assert done.returncode == -signal.SIGKILL, (moment, done.stdout, done.stderr)
    done = start(workspace, *command)
    assert done.returncode == 0, done.stderr
    assert "registered   tunetrail-files version 1, champion: the first version" in done.stdout

    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    (version,) = client.search_model_versions("name='tunetrail-files'")
    champion = client.get_model_version_by_alias("tunetrail-files", "champion")
    assert champion.version == version.version == 1
    assert champion.description.startswith("# tunetrail-files\n")
    assert champion.tags["tunetrail.alias_reason"] == "the first version with a test score"
    (run,) = client.search_runs(["1"], "tags.`tunetrail.final_of` = 's'"
                                " and tags.`tunetrail.finals_trial` = '0'")  # fmt: skip
    assert champion.run_id == run.info.run_id
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{workspace}/mlruns/optuna.db")
    assert study.user_attrs["test_looks"] == [run.info.run_id]
    losses = client.get_metric_history(run.info.run_id, "test/loss")
    assert len({loss.value for loss in losses}) == 1
    parent = study.user_attrs["mlflow_run_id"]
    assert client.get_run(parent).info.status == "FINISHED"
    report = Path(client.download_artifacts(parent, "report.md")).read_text()
    for words in ("## Winner: ", "### On the test split", "### In the registry", "## Trials"):
        assert report.count(words) == 1
    assert list((workspace / "mlruns").rglob("*.part")) == []
