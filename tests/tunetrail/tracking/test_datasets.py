"""Rows as datasets of MLflow, whatever they were read from."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import pytest
from datasets import Dataset, DatasetDict
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from toys import canonical, make_rows

from tunetrail.data.prepare import PreparedData
from tunetrail.data.sources import SourceFile
from tunetrail.tracking.datasets import log_datasets
from tunetrail.tracking.provenance.fingerprints import fingerprint_data
from tunetrail.tracking.run_log import RunLog, open_run

STORE = {
    "uri": "sqlite:///mlruns/mlflow.db",
    "experiment": "tests",
    "artifact_dir": "mlruns/artifacts",
}
SPLITS = ("train", "validation", "test")
FILES = {"_target_": "f", "train": "reviews/train.csv", "validation": None, "test": None}
HUB = {"_target_": "h", "path": "mteb/imdb", "name": "plain", "revision": "main",
       "splits": {"train": "train[:9]", "validation": "dev", "test": None}}  # fmt: skip
PACKAGE = {"_target_": "p", "distribution": "omegaconf", "path": "a/b.csv", "encoding": "utf-8"}
NESTED = {"_target_": "n", "tagged": {"_target_": "p", "distribution": "hydra-core", "path": "x"}}
PARTS = {"_target_": "d", "distributions": ["numpy", "no-such-package"], "max_characters": 800}


@pytest.fixture
def run_log(workspace: Path) -> Iterator[RunLog]:
    assert workspace.is_dir()
    with open_run(**STORE, name="one") as opened:
        yield opened


def prepare(*, same: bool = False, is_read: bool = True) -> PreparedData:
    rows = {
        split: Dataset.from_list(
            [{"text": t, "label": y} for t, y in make_rows(6, seed=0 if same else seed)]
        )
        for seed, split in enumerate(SPLITS)
    }
    files = (SourceFile("train.csv", "0" * 64, 9),) if is_read else ()
    return PreparedData(
        canonical(DatasetDict(rows)), None, None, None, (), files, dict.fromkeys(SPLITS, 60)
    )


def log(run_log: RunLog, data: PreparedData, config: Mapping[str, Any], *splits: str) -> None:
    prints = fingerprint_data(data.dataset)
    log_datasets(run_log, data, prints, {"data": config}, splits=splits or SPLITS[:2])


def inputs_of(run_log: RunLog) -> list[Any]:
    return list(run_log.client.get_run(run_log.run_id).inputs.dataset_inputs)


def test_a_run_is_found_by_the_name_digest_and_context_of_its_rows(run_log: RunLog) -> None:
    data = prepare()
    log(run_log, data, {"name": "tweets", "source": PACKAGE})
    digest = fingerprint_data(data.dataset)["train"].sha256[:16]
    for condition, is_found in (
        ("dataset.name = 'tweets'", True),
        ("dataset.name = 'others'", False),
        (f"dataset.digest = '{digest}'", True),
        ("dataset.context = 'train'", True),
        ("dataset.context = 'test'", False),
    ):
        found = run_log.client.search_runs([run_log.experiment_id], condition)
        assert [run.info.run_id for run in found] == [run_log.run_id] * is_found, condition
    train, validation = inputs_of(run_log)
    assert [tag.value for tag in (*train.tags, *validation.tags)] == ["train", "validation"]
    assert json.loads(train.dataset.profile) == {"num_rows": 6, "num_rows_available": 60}
    assert json.loads(train.dataset.schema)["mlflow_colspec"] == [
        {"name": "text", "required": True, "type": "string"},
        {"name": "target", "required": True, "type": "string"},
        {"name": "label", "required": True, "type": "long"},
    ]


@pytest.mark.parametrize(
    ("source", "is_read", "kind", "expected"),
    [
        (FILES, True, "local", {"uri": "reviews/train.csv"}),
        (
            HUB,
            False,
            "hugging_face",
            {"path": "mteb/imdb", "split": "train[:9]", "config_name": "plain", "revision": "main"},
        ),
        (PACKAGE, True, "code", {"packages": "omegaconf", "path": "a/b.csv"}),
        (NESTED, True, "code", {"packages": "hydra-core", "tagged.path": "x"}),
        (PARTS, True, "code", {"packages": "no-such-package", "max_characters": 800}),
    ],
)
def test_a_source_is_one_that_mlflow_reads(
    run_log: RunLog, source: dict[str, Any], is_read: bool, kind: str, expected: dict[str, Any]
) -> None:
    log(run_log, prepare(is_read=is_read), {"name": "files", "source": source})
    dataset = inputs_of(run_log)[0].dataset
    assert dataset.source_type == kind
    read = mlflow.data.get_source(dataset)
    assert read._get_source_type() == kind
    found = json.loads(dataset.source)
    for key, value in expected.items():
        shown = found.get("tags", found)[key]
        assert value == shown or str(value) in str(shown), key


def test_secrets_are_in_no_source(run_log: RunLog) -> None:
    url = "https://me:hunter2secret@host/train.csv?token=hunter3secret"
    log(run_log, prepare(), {"name": "files", "train": url, "source": {**FILES, "train": url}})
    for one in inputs_of(run_log):
        assert "hunter" not in one.dataset.source + one.dataset.name


def test_the_same_rows_in_two_splits_are_two_inputs(run_log: RunLog) -> None:
    data = prepare(same=True)
    log(run_log, data, {"name": "tweets", "source": PACKAGE})
    found = {one.dataset.name: one.tags[0].value for one in inputs_of(run_log)}
    assert found == {"tweets": "train", "tweets (validation)": "validation"}
    assert len({one.dataset.digest for one in inputs_of(run_log)}) == 1
    for split in found.values():
        condition = f"dataset.context = '{split}'"
        assert run_log.client.search_runs([run_log.experiment_id], condition)


def test_a_store_that_refuses_ends_no_run(
    run_log: RunLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MlflowException("this server has no datasets")

    monkeypatch.setattr(MlflowClient, "log_inputs", refuse)
    log(run_log, prepare(), {"name": "tweets", "source": PACKAGE})
    assert "MLflow has not taken the datasets of the run: this server has no" in caplog.text
    assert inputs_of(run_log) == []
