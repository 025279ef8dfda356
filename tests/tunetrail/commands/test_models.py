"""How a MODEL is found, and the error if there is none."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.tracking import MlflowClient
from servers import Server
from toys import Store
from transformers import GPT2LMHeadModel

from tunetrail.__main__ import main
from tunetrail.errors import InputError
from tunetrail.serving.find import open_model
from tunetrail.tracking.models import list_models, remove_model
from tunetrail.tracking.store import connect

URI = "sqlite:///mlruns/mlflow.db"
NO_RUN = "0" * 32


def refused(model: object, *, uri: str = URI) -> str:
    with pytest.raises(InputError) as error, open_model(str(model), uri=uri):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_found_model_names_its_source(here: Store) -> None:
    sources = {
        "tiny": "tiny version 1 (champion)",
        "models:/tiny@champion": "tiny version 1 (champion)",
        "tiny/1": "tiny version 1",
        here.run_id: f"run {here.run_id}",
        here.run_id[:8]: f"run {here.run_id}",
        here.run_id[:31]: f"run {here.run_id}",
        str(here.exported): str(here.exported),
    }
    for name, source in sources.items():
        with open_model(name, uri=URI) as model:
            assert model.source == source
            assert model.pipeline_tag == "text-classification"
            assert model.max_length == 64
            assert (model.model_dir / "model.safetensors").is_file()


def test_what_reads_a_store_writes_nothing(here: Store, tmp_path: Path) -> None:
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in here.folder.rglob("*") if path.is_file()}

    before = content()
    for command in (
        ["lineage", here.run_id], ["compare", here.run_id, here.run_id],
        ["predict", here.run_id, "a text"], ["export", "tiny", str(tmp_path / "new")],
    ):  # fmt: skip
        assert main(command) == 0
    assert content() == before
    assert {path.name for path in tmp_path.iterdir()} == {"mlruns", "new"}


def test_a_directory_comes_before_a_name_of_the_registry(here: Store) -> None:
    shutil.copytree(here.exported, "tiny")
    with open_model("tiny", uri=URI) as model:
        assert model.source == "tiny"
    with open_model("models:/tiny", uri=URI) as model:
        assert model.source == "tiny version 1 (champion)"


def test_a_directory_needs_no_store(here: Store) -> None:
    assert main(["predict", str(here.exported), "a day", "--uri", "sqlite:///no.db"]) == 0
    assert not Path("no.db").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "large",
            "there is no registered model 'large' in sqlite:///mlruns/mlflow.db",
        ),
        ("large@champion", "(registered: tiny)"),
        ("tiny@best", "tiny has no best (aliases: champion=1; versions: 1)"),
        ("tiny/2", "tiny has no version 2 (aliases: champion=1; versions: 1)"),
        ("models:/tiny/99999999999999", "tiny has no version"),
        ("a/b/c", "there is no registered model 'a/b/c'"),
        ("it's", 'there is no registered model "it\'s"'),
        ("@champion", "give a run id, NAME@ALIAS or NAME/VERSION"),
        (
            NO_RUN,
            f"run {NO_RUN} is not in {URI}; give its store with tracking.uri",
        ),
        ("file", "model file: that is a file"),
        ("0" * 8, "there is no registered model '00000000'"),
        ("", "model '' is empty; give"),
        (" ", "model ' ' is empty; give"),
    ],
)
def test_an_unknown_name_lists_what_there_is(here: Store, model: str, message: str) -> None:
    Path("file").touch()
    assert message in refused(model)


def test_a_store_that_is_not_there_is_named_and_not_made(here: Store) -> None:
    assert "is not a directory here, and no store in" in refused("tiny", uri="sqlite:///no.db")
    assert not Path("no.db").exists()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    secret = f"http://me:hunter2@127.0.0.1:{port}"
    said = refused("tiny", uri=secret)
    assert "no MLflow server answers" in said
    assert "hunter2" not in said


@pytest.mark.slow
def test_a_name_without_alias_is_its_champion_or_nothing(
    train: Any, tiny: list[str], workspace: Path
) -> None:
    train(*tiny, "trainer.num_train_epochs=1")
    client = connect(URI)
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    source = f"models:/{run.outputs.model_outputs[0].model_id}"
    assert "(nothing is registered there)" in refused("tweets")
    client.create_registered_model("tweets")
    assert "tweets has no champion (aliases: none; versions: none)" in refused("tweets")
    for _ in range(2):
        client.create_model_version("tweets", source, run_id=run.info.run_id)
    client.set_registered_model_alias("tweets", "challenger", "2")
    assert "has no champion (aliases: challenger=2; versions: 2, 1)" in refused("tweets")
    with open_model("tweets@challenger", uri=URI) as model:
        assert model.source == "tweets version 2 (challenger)"

    # the weights are deleted, as those of a worse trial are; the version stays
    (logged,) = list_models(client, run.info.experiment_id)
    remove_model(client, logged)
    assert "tweets version 2: its weights were removed" in refused("tweets/2")
    assert f"run {run.info.run_id} holds no weights" in refused(run.info.run_id)


def test_a_run_without_weights_says_why_and_where_there_are_some(workspace: Path) -> None:
    client = connect(URI)
    experiment = client.create_experiment("tests")

    def create(status: str, **tags: str) -> str:
        named = {name.replace("__", "."): value for name, value in tags.items()}
        run_id = client.create_run(experiment, tags=named).info.run_id
        client.set_terminated(run_id, status)
        return str(run_id)

    assert "it did not finish; train again" in refused(create("FAILED"))
    assert "tracking.log_model=false; `tunetrail rerun" in refused(create("FINISHED"))
    parent = create("FINISHED", tunetrail__study="s", tunetrail__best_run="abc")
    said = refused(parent)
    assert "it is the parent run of study s" in said
    assert "the best run is abc" in said
    trial = {"tunetrail__study": "s", "tunetrail__trial": "3", "mlflow__parentRunId": parent}
    said = refused(create("FINISHED", **trial))
    assert "it is trial 3 of study s, which keeps those of its sweep.keep_best trials" in said
    assert "the best run is abc" in said


def change(path: Path, **values: object) -> None:
    known = json.loads(path.read_text())
    path.write_text(json.dumps(known | values))


def test_a_directory_says_what_it_lacks(
    here: Store, capsys: pytest.CaptureFixture[str], tiny_gpt2: Path
) -> None:
    def without(*names: str) -> Path:
        shutil.rmtree("model", ignore_errors=True)
        shutil.copytree(here.exported, "model")
        for name in names:
            (Path("model") / name).unlink()
        return Path("model")

    Path("empty").mkdir()
    assert "empty: no config.json in empty" in refused("empty")
    without("model.safetensors")
    Path("model/pytorch_model.bin").write_bytes(b"pickle")
    assert "no *.safetensors in model, and nothing else is read" in refused("model")
    assert "no tokenizer in model" in refused(without("tokenizer.json", "tokenizer_config.json"))
    assert "no tokenizer_config.json" in refused(without("tokenizer_config.json"))
    change(without() / "tokenizer_config.json", model_max_length=int(1e30))
    assert "nothing says how many tokens the model reads; set model_max_length" in refused("model")
    (without() / "config.json").write_text("{nonsense")
    assert "config.json cannot be read" in refused("model")
    (without() / "config.json").write_text("[]")
    assert "holds no JSON object" in refused("model")
    (without() / "MLmodel").write_text("flavors: []")
    assert "is no description of a model of MLflow" in refused("model")
    change(without() / "config.json", architectures=["NoSuchModel"], tunetrail=None)
    assert "names NoSuchModel, which is no model of transformers for a task" in refused("model")

    # what only loading shows
    def not_loaded(model: object = "model") -> str:
        assert main(["predict", str(model), "x"]) == 1
        return capsys.readouterr().err

    without("tokenizer.json")
    assert "a `tokenizers` library serialization file" in not_loaded()
    change(without() / "config.json", problem_type="regression")
    assert "it is for regression" in not_loaded()
    change(without() / "config.json", id2label={"0": "same", "1": "same", "2": "other"})
    assert "its labels are same, same, other" in not_loaded()
    change(without() / "config.json", architectures=["ViTForImageClassification"], tunetrail=None)
    assert "a model for image-classification, which no module" in not_loaded()
    Path("strange").mkdir()
    shutil.copytree(here.exported, "strange/model")
    shutil.copytree(here.exported, "strange/components/tokenizer")
    for tag in ("../evil", "find", "base", "language"):
        description = f"flavors: {{python_function: {{}}, transformers: {{task: {tag}}}}}"
        Path("strange/MLmodel").write_text(description)
        assert f"a model for {tag}, which no module" in not_loaded("strange")
    (without() / "model.safetensors").write_bytes(b"nonsense")
    assert "error: model cannot be loaded:" in not_loaded()
    without()
    GPT2LMHeadModel.from_pretrained(tiny_gpt2).transformer.save_pretrained("body")
    shutil.copy("body/model.safetensors", "model/model.safetensors")
    assert "it was not trained to classify" in not_loaded()
    change(without() / "config.json", auto_map={"AutoConfig": "evil.Config"}, model_type="evil")
    Path("model/evil.py").write_text("open('ran', 'w')")
    not_loaded()
    assert not Path("ran").exists()


def test_the_code_in_a_logged_model_is_not_run(here: Store) -> None:
    """Its weights are read as data; only MLflow itself runs the code beside them."""
    client = MlflowClient(f"sqlite:///{here.folder}/mlruns/mlflow.db")
    location = client.get_model_version_download_uri("tiny", "1")
    copy = Path("copy")
    shutil.copytree(location.removeprefix("file://"), copy)
    for file in (copy / "code").rglob("*.py"):
        file.write_text("open('ran', 'w')")
    assert main(["predict", str(copy), "a day"]) == 0
    assert not Path("ran").exists()


@pytest.mark.slow
def test_what_a_server_sends_is_there_until_the_block_ends(
    workspace: Path,
    tiny: list[str],
    train: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = Server(workspace)
    server.start()
    try:
        train(*tiny, f"tracking.uri={server.uri}", "trainer.num_train_epochs=1")
        client = connect(server.uri)
        (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
        (output,) = run.outputs.model_outputs
        client.create_registered_model("tiny")
        client.create_model_version(
            "tiny",
            f"models:/{output.model_id}",
            run_id=run.info.run_id,
            model_id=output.model_id,
        )
        client.set_registered_model_alias("tiny", "champion", "1")
        client.log_text(run.info.run_id, "# The card of the winner\n", "model_card.md")
        for name in (run.info.run_id, "tiny@champion"):
            with open_model(name, uri=server.uri) as model:
                assert (model.model_dir / "model.safetensors").is_file()
                assert model.card == "# The card of the winner\n"
            assert not model.model_dir.exists()
        capsys.readouterr()
        assert main(["predict", "tiny", "a good day", "--uri", server.uri]) == 0
        assert capsys.readouterr().out.count("a good day") == 1
        remove_model(client, client.get_logged_model(output.model_id))
        assert "its weights were removed" in refused("tiny@champion", uri=server.uri)
    finally:
        server.stop()
