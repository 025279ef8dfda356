"""``model=run``: a run starts from the model of an earlier one, and its record says so."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file
from servers import Server
from toys import fill_workspace, run_here, tiny_overrides, write_task
from transformers import AutoModelForSequenceClassification

from tunetrail.__main__ import main
from tunetrail.models.loading import Loader
from tunetrail.tracking.models import find_model, remove_model
from tunetrail.tracking.starts import load_run
from tunetrail.tracking.store import connect

URI = "sqlite:///mlruns/mlflow.db"
SHORT = ("trainer.num_train_epochs=1", "precision=fp32")
NO_RUN = "0" * 32
Train = Callable[..., Any]


@dataclass(frozen=True)
class Chain:
    """A classifier, registered as ``tiny``; a tagger that started from it; one from the tagger."""

    folder: Path
    first: str
    second: str
    third: str


def register(client: MlflowClient, run_id: str, *, alias: str = "champion") -> None:
    model = find_model(client, run_id)
    assert model is not None
    if not client.search_registered_models("name='tiny'"):
        client.create_registered_model("tiny")
    version = client.create_model_version(
        "tiny", f"models:/{model.model_id}", run_id=run_id, model_id=model.model_id
    )
    client.set_registered_model_alias("tiny", alias, version.version)


def last_run(client: MlflowClient, condition: str = "") -> Run:
    experiment = client.get_experiment_by_name("tunetrail")
    return client.search_runs([experiment.experiment_id], condition)[0]


@pytest.fixture(scope="module")
def chain(
    tmp_path_factory: pytest.TempPathFactory, empty_store: Path, tiny_gpt2: Path
) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("chain")
    fill_workspace(folder, empty_store)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_here(patch, *tiny_overrides(tiny_gpt2), *SHORT, "tracking.run_name=first")
        client = connect(URI)
        first = last_run(client).info.run_id
        register(client, first)
        tag = [*write_task("token_classification", folder, num_rows=12), *SHORT]
        runs = []
        for start in ("tiny@champion", None):
            run_here(patch, *tag, "model=run", f"model.run_id={start or runs[0]}")
            runs.append(last_run(client).info.run_id)
        yield Chain(folder, first, *runs)


@pytest.fixture
def here(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> Chain:
    monkeypatch.chdir(chain.folder)
    return chain


def artifact(run: Run, path: str) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://")) / path


@pytest.mark.slow
def test_a_run_records_the_run_that_it_started_from_whatever_named_it(here: Chain) -> None:
    client = connect(URI)
    run = client.get_run(here.second)
    assert run.data.tags["tunetrail.initialized_from"] == here.first
    assert run.data.params["model.run_id"] == run.data.params["model.source.run_id"] == here.first
    assert not any(key.endswith("tracking_uri") for key in run.data.params)
    recorded = json.loads(artifact(run, "environment/model.json").read_text())
    assert recorded["origin"] == f"run {here.first} (first)"
    assert recorded["run_id"] == here.first
    model = find_model(client, here.second)
    assert model is not None
    card = Path(model.artifact_location.removeprefix("file://")) / "model_card.md"
    assert f"run {here.first} (first)" in card.read_text()
    first = client.get_run(here.first)
    assert "tunetrail.initialized_from" not in first.data.tags


def test_the_body_is_that_of_the_earlier_run_and_a_head_that_does_not_fit_is_new(
    here: Chain,
) -> None:
    checkpoint = load_run(run_id=here.first, tracking_uri=URI, cache_dir="cache")
    assert not Path("cache").exists()
    logged = load_file(Path(checkpoint.path) / "model.safetensors")

    def load(names: list[str]) -> dict[str, torch.Tensor]:
        model = Loader(checkpoint)(AutoModelForSequenceClassification, label_names=names)
        return dict(model.state_dict())

    same = load(["negative", "neutral", "positive"])
    assert all(torch.equal(tensor, same[name]) for name, tensor in logged.items())
    other = load(["a", "b"])
    changed = {name for name, tensor in logged.items() if not torch.equal(tensor, other[name])}
    assert changed == {"score.weight"}


def test_lineage_prints_the_chain_the_oldest_last(
    here: Chain, tiny_gpt2: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lineage", here.third[:8]]) == 0
    blocks = capsys.readouterr().out.strip().split("\n\n")
    assert [block.split()[1] for block in blocks] == [here.third, here.second, here.first]
    facts = [
        dict(line.split(maxsplit=1) for line in block.replace("started from", "from").splitlines())
        for block in blocks
    ]
    assert [each["task"] for each in facts] == [
        *["token_classification"] * 2,
        "text_classification",
    ]
    assert {each["method"] for each in facts} == {"full"}
    assert {each["data"] for each in facts} == {"files"}
    assert facts[1]["from"] == f"run {here.first} (first)"
    assert facts[2]["from"] == str(tiny_gpt2)
    best = connect(URI).get_run(here.first).data.metrics["best/validation/accuracy"]
    assert facts[2]["best"] == f"validation/accuracy {best:.4f}"
    assert facts[0]["best"].startswith("validation/f1 ")


def test_lineage_names_a_run_that_is_not_there(
    here: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    client = connect(URI)
    client.delete_run(here.first)
    try:
        assert main(["lineage", here.second]) == 0
        assert f"{here.first} (first) was deleted" in capsys.readouterr().out
        assert main(["lineage", here.first]) == 1
        assert "was deleted" in capsys.readouterr().err
    finally:
        client.restore_run(here.first)


def test_compare_names_another_start(here: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", here.second, here.third]) == 0
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if line.startswith("run_id")]
    assert here.first[:10] in line
    assert here.second[:10] in line


@pytest.fixture
def said(
    workspace: Path, train: Train, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Start from a run; return the one line the program leaves with. There are no rows at all."""

    def run(start: str, *overrides: str) -> str:
        with pytest.raises(SystemExit) as caught:
            train(
                *tiny[:2], "data.train=none.csv", *SHORT, "model=run", f"model.run_id={start}",
                *overrides,
            )  # fmt: skip
        message = str(caught.value.code)
        assert "\n" not in message
        assert "Traceback" not in capsys.readouterr().err
        return message

    return run


def put_run(status: str, **tags: str) -> str:
    client = connect(URI)
    found = client.get_experiment_by_name("tunetrail")
    experiment = found.experiment_id if found else client.create_experiment("tunetrail")
    named = {f"tunetrail.{name}": value for name, value in tags.items()}
    run_id = client.create_run(experiment, tags=named).info.run_id
    if status != "RUNNING":
        client.set_terminated(run_id, status)
    return str(run_id)


@pytest.mark.slow
def test_a_run_without_a_model_to_start_from_is_refused_before_rows_are_loaded(
    said: Callable[..., str],
) -> None:
    def refused(start: str) -> str:
        message = said(start)
        assert message.startswith(f"error: model.run_id={start}: ")
        return message.partition(": ")[2]

    assert "model.run_id is not set" in said("'???'")
    assert f"run {NO_RUN} is not in {URI}; give its store with tracking.uri" in refused(NO_RUN)
    assert "no registered model 'tweets'" in refused("tweets@champion")
    assert "no registered model 'tweets'" in refused("tweets/3")
    assert "the run is FAILED (no memory)" in refused(put_run("FAILED", failure="no memory"))
    assert "the run is KILLED" in refused(put_run("KILLED"))
    assert "the run is still RUNNING" in refused(put_run("RUNNING"))
    bare = put_run("FINISHED")
    assert f"tracking.log_model=false; `tunetrail rerun {bare} tracking.log_model=true`" in (
        refused(bare)
    )
    connect(URI).delete_run(bare)
    assert f"mlflow runs restore --run-id {bare}" in refused(bare)
    assert "the parent run of study s" in refused(put_run("FINISHED", study="s"))
    trial = put_run("FINISHED", study="s", trial="3")
    assert "trial 3 of study s, which keeps those of its sweep.keep_best trials" in refused(trial)


def test_a_chain_that_leads_in_a_circle_is_refused(
    said: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = put_run("FINISHED")
    second = put_run("FINISHED", initialized_from=first)
    connect(URI).set_tag(first, "tunetrail.initialized_from", second)
    circle = f"({second[:8]} -> {first[:8]} -> {second[:8]})"
    message = said(second)
    assert message.startswith(f"error: model.run_id={second}: ")
    assert circle in message
    assert main(["lineage", second]) == 1
    assert circle in capsys.readouterr().err
    connect(URI).set_tag(first, "tunetrail.initialized_from", first)
    assert f"({first[:8]} -> {first[:8]})" in said(first)


def test_a_store_that_is_not_there_is_not_made(said: Callable[..., str]) -> None:
    message = said(NO_RUN, "tracking.uri=sqlite:///other.db")
    assert "give another with tracking.uri" in message
    assert not Path("other.db").exists()


def test_a_study_is_refused_before_it_is_created(
    workspace: Path, train: Train, tiny: list[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        train("-m", *tiny[:3], "study=s", "model=run", f"model.run_id={NO_RUN}")
    assert f"model.run_id={NO_RUN}: run {NO_RUN} is not in" in str(caught.value.code)
    assert not optuna.get_all_study_names("sqlite:///mlruns/optuna.db")


@pytest.mark.slow
def test_a_rerun_starts_from_the_same_run_and_says_how_to_make_its_model_again(
    train: Train, tiny: list[str], workspace: Path, warm_processes: None,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    train(*tiny, *SHORT)
    client = connect(URI)
    first = last_run(client).info.run_id
    register(client, first)
    start = (*tiny[:3], *SHORT, "model=run", "model.run_id=tiny@champion")
    train(*start)
    second = last_run(client).info.run_id
    register(client, second)  # the alias moves
    assert main(["rerun", second]) == 0
    assert "bit-identical" in capfd.readouterr().out
    repeated = last_run(client)
    assert repeated.data.tags["tunetrail.initialized_from"] == first

    model = find_model(client, first)
    assert model is not None
    remove_model(client, model)
    assert main(["rerun", second]) == 1
    message = capfd.readouterr().err
    assert message.count("\n") == 1
    assert f"`tunetrail rerun {first} tracking.log_model=true` makes it again" in message
    assert main(["rerun", first, "tracking.log_model=true"]) == 0
    made = last_run(client).info.run_id
    assert main(["rerun", second, f"model.source.run_id={made}"]) == 0
    assert "bit-identical" in capfd.readouterr().out


@pytest.mark.slow
def test_a_study_and_its_finals_start_from_one_run_although_the_alias_moves(
    train: Train, tiny: list[str], workspace: Path
) -> None:
    train(*tiny, *SHORT)
    client = connect(URI)
    first = last_run(client).info.run_id
    register(client, first)
    study = (
        "-m", *tiny[:3], "study=s", "model=run", "model.run_id=tiny@champion", "registry.name=tiny",
        "precision=fp32", "trainer.num_train_epochs=1,2", "trainer.learning_rate=1e-3",
        "trainer.per_device_train_batch_size=16", "data.validation_fraction=0.2",
        "data.test_fraction=0.2", "sweep.finalists=1", "sweep.final_seeds=1",
        "sweep.references.library_defaults=null",
    )  # fmt: skip
    train(*study, "sweep.num_trials=1")
    client.set_registered_model_alias("tiny", "champion", "2")  # its winner
    train(*study, "sweep.num_trials=2")
    trials = client.search_runs(
        [last_run(client).info.experiment_id], "tags.`tunetrail.trial` LIKE '%'"
    )
    starts = [run.data.tags.get("tunetrail.initialized_from") for run in trials]
    assert len(starts) == 3
    assert set(starts) == {first}
    winner = client.get_run(
        last_run(client, "tags.`tunetrail.winner_run` LIKE '%'").data.tags["tunetrail.winner_run"]
    )
    assert f"`{first}`" in artifact(winner, "model_card.md").read_text()


@pytest.mark.slow
def test_the_model_of_a_server_is_downloaded_once(
    train: Train, tiny: list[str], workspace: Path
) -> None:
    server = Server(workspace)
    server.start()
    try:
        there = f"tracking.uri={server.uri}"
        train(*tiny, *SHORT, there)
        client = connect(server.uri)
        first = last_run(client).info.run_id
        register(client, first)
        files = []
        for _ in range(2):
            train(*tiny[:3], *SHORT, there, "model=run", "model.run_id=tiny@champion")
            (file,) = Path("mlruns/cache").glob("run-*/model/model/model.safetensors")
            files.append(file.stat().st_mtime_ns)
            assert last_run(client).data.tags["tunetrail.initialized_from"] == first
        assert files[0] == files[1]
        assert not list(Path("mlruns/cache").glob(".*"))
    finally:
        server.stop()
