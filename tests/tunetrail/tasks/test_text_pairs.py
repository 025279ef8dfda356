"""Pairs of texts for classification: read, judged, encoded, served."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from architectures import ARCHITECTURES
from datasets import Dataset, DatasetDict
from mlflow.tracking import MlflowClient
from omegaconf import OmegaConf
from toys import CLASSIFY
from transformers import AutoTokenizer, PreTrainedTokenizerBase, pipeline

from tunetrail.__main__ import main
from tunetrail.data.columns import require_text
from tunetrail.data.leakage import check_leakage
from tunetrail.data.quality.check import check_quality
from tunetrail.errors import InputError
from tunetrail.served.pairs import encode_pairs

Train = Callable[..., Any]
COLUMNS = {"text": "premise", "text_pair": "hypothesis", "label": "label"}
PAIRS = [
    ("we saw a train", "it was a train", "yes"),
    ("we saw a train", "it was a cloud", "no"),
    ("we saw a cloud", "it was a cloud", "yes"),
    ("a river", "it was a cloud", "no"),
]


def canonical(rows: list[tuple[Any, ...]], **splits: list[tuple[Any, ...]]) -> DatasetDict:
    parts = {"train": rows, **splits}
    names = ("premise", "hypothesis", "label")
    read = {
        split: Dataset.from_dict(dict(zip(names, map(list, zip(*part, strict=True)), strict=True)))
        for split, part in parts.items()
    }
    return CLASSIFY.canonicalise(DatasetDict(read), COLUMNS, label_names=None)


@pytest.fixture(scope="module", params=["bert", "roberta", "gpt2", "llama"])
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> PreTrainedTokenizerBase:
    folder = ARCHITECTURES[request.param].save(tmp_path_factory.mktemp(request.param))
    return AutoTokenizer.from_pretrained(folder)


def test_both_texts_are_judged_together() -> None:
    again = [
        *PAIRS,
        ("We saw a train!", "it was a train", "yes"),
        ("a river", "IT was a cloud", "yes"),
    ]
    (split,) = check_quality(canonical(again)).splits
    faults = [finding for finding in split.findings if not finding.is_remark]
    found = {finding.kind: finding.num_rows for finding in faults if finding.num_rows}
    assert found == {"normalised duplicates": 2, "conflicting labels": 2}
    held_out = [
        ("we saw a train", "it was a train", "yes"),
        ("it was a train", "we saw a train", "yes"),
    ]
    (pair,) = check_leakage(canonical(PAIRS, validation=held_out)).pairs
    assert (pair.num_exact, pair.num_normalised) == (1, 0)


@pytest.mark.parametrize("missing", [None, "", "  "])
def test_a_row_that_lacks_one_of_its_texts_is_named(missing: str | None) -> None:
    rows = canonical([*PAIRS, ("a river", missing, "no")])
    with pytest.raises(InputError, match=r"^train: 1 row with an empty text \(4, counted from 0\)"):
        require_text(rows)


def test_a_column_that_is_not_there_is_named_with_its_key() -> None:
    rows = DatasetDict({"train": Dataset.from_dict({"premise": ["a"], "label": ["b"]})})
    with pytest.raises(
        InputError, match=r"no column 'hypothesis' .*; name one in data\.columns\.text_pair,"
    ):
        CLASSIFY.canonicalise(rows, COLUMNS, label_names=None)


def test_a_pair_is_encoded_as_the_tokenizer_does_and_apart_where_it_does_not(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    rows = canonical(PAIRS)["train"]
    encoded = CLASSIFY.encode(rows, tokenizer)
    separated = tokenizer.num_special_tokens_to_add(pair=True) > (
        tokenizer.num_special_tokens_to_add(pair=False)
    )
    for ids, (first, second, _) in zip(encoded["input_ids"], PAIRS, strict=True):
        expected = (first, second) if separated else (first, "\n" + second)
        assert ids == tokenizer(*expected)["input_ids"]
        apart = tokenizer(first + ("" if separated else "\n") + second)["input_ids"]
        assert not separated or ids != apart


def test_the_longer_text_is_cut_first_and_cuts_are_counted(
    tokenizer: PreTrainedTokenizerBase, caplog: pytest.LogCaptureFixture
) -> None:
    rows = canonical([*PAIRS, ("the day " * 60, "it was a cloud", "no")])["train"]
    with caplog.at_level(logging.INFO):
        encoded = CLASSIFY.encode(rows, tokenizer)
    assert (
        "1 text of 5 have more than 64 tokens and are cut there (task.max_length=64)" in caplog.text
    )
    long = encoded["input_ids"][4]
    assert len(long) == 64
    assert tokenizer.decode(long, skip_special_tokens=True).rstrip().endswith("it was a cloud")


def test_two_long_texts_are_cut_without_pieces_of_each_beside_each_of_the_other(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    pair = ("the day was good " * 700, "we saw a river " * 500)
    encoded = encode_pairs(tokenizer, [pair[0]], [pair[1]], truncation=True, max_length=64)
    assert len(encoded.encodings[0].overflowing) < 50
    *_, row = CLASSIFY.encode(canonical([*PAIRS, (*pair, "no")])["train"], tokenizer)
    assert row["input_ids"] == encoded["input_ids"][0]
    # As the tokenizer cuts shorter ones, of which it makes few pieces.
    shorter = [text[: len(text) // 10] for text in pair]
    expected = encode_pairs(tokenizer, shorter[:1], shorter[1:], truncation=True, max_length=64)
    assert row["input_ids"] == expected["input_ids"][0]
    whole = encode_pairs(tokenizer, [pair[0]], [pair[1]], verbose=False)["input_ids"][0]
    assert row["num_cut"] == len(whole) - 64


def write_pairs(path: Path, number: int) -> Path:
    rows = [PAIRS[i % 4] for i in range(number)]
    lines = [f"{a} {i},{b},{label}" for i, (a, b, label) in enumerate(rows)]
    path.write_text("\n".join(["premise,hypothesis,label", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_run_on_pairs_is_served_with_both_columns(
    train: Train, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {split: write_pairs(tmp_path / f"pairs-{split}.csv", 12) for split in ("train", "test")}
    train(
        *tiny, f"data.train={files['train']}", f"data.validation={files['test']}",
        f"data.test={files['test']}", "data.text_column=premise", "score_test=true",
        "data.columns.text_pair=hypothesis", "trainer.num_train_epochs=1",
    )  # fmt: skip
    client = MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "tunetrail"]
    (run,) = client.search_runs([experiment.experiment_id])
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    assert OmegaConf.load(folder / "config.yaml").data.columns.text_pair == "hypothesis"
    table = pd.read_parquet(folder / "predictions/test.parquet")
    assert table[["text", "text_pair"]].iloc[1].tolist() == ["we saw a train 1", "it was a cloud"]
    (output,) = run.outputs.model_outputs
    model = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    assert model.metadata.signature.inputs.input_names() == ["text", "text_pair"]
    answers = model.predict(table[["text", "text_pair"]])
    assert answers["label"].tolist() == table["prediction"].tolist()
    assert answers["score"].tolist() == pytest.approx(table["confidence"].tolist(), abs=1e-5)

    def predict(name: str, *options: str) -> int:
        return main(["predict", name, "--input", "in.csv", "--output", "out.csv", *options])

    Path("in.csv").write_text(files["test"].read_text("utf-8") + "a river,,no\n", "utf-8")
    named = ("--text-column", "premise", "--column", "text_pair=hypothesis")
    capsys.readouterr()
    assert predict(run.info.run_id, *named) == 3
    assert "line 14: the text is empty" in capsys.readouterr().err
    found = pd.read_csv("out.csv")
    assert found["prediction"].tolist() == table["prediction"].tolist()
    assert predict(run.info.run_id, *named[:2]) == 1
    assert "no column 'text_pair' (found: premise, hypothesis, label); give --column " in (
        capsys.readouterr().err
    )
    assert predict(run.info.run_id, "--column", "question=premise") == 1
    assert "the model reads text, text_pair and no 'question'" in capsys.readouterr().err

    assert main(["export", run.info.run_id, "exported"]) == 0
    assert predict("exported", *named) == 3
    assert pd.read_csv("out.csv").equals(found)
    assert json.loads(Path("exported/config.json").read_text("utf-8"))["reads_text_pairs"] is True
    classify = pipeline("text-classification", "exported", truncation=True)
    # As the exported README.md says: this tokenizer has no form of its own for pairs.
    assert '"text_pair": "\\nits pair"' in Path("exported/README.md").read_text("utf-8")
    assert (
        classify({"text": "a river 3", "text_pair": "\nit was a cloud"})["label"]
        == (found["prediction"][3])
    )
    # A single text after pairs: what the model reads is that of the run, not of where it began.
    others = [text for text in tiny if not text.startswith("model")]
    train(*others, "model=run", f"model.run_id={run.info.run_id}", "trainer.max_steps=1")
    last, _ = client.search_runs([experiment.experiment_id])
    (output,) = last.outputs.model_outputs
    model = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    assert len(model.predict([{"text": "a day"}])) == 1
