"""The page of a run, and its calibration, through the door that a person uses."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from audits import audit
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from toys import (
    fill_workspace,
    make_rows,
    make_sets,
    run_here,
    tiny_overrides,
    write_csv,
    write_sets,
)

from tunetrail.__main__ import main
from tunetrail.data.tables.files import load_table

Train = Callable[..., Any]
HEADINGS = [
    "Verdict", "Learning curves", "Baselines", "Test", "Data", "Errors", "Scores by label",
    "Worst rows", "Calibration", "What the model forgot", "Leakage", "Data quality",
    "Labels that are probably wrong", "Config", "Run it again",
]  # fmt: skip
DIAGNOSTICS = ("forgetting", "baselines", "calibration", "summary")
# What the checks log beside what every run logs.
OF_CHECKS = ("speed/", "calibration/", "baselines/", "forgetting/")
# Labels that say little of their texts: how sure a model is is not how often it is right.
NOISY = ["data.validation=noisy.csv", "data.test=test.csv", "trainer.num_train_epochs=6"]


def last_run(folder: Path) -> Run:
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tunetrail")
    assert experiment is not None
    return client.search_runs([experiment.experiment_id])[0]


def artifact(run: Run, path: str) -> Path:
    return Path(str(run.info.artifact_uri).removeprefix("file://")) / path


def write_noisy(folder: Path) -> None:
    write_csv(folder / "noisy.csv", make_rows(120, seed=2, noise=0.45))
    write_csv(folder / "test.csv", make_rows(60, seed=3, noise=0.45))


@dataclass(frozen=True)
class Pair:
    """The same run with everything on, and with all of it off."""

    folder: Path
    on: Run
    off: Run


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, empty_store: Path, tiny_gpt2: Path
) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    fill_workspace(folder, empty_store)
    write_noisy(folder)
    common = [*tiny_overrides(tiny_gpt2), *NOISY, "score_test=true"]
    off = [f"diagnostics.{name}=false" for name in DIAGNOSTICS]
    off += [f"checks.{name}=off" for name in ("quality", "leakage", "labels")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        found = []
        for more in (["calibrate=true"], off):
            run_here(patch, *common, *more)
            found.append(last_run(folder))
        yield Pair(folder, *found)


@pytest.mark.slow
def test_the_page_of_a_run_says_all_that_it_has_found(pair: Pair) -> None:
    html = artifact(pair.on, "reports/summary.html").read_text("utf-8")
    found = audit(html)
    assert found.headings == HEADINGS
    assert "could not be described" not in html
    metrics = pair.on.data.metrics
    for name in ("validation/accuracy", "train/accuracy", "test/accuracy", "validation/loss"):
        assert f"{metrics[f'best/{name}' if 'test' not in name else name]:.4f}" in found.text
    assert f"tunetrail rerun {pair.on.info.run_id}" in found.text
    assert "data.validation=noisy.csv" in found.text
    assert "the majority class" in found.text
    assert f"{metrics['calibration/ece']:.3f}" in found.text
    # The worst rows are there with their texts: wrong ones, the surest first.
    table = pd.read_parquet(artifact(pair.on, "predictions/validation.parquet"))
    wrong = table[table["target"] != table["prediction"]].sort_values("confidence")
    assert wrong["text"].iloc[-1] in found.text
    assert len(html.encode()) < 250_000
    text = artifact(pair.on, "reports/summary.md").read_text("utf-8")
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == HEADINGS
    assert "`figures/calibration.png`" in text
    for path in ("figures/calibration.png", "reports/calibration.json"):
        assert artifact(pair.on, path).exists()
        assert not artifact(pair.off, path).exists()
    assert not artifact(pair.off, "reports/summary.html").exists()


@pytest.mark.slow
def test_a_run_is_bit_identical_with_and_without(pair: Pair) -> None:
    own = {
        name: value
        for name, value in pair.on.data.metrics.items()
        if not name.startswith(OF_CHECKS)
    }
    others = {k: v for k, v in pair.off.data.metrics.items() if not k.startswith("speed/")}
    assert own == others
    for name in ("baselines/linear", "calibration/ece"):
        assert name in pair.on.data.metrics
    weights = [
        next(pair.folder.joinpath("mlruns/artifacts").rglob(f"*{model}*/**/model.safetensors"))
        for run in (pair.on, pair.off)
        for model in [run.outputs.model_outputs[0].model_id]
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    tables = [
        pd.read_parquet(artifact(run, f"predictions/{split}.parquet"))
        for split in ("validation", "test")
        for run in (pair.on, pair.off)
    ]
    for one, other in (tables[:2], tables[2:]):
        assert one[["row", "prediction", "score"]].equals(other[["row", "prediction", "score"]])
        assert not np.allclose(one["confidence"], other["confidence"], atol=0.02)


@pytest.mark.slow
def test_the_temperature_is_stored_with_the_model_which_answers_like_the_run(
    pair: Pair, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pair.folder)
    metrics = pair.on.data.metrics
    assert abs(metrics["calibration/temperature"] - 1) > 0.1
    table = pd.read_parquet(artifact(pair.on, "predictions/test.parquet"))
    model = f"models:/{pair.on.outputs.model_outputs[0].model_id}"
    served = mlflow.pyfunc.load_model(model).predict(table[["text"]].to_dict("records"))
    assert served["label"].tolist() == table["prediction"].tolist()
    np.testing.assert_allclose(served["score"], table["confidence"], atol=1e-5)
    assert main(["export", pair.on.info.run_id, "exported"]) == 0
    assert main(["predict", "exported", "--input", "test.csv", "--output", "out.csv"]) == 0
    found = load_table(Path("out.csv"), name="out").to_pandas()
    np.testing.assert_allclose(found["confidence"].astype(float), table["confidence"], atol=1e-5)
    card = Path("exported/README.md").read_text("utf-8")
    assert f"{metrics['calibration/ece']:.3f}" in card
    assert f"{metrics['calibration/temperature']:.6g}" in card
    config = json.loads(Path("exported/config.json").read_text("utf-8"))
    assert config["tunetrail"]["temperature"] == metrics["calibration/temperature"]
    config["tunetrail"]["temperature"] = 0
    Path("exported/config.json").write_text(json.dumps(config), "utf-8")
    capsys.readouterr()
    assert main(["predict", "exported", "a text"]) != 0
    assert "the temperature 0, no number above 0" in capsys.readouterr().err


@pytest.mark.slow
def test_sets_of_labels_are_tempered_and_stay_the_same(
    train: Train, tiny: list[str], workspace: Path
) -> None:
    for seed, split in enumerate(("train", "validation", "test")):
        write_sets(workspace / f"{split}.jsonl", make_sets(60, seed=seed))
    overrides = [
        "task=multi_label_classification", "data.train=train.jsonl", "task.threshold=0.3",
        "data.validation=validation.jsonl", "data.test=test.jsonl", "score_test=true",
    ]  # fmt: skip
    train(*tiny, *overrides, "calibrate=true")
    on = last_run(workspace)
    train(*tiny, *overrides, "tracking.log_model=false")
    off = last_run(workspace)
    assert on.data.metrics["calibration/temperature"] != 1
    assert on.data.metrics["test/micro_f1"] == off.data.metrics["test/micro_f1"]
    tables = [pd.read_parquet(artifact(r, "predictions/test.parquet")) for r in (on, off)]
    assert tables[0]["prediction"].equals(tables[1]["prediction"])
    names = [name for name in tables[0] if name.startswith("probability_")]
    served = mlflow.pyfunc.load_model(f"models:/{on.outputs.model_outputs[0].model_id}").predict(
        tables[0][["text"]].to_dict("records")
    )
    np.testing.assert_allclose(served["score"], tables[0][names].max(axis=1), atol=1e-5)
    spelt = [", ".join(json.loads(labels)) for labels in served["labels"]]
    assert spelt == tables[0]["prediction"].tolist()
    assert not np.allclose(tables[0][names], tables[1][names], atol=1e-3)


@pytest.mark.slow
def test_scores_of_a_prompt_are_tempered_too(
    train: Train, tiny: list[str], workspace: Path
) -> None:
    write_noisy(workspace)
    train(
        *tiny, "data.validation=noisy.csv", "data.test=test.csv", "score_test=true",
        "method=in_context", "data.per_label=1", "task.max_length=16", "method.instruction=''",
        "method.template='{text}: {label} '", "calibrate=true",
        "method.verbalizers={negative:bad,neutral:river,positive:good}",
    )  # fmt: skip
    run = last_run(workspace)
    table = pd.read_parquet(artifact(run, "predictions/test.parquet"))
    assert run.data.metrics["calibration/temperature"] > 0
    served = mlflow.pyfunc.load_model(f"models:/{run.outputs.model_outputs[0].model_id}")
    scores = served.predict(table[["text"]].to_dict("records"))["score"]
    np.testing.assert_allclose(scores, table["confidence"], atol=1e-4)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["calibrate=true", "task=token_classification", "data=tweet_entities"],
            "calibrate=true: TokenClassification says no probabilities",
        ),
        (
            ["calibrate=true", "diagnostics.calibration=false"],
            "calibrate=true: diagnostics.calibration=false fits no temperature",
        ),
        (["calibrate=maybe"], "calibrate=maybe: "),
        (["diagnostics.summary=3"], "diagnostics.summary=3: "),
        (["diagnostics.calibration=null"], "diagnostics.calibration=null: "),
        (["+task.temperature=0"], "task.temperature=0: must be a number above 0"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_in_one_line_before_there_is_a_run(
    train: Train, workspace: Path, overrides: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        train(*overrides)
    message = str(caught.value.code)
    assert message.startswith(f"error: {said}")
    assert "\n" not in message
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    assert client.get_experiment_by_name("tunetrail") is None
