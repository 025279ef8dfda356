"""``python train.py``: one run, and what it writes."""

import contextlib
import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from audits import audit
from PIL import Image
from run_records import all_runs, artifact, client_of, only_run
from toys import fill_workspace, run_here, tiny_overrides

from tunetrail.tasks.text_classification import TextClassification


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


def test_metric_names_are_those_that_the_task_computes(finished: Finished) -> None:
    names = TextClassification.metrics
    computed = {n.removeprefix("validation/") for n in finished.run.data.metrics if n[:3] == "val"}
    assert {"loss", *names} == computed
