"""Language models from end to end: texts in, a run, a study, and their model at work."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from architectures import ARCHITECTURES
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from toys import fill_workspace, make_rows, run_here
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from tunetrail.__main__ import main
from tunetrail.data.tables.files import load_table
from tunetrail.served.language import tokenize

pytestmark = pytest.mark.slow

COMMON = (
    "data=files", "data.train=train.txt", "data.validation=validation.txt", "data.test=test.txt",
    "model=directory", "precision=fp32", "trainer.num_train_epochs=2",
    "trainer.learning_rate=1e-2", "trainer.per_device_train_batch_size=4",
)  # fmt: skip
CAUSAL = (*COMMON, "task=causal_lm", "task.max_length=16", "task.max_new_tokens=6",
          "model.path=qwen2")  # fmt: skip
MASKED = (*COMMON, "task=masked_lm", "task.max_length=16", "model.path=bert")


def client() -> MlflowClient:
    return MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")


def all_runs(condition: str = "") -> list[Run]:
    return list(client().search_runs(["1"], condition))


def artifact(run: Run, path: str) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://")) / path


def history(run: Run, name: str) -> dict[int, float]:
    return {m.step: m.value for m in client().get_metric_history(run.info.run_id, name)}


@pytest.fixture(scope="module")
def here(
    tmp_path_factory: pytest.TempPathFactory, empty_store: Path
) -> Iterator[pytest.MonkeyPatch]:
    """A folder with texts, one a line, that the tests stand in."""
    folder = tmp_path_factory.mktemp("language")
    fill_workspace(folder, empty_store)
    for name in ("qwen2", "bert"):
        ARCHITECTURES[name].save(folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed, (split, number) in enumerate({"train": 80, "validation": 30, "test": 30}.items()):
            texts = [text for text, _ in make_rows(number, seed=seed)]
            texts[1] = " ".join(texts[:9])  # longer than a window
            Path(f"{split}.txt").write_text("\n".join(texts) + "\n")
        yield patch


@pytest.fixture(scope="module")
def causal(here: pytest.MonkeyPatch) -> Run:
    run_here(here, *CAUSAL, "score_test=true")
    return all_runs()[0]


def test_the_untuned_model_is_measured_and_is_the_baseline(causal: Run) -> None:
    perplexity = history(causal, "validation/perplexity")
    before, *_, last = (perplexity[step] for step in sorted(perplexity))
    assert min(perplexity) == 0
    assert before > 2 * last
    fit = json.loads(artifact(causal, "reports/fit.json").read_text())
    assert fit["baseline_score"] == before
    metrics = causal.data.metrics
    best = metrics["best/validation/perplexity"]
    assert metrics["best/above_baseline"] == pytest.approx(before - best)
    for name in ("train", "validation"):
        loss, found = history(causal, f"{name}/loss"), history(causal, f"{name}/perplexity")
        assert found == pytest.approx({step: math.exp(value) for step, value in loss.items()})
    assert metrics["test/perplexity_low"] < metrics["test/perplexity"] < before
    assert metrics["test/loss"] == pytest.approx(math.log(metrics["test/perplexity"]))

    tuning = json.loads(artifact(causal, "reports/tuning.json").read_text())
    assert tuning["before"]["perplexity"] == pytest.approx(before)
    assert tuning["after"]["perplexity"] == pytest.approx(best)
    assert tuning["gain"]["interval"]["low"] > 0
    # The verdict goes by the same pairs of rows.
    (against,) = json.loads(artifact(causal, "reports/baselines.json").read_text())["compared"]
    assert against["key"] == "untuned"
    assert against["gain"]["difference"] == pytest.approx(tuning["gain"]["difference"])
    assert metrics["baselines/untuned"] == before
    assert metrics["baselines/above_best_low"] > 0
    assert fit["verdict"] != "no better than the baseline"
    untuned = pd.read_parquet(artifact(causal, "predictions/validation_untuned.parquet"))
    table = pd.read_parquet(artifact(causal, "predictions/validation.parquet"))
    assert list(untuned["text"]) == list(table["text"])
    assert (untuned["perplexity"] > table["perplexity"]).all()
    counted = [len(ids) for ids in tokenize(list(table["text"]), tokenizer())]
    assert list(table["tokens"]) == counted


def tokenizer() -> AutoTokenizer:
    return AutoTokenizer.from_pretrained("qwen2")


def test_samples_of_each_evaluation_stand_in_one_table_that_the_ui_shows(causal: Run) -> None:
    written = json.loads(artifact(causal, "tables/samples.json").read_text())
    samples = pd.DataFrame(written["data"], columns=written["columns"])
    assert list(samples) == ["step", "row", "beginning", "continuation", "target"]
    steps = sorted(history(causal, "validation/perplexity"))
    assert list(samples["step"]) == [step for step in steps for _ in range(5)]
    shown = json.loads(causal.data.tags["mlflow.loggedArtifacts"])
    assert shown == [{"path": "tables/samples.json", "type": "table"}]
    metrics = causal.data.metrics
    share = metrics["speed/sampling_seconds"] / metrics["speed/seconds"]
    assert 0 < metrics["speed/sampling_share"] == pytest.approx(share)


def test_samples_change_nothing_of_the_training(causal: Run, here: pytest.MonkeyPatch) -> None:
    run_here(here, *CAUSAL, "task.num_samples=0", "tracking.log_model=false")
    again = all_runs()[0]
    assert not artifact(again, "tables/samples.json").exists()
    assert "speed/sampling_share" not in again.data.metrics
    for name in ("train/loss", "validation/loss", "train/step_loss"):
        assert history(again, name) == history(causal, name)


def test_a_file_an_export_and_a_server_are_answered_alike(causal: Run, tmp_path: Path) -> None:
    table = pd.read_parquet(artifact(causal, "predictions/test.parquet"))
    (output,) = causal.outputs.model_outputs
    served = mlflow.pyfunc.load_model(f"models:/{output.model_id}").predict(table[["text"]])
    assert list(served) == ["generated_text", "perplexity"]
    assert list(served["perplexity"]) == pytest.approx(list(table["perplexity"]), rel=1e-4)

    folder = tmp_path / "model"
    assert main(["export", causal.info.run_id, str(folder)]) == 0
    for name, model in (("run", causal.info.run_id), ("export", str(folder))):
        out = tmp_path / f"{name}.tsv"
        assert main(["predict", model, "--input", "test.txt", "--output", str(out)]) == 0
        found = load_table(out, name="out").to_pandas()
        assert list(found) == ["text", "prediction", "perplexity"]
        assert list(found["prediction"].fillna("")) == list(served["generated_text"])
        assert [float(value) for value in found["perplexity"]] == pytest.approx(
            list(served["perplexity"]), rel=1e-4
        )

    assert 'pipeline("text-generation", "model")' in (folder / "README.md").read_text()
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.generation_config.max_new_tokens == 6
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    continue_ = pipeline("text-generation", str(folder))
    # The library puts nothing before a text, and the run what ends one: so it is given.
    end = continue_.tokenizer.eos_token
    text = table["text"][0]
    (answer,) = continue_(f"{end}{text}", do_sample=False, return_full_text=False)
    assert answer["generated_text"] == served["generated_text"][0]


def test_a_masked_model_learns_and_its_export_fills_masks(
    here: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_here(here, *MASKED, "score_test=true", "trainer.num_train_epochs=4")
    run = all_runs()[0]
    perplexity = history(run, "validation/perplexity")
    assert perplexity[0] > 1.5 * perplexity[max(perplexity)]
    assert run.data.metrics["test/token_accuracy"] > 0
    folder = tmp_path / "model"
    assert main(["export", run.info.run_id, str(folder)]) == 0
    (tmp_path / "in.txt").write_text("it was a [MASK] day\nit was a good day\n")
    out = tmp_path / "out.tsv"
    assert main(["predict", str(folder), "--input", str(tmp_path / "in.txt"),
                 "--output", str(out)]) == 0  # fmt: skip
    found = load_table(out, name="out").to_pandas()
    fill = pipeline("fill-mask", str(folder))
    assert found["prediction"][0] == fill("it was a [MASK] day")[0]["sequence"]
    assert found["text"][1] != ""


def test_a_study_minimises_perplexity_prunes_by_it_and_compares_with_the_untuned_model(
    here: pytest.MonkeyPatch,
) -> None:
    run_here(
        here, "-m", *CAUSAL, "study=lm", "registry.name=lm", "pruner.n_startup_trials=1",
        "trainer.learning_rate=tag(log,interval(1e-7,1e-1))",
        "sweep.enqueue=[{trainer.learning_rate: 1e-2},{trainer.learning_rate: 1e-7}]",
        "sweep.try_default=false", "sweep.num_trials=2", "sweep.finalists=1", "sweep.final_seeds=1",
        "task.num_samples=0", "sweep.references.library_defaults=null",
    )  # fmt: skip
    (parent,) = all_runs("attributes.run_name = 'lm'")
    good, hopeless = (all_runs(f"tags.`tunetrail.trial` = '{number}' and "
                               "tags.`tunetrail.study` = 'lm'") for number in (0, 1))  # fmt: skip
    assert good[0].data.tags["tunetrail.state"] == "COMPLETE"
    assert hopeless[0].data.tags["tunetrail.state"] == "PRUNED"
    # Before training all are equal, and that is reported to no pruner.
    first = history(hopeless[0], "validation/perplexity")
    assert first[0] == history(good[0], "validation/perplexity")[0]
    assert len(first) == 2
    assert parent.data.tags["tunetrail.best_run"] == good[0].info.run_id
    report = artifact(parent, "report.md").read_text()
    gain = "gain in perplexity (lower is better) +"
    assert f"better than the untuned model by more than noise: {gain}" in report
    assert parent.data.tags["tunetrail.registered"] == "lm/1"
