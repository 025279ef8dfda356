"""Words tagged from end to end: files in, a run, and its model at work in every way it is used."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from architectures import ARCHITECTURES
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from toys import fill_workspace, make_tagged, run_here, write_conll
from transformers import pipeline

from tunetrail.__main__ import main

pytestmark = pytest.mark.slow

COMMON = (
    "task=token_classification", "task.max_length=12", "data=files", "model=directory",
    "model.path=bert", "precision=fp32", "trainer.num_train_epochs=4",
    "trainer.learning_rate=1e-2", "trainer.per_device_train_batch_size=8", "score_test=true",
)  # fmt: skip
# Both are longer than a window.
TEXTS = [
    "we saw anna and then new york today and it was a day",
    "7 bob  mill was the day it was then rome we saw today",
]
TAGS = [
    "O O B-person O O B-place I-place O O O O O O",
    "O B-person I-person O O O O O O B-place O O O",
]


def all_runs() -> list[Run]:
    client = MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")
    return list(client.search_runs(["1"]))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Run]:
    """A run on CoNLL files, from the folder that the tests then stand in."""
    folder = tmp_path_factory.mktemp("tagging")
    fill_workspace(folder, empty_store)
    ARCHITECTURES["bert"].save(folder / "bert")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed, split in enumerate(("train", "validation", "test")):
            rows = make_tagged(150 if split == "train" else 40, seed=seed)
            write_conll(Path(f"{split}.conll"), rows)
            table = pd.DataFrame(rows, columns=["words", "ner"])
            table.to_json(f"{split}.jsonl", orient="records", lines=True)
        files = [f"data.{split}={split}.conll" for split in ("train", "validation", "test")]
        run_here(patch, *COMMON, *files)
        yield all_runs()[0]


def artifact(run: Run, path: str) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://")) / path


def test_entities_are_learnt_and_written_for_each_type(run: Run) -> None:
    metrics = run.data.metrics
    assert metrics["test/f1"] > 0.9
    assert metrics["test/f1_low"] <= metrics["test/f1"] <= metrics["test/f1_high"]
    assert metrics["best/above_baseline"] == pytest.approx(
        metrics["best/validation/f1"]
        - json.loads(artifact(run, "reports/fit.json").read_text())["baseline_score"]
    )
    by_label = pd.read_csv(artifact(run, "tables/by_label_test.csv"))
    assert list(by_label["label"]) == ["person", "place"]
    assert artifact(run, "figures/scores_by_type_test.png").is_file()


def test_lists_in_columns_of_other_names_are_the_same_rows(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [f"data.{split}={split}.jsonl" for split in ("train", "validation", "test")]
    run_here(
        monkeypatch, *COMMON, *files, "data.columns.tokens=words", "data.columns.tags=ner",
        "trainer=smoke", "tracking.log_model=false",
    )  # fmt: skip
    again = all_runs()[0]
    assert again.info.run_id != run.info.run_id
    fingerprint = "tunetrail.data_fingerprint"
    assert again.data.tags[fingerprint] == run.data.tags[fingerprint]


def test_texts_and_lists_of_tokens_are_predicted(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("\n".join(TEXTS) + "\n")
    out = tmp_path / "out.tsv"
    assert predict(run, tmp_path / "in.txt", out) == 0
    found = pd.read_csv(out, sep="\t")
    assert list(found) == ["text", "prediction", "entities"]
    assert list(found["prediction"]) == TAGS
    entities = [json.loads(row) for row in found["entities"]]
    assert [entity["text"] for entity in entities[0]] == ["anna", "new york"]
    assert entities[1][0] == {"type": "person", "text": "bob  mill", "start": 2, "end": 11}

    rows = [{"id": n, "tokens": text.split()} for n, text in enumerate(TEXTS)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out.jsonl"
    assert predict(run, tmp_path / "in.jsonl", out, "--text-column", "tokens") == 0
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    assert [answer["prediction"] for answer in answers] == list(found["prediction"])
    assert [answer["tokens"] for answer in answers] == [row["tokens"] for row in rows]
    assert answers[1]["entities"][0] == {
        "type": "person",
        "text": "bob mill",
        "start": 2,
        "end": 10,
    }


def predict(run: Run, source: Path, out: Path, *more: str) -> int:
    return main(["predict", run.info.run_id, "--input", str(source), "--output", str(out), *more])


def test_an_export_gives_the_same_entities_to_transformers(run: Run, tmp_path: Path) -> None:
    assert main(["export", run.info.run_id, str(tmp_path / "model")]) == 0
    usage = 'pipeline("token-classification", "model", aggregation_strategy="first", stride=3)'
    assert usage in (tmp_path / "model/README.md").read_text()
    tag: Any = pipeline(
        "token-classification", str(tmp_path / "model"), aggregation_strategy="first", stride=3
    )
    for text, entities in zip(TEXTS, served(run)["entities"], strict=True):
        assert len(tag.tokenizer(text)["input_ids"]) > 12
        found = [(e["entity_group"], e["start"], e["end"]) for e in tag(text)]
        assert found == [(e["type"], e["start"], e["end"]) for e in json.loads(entities)]


def served(run: Run) -> pd.DataFrame:
    (output,) = run.outputs.model_outputs
    model = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    return model.predict(pd.DataFrame({"text": TEXTS}))


def test_a_served_model_answers_with_tags_and_entities(run: Run) -> None:
    found = served(run)
    assert list(found["tags"]) == TAGS
    assert json.loads(found["entities"][0])[1] == {
        "type": "place", "text": "new york", "start": 21, "end": 29,
    }  # fmt: skip


def test_a_window_in_the_middle_of_a_word_does_not_spoil_the_loss(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of one: each window is a batch, and the last ones of this row begin no word."""
    rows = make_tagged(12)
    rows[0] = (["anna", "happy" * 18], ["B-person", "O"])
    write_conll(Path("long.conll"), rows)
    run_here(
        monkeypatch, *COMMON, "data.train=long.conll", "data.validation=long.conll",
        "data.test=long.conll", "trainer.per_device_eval_batch_size=1", "trainer.logging_steps=1",
        "tracking.log_model=false",
    )  # fmt: skip
    assert all_runs()[0].data.metrics["validation/loss"] > 0
