"""A run that starts from an earlier one knows which of its held-out rows that one trained on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, DatasetDict
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from toys import make_rows, write_csv, write_lines

from tunetrail.data.leaks import EarlierRun, LeakageReport
from tunetrail.data.prepare import PreparedData
from tunetrail.errors import InputError
from tunetrail.tracking.row_fingerprints import find_earlier, fingerprint_texts
from tunetrail.tracking.store import connect

URI = "sqlite:///mlruns/mlflow.db"
SHORT = ("trainer.num_train_epochs=1", "precision=fp32", "tracking.log_model=true")
Train = Callable[..., Any]


def last_run() -> Run:
    client = connect(URI)
    experiment = client.get_experiment_by_name("tunetrail")
    return client.search_runs([experiment.experiment_id])[0]


def artifact(run: Run, path: str) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://")) / path


def earlier(run: Run) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(artifact(run, "reports/leakage.json").read_text())[
        "earlier_runs"
    ]
    return found


def texts_of(run: Run, split: str) -> list[str]:
    return list(pd.read_parquet(artifact(run, f"predictions/{split}.parquet"))["text"])


def test_equal_texts_have_equal_fingerprints() -> None:
    some = fingerprint_texts(["A text!", "a  text", "another", "\ud800"])
    assert some.dtype == np.dtype("<u8")
    assert some[0] == some[1]
    assert len(set(some.tolist())) == 3
    assert some[2] == fingerprint_texts(["another"])[0]
    assert len(fingerprint_texts([])) == 0


def put_run(client: MlflowClient, content: bytes | None, **tags: str) -> str:
    found = client.get_experiment_by_name("tunetrail")
    experiment = found.experiment_id if found else client.create_experiment("tunetrail")
    named = {f"tunetrail.{name}": value for name, value in tags.items()}
    run = client.create_run(experiment, tags=named)
    if content is not None:
        folder = artifact(run, "fingerprints")
        folder.mkdir(parents=True)
        (folder / "train.bin").write_bytes(content)
    return str(run.info.run_id)


@pytest.mark.parametrize(
    ("content", "number", "said"),
    [
        (fingerprint_texts(["ONE!", "three"]).tobytes(), 2, ""),
        (b"", 0, ""),
        (b"123", 0, "holds no fingerprints (3 bytes)"),
        (None, 0, "it recorded no fingerprints of its rows"),
        (bytes(8 * 4_000_001), 0, "32,000,008 bytes, and 8,000,000 are the most; refused"),
    ],
    ids=["rows", "no rows", "odd", "none", "large"],
)
def test_a_store_may_hold_anything(
    workspace: Path, content: bytes | None, number: int, said: str
) -> None:
    client = connect(URI)
    first = put_run(client, content)
    run = put_run(client, fingerprint_texts(["two"]).tobytes(), initialized_from=first)
    rows = {"validation": ["one", "two", "three", "four"]}
    parts = {split: Dataset.from_dict({"text": texts}) for split, texts in rows.items()}
    data = PreparedData(DatasetDict(parts), None, LeakageReport(()), None, (), (), {})
    parent, grandparent = find_earlier(client, run, data)
    assert (parent.run_id, parent.known, parent.unknown) == (run, {"validation": (1,)}, "")
    assert (grandparent.run_id, grandparent.num_leaked) == (first, number)
    assert said in grandparent.unknown
    assert bool(said) == bool(grandparent.unknown)
    (missing,) = find_earlier(client, "0" * 32, data)
    assert missing.unknown == "it is not in this store"


def test_rows_that_an_earlier_run_knows_are_dropped_or_refused() -> None:
    part = Dataset.from_dict({"text": ["one", "two"], "row": [0, 1], "target": ["a", "b"]})
    data = PreparedData(DatasetDict({"test": part}), None, LeakageReport(()), None, (), (), {})

    def run(*known: int) -> EarlierRun:
        return EarlierRun("a" * 32, "name", {"test": known}, {"test": 2})

    assert data.with_earlier((), policy="clean", in_study=True) is data
    warned = data.with_earlier((run(0),), policy="warn", in_study=True)
    assert warned.leakage is not None
    assert warned.leakage.problems == 1
    assert "run aaaaaaaa, which this model comes from, trained on 1 of 2 test rows" in (
        warned.leakage.summary()
    )
    cleaned = data.with_earlier((run(0), run()), policy="clean", in_study=False)
    assert cleaned.dataset["test"]["text"][:] == ["two"]
    assert cleaned.leakage is not None
    assert cleaned.leakage.problems == 0
    assert "dropped from the held-out splits: run aaaaaaaa" in cleaned.notes[-1]
    with pytest.raises(InputError, match=r"^checks\.leakage=clean: run aaaaaaaa.* same rows"):
        data.with_earlier((run(0),), policy="clean", in_study=True)
    with pytest.raises(InputError, match=r"^checks\.leakage=clean leaves no rows of test: run"):
        data.with_earlier((run(0), run(1)), policy="clean", in_study=False)


@pytest.mark.slow
def test_rows_that_an_ancestor_trained_on_are_counted_and_obey_the_check(
    workspace: Path, train: Train, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The second run splits the same rows with another seed."""
    write_csv(workspace / "all.csv", make_rows(90, seed=3))
    rows = ["data=files", "data.train=all.csv", "data.validation_fraction=0.3"]
    train(*rows, *tiny[3:], *SHORT, "checks.quality=off")
    first = last_run()
    assert earlier(first) == []
    file = artifact(first, "fingerprints/train.bin")
    assert len(file.read_bytes()) == 8 * 63
    trained = {text for text, _ in make_rows(90, seed=3)} - {*texts_of(first, "validation")}

    again = [*rows, *tiny[5:], *SHORT, "model=run", f"model.run_id={first.info.run_id}", "seed=7"]
    capsys.readouterr()
    train(*again)
    second = last_run()
    (found,) = earlier(second)
    expected = [text for text in texts_of(second, "validation") if text in trained]
    assert 0 < len(expected) < 27
    assert (found["num_leaked"], found["run_id"]) == (len(expected), first.info.run_id)
    line = f"trained on {len(expected)} of 27 validation rows"
    assert line in capsys.readouterr().out
    assert line in artifact(second, "reports/leakage.md").read_text()

    with pytest.raises(SystemExit) as caught:
        train(*again, "checks.leakage=error")
    assert str(caught.value.code).startswith("error: checks.leakage=error: ")
    assert line in str(caught.value.code)

    train(*again, "checks.leakage=clean")
    cleaned = last_run()
    assert len(texts_of(cleaned, "validation")) == 27 - len(expected)
    assert not trained & {*texts_of(cleaned, "validation")}
    assert earlier(cleaned)[0]["num_leaked"] == 0

    # Through two ancestors, of which the first says nothing that can be read.
    file.write_bytes(b"123")
    capsys.readouterr()
    train(*again, f"model.run_id={second.info.run_id}", "seed=8", "checks.quality=off")
    parent, grandparent = earlier(last_run())
    assert parent["run_id"] == second.info.run_id
    assert parent["num_leaked"] > 0
    assert (grandparent["run_id"], grandparent["num_leaked"]) == (first.info.run_id, 0)
    said = f"what run {first.info.run_id[:8]} trained on is unknown: its fingerprints/train.bin"
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith(said)]
    assert "holds no fingerprints (3 bytes)" in line


@pytest.mark.slow
def test_text_that_a_body_was_adapted_on_is_found_in_classification(
    workspace: Path, train: Train, tiny: list[str]
) -> None:
    rows = make_rows(60, seed=5)
    write_lines(workspace / "adapt.txt", [(text,) for text, _ in rows])
    write_csv(workspace / "held.csv", [*rows[:9], *make_rows(30, seed=6)])
    train(
        "task=causal_lm", "data=files", "data.train=adapt.txt", "data.validation_fraction=0.2",
        *tiny[3:], *SHORT,
    )  # fmt: skip
    first = last_run()
    adapted = {text for text, _ in rows} - {*texts_of(first, "validation")}
    train(
        "data=files", "data.train=train.csv", "data.validation=held.csv", *tiny[5:], *SHORT,
        "model=run", f"model.run_id={first.info.run_id}",
    )  # fmt: skip
    (found,) = earlier(last_run())
    assert found["num_leaked"] == sum(text in adapted for text, _ in rows[:9]) > 0


@pytest.mark.slow
def test_examples_of_a_prompt_that_are_held_out_are_found(
    workspace: Path, train: Train, tiny: list[str]
) -> None:
    rows = [("good day", "positive"), ("bad day", "negative")]
    write_csv(workspace / "shown.csv", rows)
    write_csv(workspace / "held.csv", [rows[0], ("great love", "positive"), ("sad", "negative")])
    train(
        "data=files", "data.train=shown.csv", "data.validation=held.csv", *tiny[3:5],
        "method=in_context", "data.per_label=1", "precision=fp32", "tracking.log_model=false",
        "task.max_length=8", "method.instruction=''", "method.template='{text}: {label} '",
    )  # fmt: skip
    run = last_run()
    pairs = json.loads(artifact(run, "reports/leakage.json").read_text())["pairs"]
    shown = {(pair["source"], pair["held_out"]): pair for pair in pairs}
    assert shown["examples", "validation"]["num_exact"] == 1
    assert artifact(run, "fingerprints/train.bin").read_bytes() == b""
    assert len(artifact(run, "fingerprints/examples.bin").read_bytes()) == 8 * 2
