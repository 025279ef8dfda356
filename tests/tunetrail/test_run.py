"""``python train.py``: one run, and what it writes."""

import contextlib
import hashlib
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import torch
from audits import audit
from mlflow.tracking import MlflowClient
from PIL import Image
from toys import ROOT, fill_workspace, make_rows, run_here, tiny_overrides, write_csv
from transformers import AutoConfig, AutoModel
from warm import Warm

from tunetrail.tasks.text_classification import TextClassification

Train = Callable[..., Any]


def client_of(workspace: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")


def all_runs(workspace: Path, filter_string: str = "") -> list[Any]:
    client = client_of(workspace)
    experiment = client.get_experiment_by_name("tunetrail")
    return list(client.search_runs([experiment.experiment_id], filter_string))


def only_run(workspace: Path) -> Any:
    (run,) = all_runs(workspace)
    return run


def artifact(run: Any, path: str) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://")) / path


@dataclass(frozen=True)
class Finished:
    """A run that ended: its folder, its record, what it returned and printed."""

    workspace: Path
    run: Any
    score: float
    said: str

    def history(self, metric: str) -> list[Any]:
        return list(client_of(self.workspace).get_metric_history(self.run.info.run_id, metric))

    def predictions(self) -> pd.DataFrame:
        return pd.read_parquet(artifact(self.run, "predictions/validation.parquet"))


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, empty_store: Path, tiny_gpt2: Path
) -> Iterator[Finished]:
    """One run, made once and looked at from several sides."""
    folder = tmp_path_factory.mktemp("finished")
    fill_workspace(folder, empty_store)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            score = run_here(patch, *tiny_overrides(tiny_gpt2), "+trainer.adam_beta2=0.98")
        yield Finished(folder, only_run(folder), score, said.getvalue())


def test_the_page_of_the_run_has_its_headings_and_leads_nowhere(finished: Finished) -> None:
    page = audit(artifact(finished.run, "reports/summary.html").read_text("utf-8"))
    assert page.headings == [
        "Verdict", "Learning curves", "Baselines", "Data", "Errors", "Scores by label",
        "Worst rows", "Calibration", "What the model forgot", "Leakage", "Data quality",
        "Labels that are probably wrong", "Config", "Run it again",
    ]  # fmt: skip
    assert "could not be described" not in page.text
    assert "reports/summary.html" in finished.said


def test_the_run_is_found_by_its_rows_and_says_what_it_was(finished: Finished) -> None:
    tags, run_id = finished.run.data.tags, finished.run.info.run_id
    name = finished.run.info.run_name
    assert name.endswith(" · files · text classification · bs 8 · lr 3e-3 · 2 ep")
    assert tags["tunetrail.role"] == "run"
    for condition in ("dataset.name = 'files'", "dataset.context = 'validation'"):
        (found,) = all_runs(finished.workspace, condition)
        assert found.info.run_id == run_id
    assert all_runs(finished.workspace, "dataset.context = 'test'") == []
    rows = {
        one.tags[0].value: json.loads(one.dataset.profile)["num_rows"]
        for one in finished.run.inputs.dataset_inputs
    }
    assert rows == {"train": 60, "validation": 30}
    described = tags["mlflow.note.content"]
    assert described.startswith(f"**accuracy {finished.score:.4f}** ± ")
    page = f"#/experiments/{finished.run.info.experiment_id}/runs/{run_id}/artifacts/"
    assert f"[its page]({page}reports/summary.html)" in described
    assert f"tunetrail rerun {run_id}" in described


def test_a_run_has_these_metrics_and_no_others(finished: Finished) -> None:
    scores = {"loss", "accuracy", "macro_f1", "macro_precision", "macro_recall"}
    expected = {f"{group}/{name}" for group in ("train", "validation", "gap") for name in scores}
    expected |= {f"train/{name}" for name in ("step_loss", "learning_rate", "grad_norm")}
    expected |= {f"best/validation/{name}" for name in scores}
    expected |= {f"best/{group}/{n}" for group in ("train", "gap") for n in ("loss", "accuracy")}
    expected |= {f"best/{name}" for name in ("epoch", "above_baseline", "standard_error")}
    found = {name for name in finished.run.data.metrics if not name.startswith("system/")}
    others = {"baselines", "calibration", "forgetting", "model", "speed"}
    assert found == {name for name in found if name.partition("/")[0] in others} | expected | {
        "epoch"
    }
    assert {name for name in found if name.startswith("calibration/")} == {
        f"calibration/{name}"
        for name in ("ece", "ece_of_calibrated", "ece_fitted", "ece_cross_fitted", "temperature")
    }
    # One number is a bar at step 0, not a curve of one point.
    for name in found - {"epoch"}:
        if name.partition("/")[0] not in ("train", "validation", "gap"):
            assert [metric.step for metric in finished.history(name)] == [0], name


def test_params_are_the_leaves_that_decide_the_result(finished: Finished) -> None:
    params = finished.run.data.params
    assert params["trainer.learning_rate"] == "0.003"
    assert params["trainer.adam_beta2"] == "0.98"
    assert params["seed"] == "42"
    assert not any(name.startswith(("tracking.", "sweep.", "trial.")) for name in params)


def test_train_and_validation_are_measured_at_the_same_steps(finished: Finished) -> None:
    names = ("train/loss", "validation/loss", "train/accuracy", "validation/accuracy", "gap/loss")
    assert {frozenset(m.step for m in finished.history(name)) for name in names} == {
        frozenset({8, 16})
    }


def test_best_metrics_are_those_of_the_weights_that_are_kept(finished: Finished) -> None:
    metrics = finished.run.data.metrics
    best = max(m.value for m in finished.history("validation/accuracy"))
    assert metrics["best/validation/accuracy"] == best == finished.score
    gap = metrics["best/train/accuracy"] - metrics["best/validation/accuracy"]
    assert metrics["best/gap/accuracy"] == pytest.approx(gap)
    # three labels, ten rows each: the majority class scores a third
    above = metrics["best/validation/accuracy"] - 1 / 3
    assert metrics["best/above_baseline"] == pytest.approx(above)
    assert metrics["speed/train_samples_per_second"] > 0


def test_tags_and_artifacts_name_the_origin_of_the_run(finished: Finished) -> None:
    run = finished.run
    assert run.info.status == "FINISHED"
    assert run.data.tags["tunetrail.state"] == "COMPLETE"
    assert re.fullmatch("[0-9a-f]{16}", run.data.tags["tunetrail.data_fingerprint"])
    assert re.fullmatch("[0-9a-f]{40}", run.data.tags["tunetrail.commit"])
    assert "learning_rate: 0.003" in artifact(run, "config.yaml").read_text()
    assert "trainer.learning_rate=3e-3" in artifact(run, "overrides.yaml").read_text()
    assert "torch==" in artifact(run, "environment/requirements.txt").read_text()
    described = {
        name: json.loads(artifact(run, f"environment/{name}.json").read_text())
        for name in ("code", "machine", "seeds", "model")
    }
    assert described["machine"]["num_threads"] >= 1
    assert described["code"]["commit"] == run.data.tags["tunetrail.commit"]
    assert set(described["seeds"].values()) == {42}
    model = described["model"]
    assert model["num_parameters"] > 20_000
    assert model["sha256"].startswith(run.data.tags["tunetrail.model_fingerprint"])
    assert "tunetrail.test_fingerprint" not in run.data.tags


def test_reports_and_figures_are_there_to_be_read(finished: Finished) -> None:
    run = finished.run
    fit = json.loads(artifact(run, "reports/fit.json").read_text())
    assert fit["verdict"] == run.data.tags["tunetrail.verdict"]
    baselines = json.loads(artifact(run, "reports/baselines.json").read_text())
    assert fit["baseline"] == baselines["compared"][0]["name"]
    metrics = run.data.metrics
    assert {one["key"]: one["score"] for one in baselines["compared"]} == {
        name: metrics[f"baselines/{name}"] for name in ("linear", "majority", "chance")
    }
    gain = finished.score - max(one["score"] for one in baselines["compared"])
    assert metrics["baselines/above_best"] == pytest.approx(gain)
    assert f"baselines   {baselines['line']}\n" in finished.said
    assert "a linear model of words" in artifact(run, "reports/baselines.md").read_text()
    for name in ("data_quality.md", "leakage.md"):
        assert "train" in artifact(run, f"reports/{name}").read_text()
    data = json.loads(artifact(run, "reports/data.json").read_text())
    assert {name: split["num_rows"] for name, split in data["splits"].items()} == {
        "train": 60,
        "validation": 30,
    }
    files = {file["name"]: file for file in data["files"]}
    assert set(files) == {"train.csv", "validation.csv"}
    content = (finished.workspace / "train.csv").read_bytes()
    assert files["train.csv"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert files["train.csv"]["num_bytes"] == len(content)
    for name in ("learning_curves", "confusion_matrix"):
        with Image.open(artifact(run, f"figures/{name}.png")) as image:
            assert min(image.size) > 400
    # the page carries its drawing library: it opens without a network
    page = artifact(run, "figures/learning_curves.html")
    assert page.stat().st_size > 3_000_000
    assert "train sample" in page.read_text()


def test_predictions_are_beside_their_own_rows(finished: Finished) -> None:
    """Evaluation runs sorted by length; the table is in the order of the file."""
    table = finished.predictions()
    source = pd.read_csv(finished.workspace / "validation.csv")
    assert list(table["text"]) == list(source["text"])
    assert list(table["target"]) == list(source["label"])
    assert (table["prediction"] == table["target"]).mean() == pytest.approx(finished.score)
    assert table.filter(like="probability_").sum(axis=1).to_numpy() == pytest.approx(1.0)


def test_nothing_is_left_behind_but_the_run(finished: Finished) -> None:
    assert not list((finished.workspace / "mlruns" / "checkpoints").iterdir())
    left = {path.name for path in finished.workspace.iterdir()}
    assert left == {"mlruns", "train.csv", "validation.csv"}


def test_the_summary_says_what_a_person_needs_next(finished: Finished) -> None:
    assert finished.run.info.run_id in finished.said
    assert f"{finished.score:.4f}" in finished.said
    assert finished.run.data.tags["tunetrail.verdict"] in finished.said
    assert f"tunetrail ui {finished.run.info.run_id[:8]}\n" in f"{finished.said}\n"


def test_the_logged_model_answers_with_label_names(finished: Finished) -> None:
    (output,) = finished.run.outputs.model_outputs
    uri = f"models:/{output.model_id}"
    table = finished.predictions()
    loaded = mlflow.pyfunc.load_model(uri)
    answers = loaded.predict(table[["text"]])
    assert list(answers["label"]) == list(table["prediction"])
    assert answers["score"].to_numpy() == pytest.approx(table["confidence"].to_numpy(), abs=1e-4)
    # a text far longer than the model can read is cut, not refused
    assert len(loaded.predict([{"text": "good great " * 500}])) == 1
    classify = mlflow.transformers.load_model(uri)
    assert [a["label"] for a in classify(list(table["text"][:3]))] == list(table["prediction"][:3])
    assert loaded.metadata.signature.inputs.to_dict()[0]["type"] == "string"
    assert loaded.input_example is not None
    logged = client_of(finished.workspace).get_logged_model(output.model_id)
    assert (logged.status, logged.source_run_id) == ("READY", finished.run.info.run_id)
    assert "max_length" not in finished.run.data.params


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


def test_metric_names_are_those_that_the_task_computes(finished: Finished) -> None:
    names = TextClassification.metrics
    computed = {n.removeprefix("validation/") for n in finished.run.data.metrics if n[:3] == "val"}
    assert {"loss", *names} == computed


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
def test_an_interrupted_run_continues_to_the_same_numbers(
    train: Train, tiny: list[str], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped by Ctrl-C after its first epoch, resumed into the same MLflow run."""
    from tunetrail.training.callbacks import ProgressBar

    whole = train(*tiny)
    reference = only_run(workspace)
    client = client_of(workspace)

    class Stop(ProgressBar):
        def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.epoch >= 1:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tunetrail.pipeline.ProgressBar", Stop)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(*tiny)
    (stopped,) = all_runs(workspace, "attributes.status = 'KILLED'")
    with pytest.raises(SystemExit) as caught:
        train(*tiny, f"resume={stopped.info.run_id}", "trainer.learning_rate=1e-3")
    assert "trainer.learning_rate: 0.003 -> 0.001" in str(caught.value)
    began = artifact(stopped, "config.yaml").read_text()
    assert train(*tiny, f"resume={stopped.info.run_id}") == whole
    resumed = client.get_run(stopped.info.run_id)
    # what it began with stays; what went on with it is said beside
    assert artifact(resumed, "config.yaml").read_text() == began
    for name in ("code", "machine", "seeds", "model"):
        first = artifact(resumed, f"environment/{name}.json").read_text()
        assert artifact(resumed, f"environment/resumed/{name}.json").read_text() == first
    assert resumed.info.status == "FINISHED"
    assert "tunetrail.failure" not in resumed.data.tags
    speed = resumed.data.metrics["speed/train_samples_per_second"]
    assert 0 < speed < 100 * reference.data.metrics["speed/train_samples_per_second"]
    for name in ("validation/loss", "train/loss", "validation/accuracy", "train/macro_f1"):
        assert resumed.data.metrics[name] == reference.data.metrics[name], name


@pytest.mark.slow
def test_a_run_that_is_terminated_is_closed_as_killed(tiny: list[str], workspace: Path) -> None:
    """SIGTERM, as a scheduler sends it, to a real process in the middle of its training."""
    process = Warm(
        [sys.executable, str(ROOT / "train.py"), *tiny, "trainer.num_train_epochs=500"],
        cwd=workspace,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        checkpoints = workspace / "mlruns" / "checkpoints"
        while not list(checkpoints.glob("*/checkpoint-*")) and time.monotonic() < deadline:
            time.sleep(0.2)
        process.terminate()
        assert process.wait(timeout=60) == 143
    finally:
        process.kill()
    run = only_run(workspace)
    assert run.info.status == "KILLED"
    # it can be resumed from its checkpoint
    assert list((checkpoints / run.info.run_id).glob("checkpoint-*"))


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
