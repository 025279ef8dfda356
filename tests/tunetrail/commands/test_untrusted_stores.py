"""Whoever can write to the store of the runs runs no code and deletes no file where it is read."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from toys import Store

from tunetrail.__main__ import main
from tunetrail.config.paths import read_regular
from tunetrail.errors import InputError
from tunetrail.studies.trial import Trial
from tunetrail.tracking.artifacts import Artifacts
from tunetrail.tracking.confinement import locate_model, require_run_id
from tunetrail.tracking.models import list_models, remove_model
from tunetrail.tracking.places import fetch, find_files, find_place, load_logged
from tunetrail.tracking.run_log import RunLog, open_run, reopen_run
from tunetrail.tracking.starts import load_run
from tunetrail.tracking.store import connect

URI = "sqlite:///mlruns/mlflow.db"
# A program that a library would run, if it followed what a file says.
CODE = "import pathlib\npathlib.Path({!r}).touch()\n"


def tamper(statement: str, *values: str) -> None:
    """Write to the database of the store, as anybody can who may write to it."""
    database = sqlite3.connect("mlruns/mlflow.db")
    with database:
        database.execute(statement, values)
    database.close()


def refused(*arguments: str) -> str:
    with pytest.raises(InputError) as caught:
        find(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def find(name: str) -> Any:
    place = find_place(connect(URI), name, uri=URI)
    return find_files(fetch(place, Path()), source=place.source)


@pytest.fixture
def tampered(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], tuple[MlflowClient, Run, Path]]:
    """A copy of a store with one model: its client, its run, and the folder of the model."""

    def copy() -> tuple[MlflowClient, Run, Path]:
        shutil.copytree(store.folder / "mlruns", tmp_path / "mlruns")
        monkeypatch.chdir(tmp_path)
        before, now = f"{store.folder}/mlruns", f"{tmp_path}/mlruns"
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
            ("model_versions", "storage_location"),
        ):
            tamper(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", before, now)
        client = connect(URI)
        run = client.get_run(store.run_id)
        (model,) = list_models(client, run.info.experiment_id)
        return client, run, Path(model.artifact_location.removeprefix("file://"))

    return copy


Tampered = Callable[[], tuple[MlflowClient, Run, Path]]


def test_a_model_is_read_and_deleted_only_where_mlflow_puts_it(
    tampered: Tampered, tmp_path: Path
) -> None:
    client, run, folder = tampered()
    victim = tmp_path / "victim"
    shutil.copytree(folder, victim)
    other = folder.parent.with_name("m-" + "0" * 32) / "artifacts"
    shutil.copytree(folder, other)
    places = (
        victim.as_uri(), str(victim), f"{folder.as_uri()}/../../../../../victim",
        f"{folder.as_uri()}/%2e%2e/victim", other.as_uri(), folder.parent.as_uri(), "s3://x/y",
        "file:///",
    )  # fmt: skip
    for place in places:
        tamper("UPDATE logged_models SET artifact_location = ?", place)
        assert "outside of file:" in refused(run.info.run_id)
        (model,) = list_models(client, run.info.experiment_id)
        for act in (locate_model, remove_model):
            with pytest.raises(InputError, match="outside of file:"):
                act(client, model)
    assert (victim / "MLmodel").is_file()
    assert (other / "MLmodel").is_file()
    # The place is right, and a link leads elsewhere.
    tamper("UPDATE logged_models SET artifact_location = ?", folder.as_uri())
    folder.rename(tmp_path / "moved")
    folder.symlink_to(victim)
    assert "is a link to elsewhere; refused" in refused(run.info.run_id)
    (model,) = list_models(client, run.info.experiment_id)
    with pytest.raises(InputError, match="is a link to elsewhere"):
        remove_model(client, model)
    assert (victim / "MLmodel").is_file()


def test_a_version_of_the_registry_lies_in_the_store(tampered: Tampered, tmp_path: Path) -> None:
    _, run, folder = tampered()
    assert find("tiny/1")
    victim = tmp_path / "victim"
    shutil.copytree(folder, victim)
    for place in (victim.as_uri(), f"{folder.as_uri()}/../../../../../victim", "s3://x/y"):
        tamper("UPDATE model_versions SET storage_location = ?, source = ?", place, place)
        said = refused("tiny/1")
        assert "outside" in said or "refused" in said
    assert main(["predict", "tiny/1", "a text"]) == 1
    assert run.info.run_id


def test_a_run_is_read_and_written_only_where_mlflow_puts_it(
    tampered: Tampered, tmp_path: Path
) -> None:
    client, run, _ = tampered()
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/report.md").write_text("precious")
    for place in ((tmp_path / "victim").as_uri(), tmp_path.as_uri(), "file:///etc"):
        tamper("UPDATE runs SET artifact_uri = ?", place)
        moved = client.get_run(run.info.run_id)
        for act in (Artifacts, RunLog):
            with pytest.raises(InputError, match="outside of file:"):
                act(client, moved)
    assert (tmp_path / "victim/report.md").read_text() == "precious"


def test_a_link_among_artifacts_is_not_written_through(workspace: Path) -> None:
    victim = workspace / "victim"
    victim.mkdir()
    (victim / "file").write_text("precious")
    with open_run(uri=URI, experiment="e", artifact_dir="mlruns/artifacts") as run_log:
        folder = Path(run_log.artifact_uri.removeprefix("file://"))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.md").symlink_to(victim / "file")
        (folder / "figures").symlink_to(victim)
        for path in ("report.md", "figures/file"):
            with pytest.raises(Exception, match=r"(?i)invalid|path"):
                run_log.text("overwritten", path)
    assert (victim / "file").read_text() == "precious"
    assert [path.name for path in victim.iterdir()] == ["file"]


PIPES = [
    "model/config.json", "model/model.safetensors", "model/generation_config.json",
    "model/extra.safetensors", "components/tokenizer/tokenizer.json",
    "components/tokenizer/tokenizer_config.json", "components/tokenizer/chat_template.jinja",
    "components/tokenizer/added_tokens.json", "MLmodel",
]  # fmt: skip


@pytest.mark.timeout(60)
def test_a_pipe_or_a_link_in_a_model_s_folder_is_refused(
    tampered: Tampered, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run, folder = tampered()
    (tmp_path / "elsewhere").write_text("{}")
    for name in PIPES:
        path = folder / name
        kept = path.read_bytes() if path.exists() else None
        for replace in (os.mkfifo, lambda path: path.symlink_to(tmp_path / "elsewhere")):
            path.unlink(missing_ok=True)
            replace(path)
            assert main(["predict", run.info.run_id, "a text"]) == 1, name
            said = capsys.readouterr().err
            assert said.startswith("error: ")
            assert said.count("\n") == 1
            if name != "MLmodel":
                assert str(folder) in str(refused(run.info.run_id))
        path.unlink()
        if kept is not None:
            path.write_bytes(kept)
    # A directory that a person has typed may have links, and no pipes.
    typed = tmp_path / "typed"
    shutil.copytree(folder, typed)
    os.mkfifo(typed / "model/chat_template.jinja")
    assert main(["predict", "typed", "a text"]) == 1
    assert "is no file (a pipe, a device or a broken link); refused" in capsys.readouterr().err


LEADING: dict[str, tuple[str, dict[str, Any]]] = {
    "code for the config": (
        "model/config.json",
        {"auto_map": {"AutoConfig": "evil.Config"}, "model_type": "evil"},
    ),
    "code for the model": (
        "model/config.json",
        {"auto_map": {"AutoModelForSequenceClassification": "evil.Model"}},
    ),
    "code of the hub for attention": (
        "model/config.json",
        {"attn_implementation": "somebody/kernel"},
    ),
    "another format of weights": (
        "model/config.json",
        {"transformers_weights": "adapter_model.bin"},
    ),
    "quantised weights": ("model/config.json", {"quantization_config": {"quant_method": "hqq"}}),
    "in a config within the config": (
        "model/config.json",
        {"text_config": {"_attn_implementation": "somebody/kernel"}},
    ),
    "code for the tokenizer": (
        "components/tokenizer/tokenizer_config.json",
        {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}},
    ),
    "a vocabulary elsewhere": (
        "components/tokenizer/tokenizer_config.json",
        {"vocab_file": "/etc/passwd"},
    ),
    "a vocabulary elsewhere, among special tokens": (
        "components/tokenizer/special_tokens_map.json",
        {"vocab_file": "/etc/passwd"},
    ),
    "a tokenizer elsewhere, by its version": (
        "components/tokenizer/tokenizer_config.json",
        {"fast_tokenizer_files": ["../../../tokenizer.4.0.0.json"]},
    ),
    "another model": ("model/adapter_config.json", {"base_model_name_or_path": "/etc"}),
    "weights elsewhere": (
        "model/model.safetensors.index.json",
        {"weight_map": {"a": "../../../victim.safetensors"}},
    ),
    "pickled weights": (
        "model/model.safetensors.index.json",
        {"weight_map": {"a": "pytorch_model.bin"}},
    ),
}


def test_what_leads_to_code_or_to_other_files_is_refused_before_anything_is_loaded(
    tampered: Tampered, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client, run, folder = tampered()
    harmed = tmp_path / "harmed"
    for place in ("model", "components/tokenizer"):
        (folder / place / "evil.py").write_text(CODE.format(str(harmed)))
    (model,) = list_models(client, run.info.experiment_id)
    for kind, (name, content) in LEADING.items():
        path = folder / name
        kept = path.read_text() if path.exists() else None
        path.write_text(json.dumps({**json.loads(kept or "{}"), **content}))
        assert main(["predict", run.info.run_id, "a text"]) == 1, kind
        said = capsys.readouterr().err
        assert said.startswith("error: "), kind
        assert said.count("\n") == 1
        # As the winner of a study is loaded, and a model to start from.
        with pytest.raises(InputError):
            load_logged(client, model, tag="text-classification", scratch=tmp_path)
        with pytest.raises(InputError):
            load_run(run_id=run.info.run_id, tracking_uri=URI, cache_dir="mlruns/cache")
        assert not harmed.exists(), kind
        path.unlink() if kept is None else path.write_text(kept)
    assert load_logged(client, model, tag="text-classification", scratch=tmp_path)


def test_a_class_that_the_record_of_a_model_names_is_not_looked_up(
    tampered: Tampered, tmp_path: Path
) -> None:
    """MLflow loads a class that it does not know with the code beside the weights."""
    client, run, folder = tampered()
    record = folder / "MLmodel"
    text = record.read_text()
    for before, now in (
        ("instance_type: TextClassificationPipeline", "instance_type: Unknown"),
        ("pipeline_model_type: GPT2ForSequenceClassification", "pipeline_model_type: Unknown"),
        ("tokenizer_type: ", "tokenizer_type: Unknown"),
    ):
        text = text.replace(before, now)
    assert text != record.read_text()
    record.write_text(text)
    (folder / "model/evil.py").write_text(CODE.format(str(tmp_path / "harmed")))
    (model,) = list_models(client, run.info.experiment_id)
    weights, _ = load_logged(client, model, tag="text-classification", scratch=tmp_path)
    assert type(weights).__name__ == "GPT2ForSequenceClassification"
    assert not (tmp_path / "harmed").exists()


@pytest.mark.timeout(60)
def test_a_pipe_among_artifacts_is_not_waited_for(tmp_path: Path, workspace: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is no regular file"):
        read_regular(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * 1000)
    with pytest.raises(InputError, match="1,000 bytes, and 999 are the most"):
        read_regular(tmp_path / "large", most=999)
    with open_run(uri=URI, experiment="e", artifact_dir="mlruns/artifacts") as run_log:
        run_log.metrics({"a": 1.0})
        run_log.text("seed: 1\n", "config.yaml")
    folder = Path(run_log.artifact_uri.removeprefix("file://"))
    (folder / "config.yaml").unlink()
    os.mkfifo(folder / "config.yaml")
    assert main(["rerun", run_log.run_id]) == 1
    assert main(["lineage", run_log.run_id]) == 0


def test_the_id_of_a_run_is_no_path() -> None:
    for name in ("../../../victim", "a" * 31, "", "A" * 32, f"{'a' * 32}/..", 5, None):
        with pytest.raises(InputError, match="names a run like no run; refused"):
            require_run_id(name)
    assert require_run_id("a" * 32)


def test_a_study_s_run_is_its_own(workspace: Path) -> None:
    """Its models would be deleted as those of this study's trials."""
    options: dict[str, Any] = {"uri": URI, "experiment": "e", "artifact_dir": "mlruns/artifacts"}
    for tags in (
        {},
        {"tunetrail.study": "other"},
        {"tunetrail.study": "s", "tunetrail.trial": "0"},
    ):
        with open_run(**options, tags=tags) as run_log:
            pass
        with pytest.raises(InputError, match="which is another's; refused"):
            reopen_run(uri=URI, run_id=run_log.run_id, study="s")
        assert connect(URI).get_run(run_log.run_id).info.status == "FINISHED"


def test_a_pinned_name_stands_for_a_run_and_not_for_an_interpolation(workspace: Path) -> None:
    storage = "sqlite:///mlruns/optuna.db"
    study = optuna.create_study(study_name="s", storage=storage)
    study.ask()
    for value in ("${oc.env:HOME}", "../../x", "models:/m-1"):
        study.set_user_attr("pinned", {"m@champion": value})
        trial = Trial(storage=storage, study="s", number=0, pruner=None, objective="a")
        with pytest.raises(InputError, match="names a run like no run; refused"):
            trial.pin("m@champion", lambda name: name)
