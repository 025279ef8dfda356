"""Early stopping by the callback of transformers, and its names."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow.tracking import MlflowClient

from tunetrail.studies.fits import describe_stop

Train = Callable[..., Any]

KEY = "early_stopping.early_stopping_patience"
# No step changes a weight: no evaluation is better than the first.
STUCK = ("trainer.learning_rate=1e-12", "trainer.num_train_epochs=6", "tracking.log_model=false")


def runs_of(workspace: Path) -> list[Any]:
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tunetrail")
    return list(client.search_runs([experiment.experiment_id]))


@pytest.mark.slow
def test_a_run_without_progress_ends_and_says_so(
    train: Train, tiny: list[str], workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(*tiny, *STUCK, f"{KEY}=2")
    said = capsys.readouterr()
    assert "best epoch 1 of 3, stopped early: 2 evaluations without a better" in said.out
    assert "early stopping required" not in said.err
    (run,) = runs_of(workspace)
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    assert len(client.get_metric_history(run.info.run_id, "validation/loss")) == 3
    assert run.data.tags["tunetrail.state"] == "COMPLETE"


@pytest.mark.slow
def test_the_metric_is_that_of_the_best_model_and_may_be_one_of_train(
    train: Train, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With a real learning rate the loss falls all the time: no epoch is left out."""
    train(*tiny, "trainer.metric_for_best_model=train_loss", f"{KEY}=1", *STUCK[2:])
    assert "best epoch 2 of 2   (" in capsys.readouterr().out
    huge = "early_stopping.early_stopping_threshold=9"
    train(*tiny, "trainer.metric_for_best_model=train_loss", f"{KEY}=1", huge, *STUCK[1:])
    assert re.search(r"best epoch \d of 2, stopped early", capsys.readouterr().out)


@pytest.mark.slow
def test_a_trial_that_stops_itself_is_complete_and_is_not_pruned(
    train: Train, tiny: list[str], workspace: Path
) -> None:
    """The pruner stops every trial at its third evaluation; one has ended by itself before."""
    fixed = [o for o in tiny if not o.startswith("trainer.learning_rate")]
    train(
        "-m", *fixed, "trainer.num_train_epochs=6", "trainer.per_device_train_batch_size=16",
        "study=s", f"{KEY}=1", "trainer.learning_rate=1e-12,3e-3", "sampler=grid",
        "sweep.num_trials=2", "sweep.final_seeds=0", "sweep.try_default=false",
        "pruner=threshold", "pruner.upper=null", "pruner.lower=2.0", "pruner.n_warmup_steps=2",
        "tracking.log_model=false",
    )  # fmt: skip
    study = optuna.load_study(study_name="s", storage="sqlite:///mlruns/optuna.db")
    found = {
        trial.params["trainer.learning_rate"]: (trial.state.name, describe_stop(trial))
        for trial in study.trials
    }
    assert found == {1e-12: ("COMPLETE", "stopped early at epoch 2"), 3e-3: ("PRUNED", "")}
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    parent = client.get_run(study.user_attrs["mlflow_run_id"])
    report = Path(parent.info.artifact_uri.removeprefix("file://")) / "report.md"
    assert "stopped early at epoch 2" in report.read_text()
