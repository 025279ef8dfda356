"""``python train.py`` with other settings and other rows: what a run makes of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import torch
from mlflow.tracking import MlflowClient
from run_records import all_runs, artifact, client_of, only_run
from toys import make_rows, write_csv
from transformers import AutoConfig, AutoModel

Train = Callable[..., Any]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers(
    train: Train, tiny: list[str], workspace: Path
) -> None:
    small = [*tiny, "tracking.log_model=false", "trainer.num_train_epochs=1"]
    train(*small)
    train(*small)
    train(*small, "seed=7")
    client = client_of(workspace)
    losses: dict[str, list[tuple[float, ...]]] = {}
    for run in all_runs(workspace):
        history = client.get_metric_history(run.info.run_id, "train/step_loss")
        history += client.get_metric_history(run.info.run_id, "validation/loss")
        losses.setdefault(run.data.params["seed"], []).extend([tuple(m.value for m in history)])
    assert losses["42"][0] == losses["42"][1]
    assert losses["7"][0] != losses["42"][0]


@pytest.mark.slow
def test_a_run_is_the_same_without_baselines(
    train: Train, tiny: list[str], workspace: Path
) -> None:
    train(*tiny, "tracking.log_model=false")
    train(*tiny, "tracking.log_model=false", "diagnostics.baselines=false")
    client, found = client_of(workspace), {}
    for run in all_runs(workspace):
        names = [n for n in run.data.metrics if not n.startswith(("speed/", "baselines/"))]
        found[run.data.params["diagnostics.baselines"]] = {
            name: [m.value for m in client.get_metric_history(run.info.run_id, name)]
            for name in names
        }
        has_report = artifact(run, "reports/baselines.json").is_file()
        assert str(has_report) == run.data.params["diagnostics.baselines"]
    assert found["True"] == found["False"]


@pytest.mark.slow
def test_test_rows_are_scored_only_on_request_and_never_returned(
    train: Train, tiny: list[str], workspace: Path
) -> None:
    """All labels of the test rows are wrong, so that their score is recognised."""
    rows = [
        (text, {"negative": "positive"}.get(label, "negative")) for text, label in make_rows(30)
    ]
    write_csv(workspace / "test.csv", rows)
    overrides = [*tiny, "data.test=test.csv", "tracking.log_model=false"]
    overrides.append("trainer.num_train_epochs=6")
    score = train(*overrides)
    (run,) = all_runs(workspace)
    assert not any(name.startswith("test/") for name in run.data.metrics)
    assert train(*overrides, "score_test=true") == score
    (run,) = all_runs(workspace, "metrics.`test/accuracy` >= 0")
    measured = run.data.metrics
    assert measured["test/accuracy"] < 0.5 < score
    assert measured["test/accuracy_low"] <= measured["test/accuracy"]
    assert measured["test/accuracy"] <= measured["test/accuracy_high"]
    path = MlflowClient().download_artifacts(run.info.run_id, "predictions/test.parquet")
    table = pd.read_parquet(path)
    assert (table["target"] == table["prediction"]).mean() == measured["test/accuracy"]
    assert run.data.tags["tunetrail.test_scored"] == "true"


@pytest.mark.slow
def test_the_flags_of_determinism_are_those_of_the_training(
    train: Train, tiny: list[str], workspace: Path
) -> None:
    """Trainer sets them when it is built, and the next run in the process has its own."""
    fast = ("tracking.log_model=false", "trainer.num_train_epochs=1")
    train(*tiny, *fast, "+trainer.full_determinism=true", "tracking.run_name=exact")
    train(*tiny, *fast, "tracking.run_name=usual")
    flags = {
        run.info.run_name: json.loads(artifact(run, "environment/machine.json").read_text())
        for run in all_runs(workspace)
    }
    assert flags["exact"]["deterministic"]["algorithms"] is True
    assert flags["usual"]["deterministic"]["algorithms"] is False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "best_of"),
    [
        ("trainer.metric_for_best_model=validation_loss", min),
        ("trainer.load_best_model_at_end=false", None),
    ],
    ids=["by loss", "the last"],
)
def test_the_best_is_the_evaluation_that_was_asked_for(
    train: Train, tiny: list[str], workspace: Path, override: str, best_of: Any
) -> None:
    train(*tiny, override, "tracking.log_model=false", "trainer.num_train_epochs=3")
    run = only_run(workspace)
    losses = [
        m.value for m in client_of(workspace).get_metric_history(run.info.run_id, "validation/loss")
    ]
    wanted = losses[-1] if best_of is None else best_of(losses)
    assert run.data.metrics["best/validation/loss"] == wanted
    table = pd.read_parquet(artifact(run, "predictions/validation.parquet"))
    right = (table["prediction"] == table["target"]).mean()
    assert right == pytest.approx(run.data.metrics["best/validation/accuracy"])


@pytest.mark.slow
def test_frozen_trains_the_head_alone(train: Train, tiny: list[str], workspace: Path) -> None:
    train(*tiny, "method=frozen", "trainer.learning_rate=1e-2")
    (output,) = only_run(workspace).outputs.model_outputs
    trained = mlflow.transformers.load_model(f"models:/{output.model_id}").model
    path = next(o.removeprefix("model.path=") for o in tiny if o.startswith("model.path="))
    body = dict(AutoModel.from_pretrained(path).named_parameters())
    for name, weights in trained.base_model.named_parameters():
        assert torch.equal(weights, body[name]), name


@pytest.mark.slow
def test_the_tutorial_is_the_classic_recipe(train: Train, tiny_gpt2: Path, workspace: Path) -> None:
    """Both halves replaced by local files; every argument of the recipe stands."""
    train(
        "experiment=tutorial_gpt2",
        "data=files",
        "data.train=train.csv",
        "data.validation=validation.csv",
        "data.num_train=24",
        "data.num_validation=12",
        "model=directory",
        f"model.path={tiny_gpt2}",
        "trainer.num_train_epochs=1",
    )
    run = only_run(workspace)
    wanted = {
        "trainer.per_device_train_batch_size": "1",
        "trainer.per_device_eval_batch_size": "1",
        "trainer.gradient_accumulation_steps": "4",
        "task.padding": "max_length",
        "data.subset": "shuffled",
        "seed": "42",
    }
    assert {name: run.data.params[name] for name in wanted} == wanted
    # 24 rows, batches of 1, 4 accumulation steps
    client = client_of(workspace)
    (last,) = client.get_metric_history(run.info.run_id, "validation/loss")[-1:]
    assert last.step == 6
    (output,) = run.outputs.model_outputs
    location = client.get_logged_model(output.model_id).artifact_location
    config = AutoConfig.from_pretrained(Path(location.removeprefix("file://")) / "model")
    assert config.num_labels == 3
    assert config.pad_token_id == 0


@pytest.mark.slow
def test_the_tutorial_takes_exactly_the_rows_of_shuffle_and_select(
    train: Train, tiny: list[str], workspace: Path
) -> None:
    from datasets import load_dataset

    train(*tiny, "data.subset=shuffled", "data.num_validation=10", "trainer.max_steps=1",
          "trainer.eval_strategy=steps", "trainer.eval_steps=1", "trainer.save_strategy=steps",
          "trainer.save_steps=1")  # fmt: skip
    table = pd.read_parquet(artifact(only_run(workspace), "predictions/validation.parquet"))
    rows = load_dataset("csv", data_files=str(workspace / "validation.csv"))["train"]
    expected = rows.shuffle(seed=42).select(range(10))
    assert set(table["text"]) == set(expected["text"])


@pytest.mark.slow
def test_a_label_that_a_split_lacks_is_said(
    train: Train, workspace: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """In the log, in the record and in the summary: it counts as 0 in macro F1."""
    rows = [row for row in make_rows(30, seed=2) if row[1] != "neutral"]
    write_csv(workspace / "validation.csv", rows)
    train(*tiny, "trainer.num_train_epochs=1", "data.label_names=[negative,neutral,positive,none]")
    lines = {
        "train": "train has no row with 1 of 4 labels (none): the model cannot learn them",
        "validation": "validation has no row with 2 of 4 labels (neutral, none): each counts as 0 "
        "in macro_f1, macro_precision, macro_recall",
    }
    said = capsys.readouterr()
    for line in lines.values():
        assert f"note        {line}\n" in said.out
        log = Path(next(Path("mlruns/hydra").rglob("train.log"))).read_text()
        assert f"{line}\n" in log
    # Each of them once.
    assert log.count(" has no row ") == 2
    run = only_run(workspace)
    report = json.loads(artifact(run, "reports/data.json").read_text())["missing_labels"]
    assert {name: one["line"] for name, one in report.items()} == lines
    assert report["validation"]["labels"] == ["neutral", "none"]
    assert json.loads(artifact(run, "reports/fit.json").read_text())["loss_rise_noise"] == 0.0
