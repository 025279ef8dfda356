"""A model on its own, and a model behind HTTP: the same labels as ``tunetrail predict``."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import transformers
from toys import Store
from transformers import AutoTokenizer, pipeline

from tunetrail.__main__ import main
from tunetrail.tracking.store import connect

# Texts that look like Python, and one that is far longer than the model reads.
ODD = ["5", "'good'", "[1, 2]", "{'text': 'bad'}", "good great love " * 700]


@pytest.fixture(autouse=True)
def quiet() -> None:
    transformers.utils.logging.disable_progress_bar()


def predicted(model: object, texts: list[str]) -> pd.DataFrame:
    pd.DataFrame({"text": texts}).to_parquet("in.parquet")
    options = ["--input", "in.parquet", "--output", "out.parquet"]
    assert main(["predict", str(model), *options]) == 0
    return pd.read_parquet("out.parquet")


def test_an_exported_directory_gives_the_same_labels_in_a_pipeline(here: Store) -> None:
    texts = [*pd.read_csv(here.folder / "validation.csv")["text"], *ODD]
    expected = predicted("tiny@champion", texts)
    answers = pipeline("text-classification", str(here.exported), truncation=True)(texts)
    assert [answer["label"] for answer in answers] == list(expected["prediction"])
    scores = [answer["score"] for answer in answers]
    assert scores == pytest.approx(list(expected["confidence"]), abs=1e-5)


def test_pyfunc_gives_the_same_labels_whatever_the_texts_look_like(here: Store) -> None:
    connect("sqlite:///mlruns/mlflow.db")
    loaded = mlflow.pyfunc.load_model("models:/tiny@champion")
    texts = list(pd.read_csv(here.folder / "validation.csv")["text"])
    for asked in (texts, ODD, ODD[:1], ODD[-1:]):
        expected = predicted("tiny@champion", asked)
        answers = loaded.predict([{"text": text} for text in asked])
        assert list(answers["label"]) == list(expected["prediction"])
        assert list(answers["score"]) == pytest.approx(list(expected["confidence"]), abs=1e-6)


def test_a_long_text_in_a_pipeline_without_truncation_fails_as_the_export_says(here: Store) -> None:
    readme = (here.exported / "README.md").read_text()
    assert "trained on texts of up to 64 tokens" in readme
    assert "truncation=True" in readme
    classify = pipeline("text-classification", str(here.exported))
    with pytest.raises(IndexError):
        classify("good " * 100)


def test_an_export_holds_what_tools_look_for_and_nothing_else(here: Store) -> None:
    assert sorted(path.name for path in here.exported.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    config = json.loads((here.exported / "config.json").read_text())
    assert list(config["id2label"].values()) == ["negative", "neutral", "positive"]
    readme = (here.exported / "README.md").read_text()
    assert f"in MLflow run `{here.run_id}`" in readme
    assert "Exported from tiny version 1 (champion)" in readme
    assert not [path for path in here.exported.parent.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_the_card_of_the_run_goes_with_it_and_texts_are_cut_where_training_cut(
    capsys: pytest.CaptureFixture[str], train: Any, tiny: list[str]
) -> None:
    train(*tiny, "task.max_length=16", "trainer.num_train_epochs=1")
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    client = connect("sqlite:///mlruns/mlflow.db")
    client.log_text(run.info.run_id, "# The card of the winner\n", "model_card.md")
    capsys.readouterr()
    assert main(["export", run.info.run_id, "out"]) == 0
    assert capsys.readouterr().out == f"run {run.info.run_id} -> out\n"
    assert (
        Path("out/README.md")
        .read_text()
        .startswith("# The card of the winner\n\n## Use this directory\n")
    )
    tokenizer = AutoTokenizer.from_pretrained("out")
    assert tokenizer.model_max_length == 16
    # an export of the export says the same once
    assert main(["export", "out", "again"]) == 0
    assert Path("again/README.md").read_text() == Path("out/README.md").read_text()
    texts = ["good day " * 4 + "bad " * 30, "good day"]
    for model in (run.info.run_id, "out", "again"):
        answers = predicted(model, texts)
        cut = tokenizer.decode(tokenizer(texts[0], truncation=True)["input_ids"])
        assert list(answers["confidence"]) == pytest.approx(
            list(predicted(model, [cut, texts[1]])["confidence"]), abs=1e-6
        )


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("full", "full is not empty"),
        ("file", "file is no directory"),
        ("link", "link is no directory"),
        ("no/new", "there is no folder"),
    ],
)
def test_an_export_never_writes_over_anything(
    here: Store, folder: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("full").mkdir()
    Path("full/note").touch()
    Path("file").touch()
    Path("empty").mkdir()
    Path("link").symlink_to("empty")
    assert main(["export", "tiny", folder]) == 1
    assert message in capsys.readouterr().err
    assert list(Path("empty").iterdir()) == []
    assert main(["export", "tiny", "empty"]) == 0
    assert (Path("empty") / "config.json").is_file()


@pytest.fixture
def file_system(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A real file system in memory, with options of ``mount``."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, check=False).returncode != 0:
            pytest.skip("mounting a file system needs root")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["8k", "60k", "150k"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    here: Store,
    file_system: Callable[[str], Path],
    size: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = file_system(f"size={size}")
    assert main(["export", "tiny", str(folder / "new")]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {folder}/new cannot be written: ")
    assert said.count("\n") == 1
    assert list(folder.iterdir()) == []


def test_a_read_only_disk_is_one_line(
    here: Store, file_system: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = file_system("ro")
    for command in (
        ["export", "tiny", str(folder / "new")],
        ["predict", "tiny", "x", "--output", str(folder / "x.tsv")],
    ):
        assert main(command) == 1
        said = capsys.readouterr().err
        assert f"{folder}/" in said
        assert "cannot be written to; name another" in said
        assert said.count("\n") == 1


@pytest.fixture
def server(here: Store) -> Iterator[str]:
    """``mlflow models serve`` on a free port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["models", "serve", "-m", "models:/tiny@champion", "--env-manager", "local"]
    with Path("serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command, "-h", "127.0.0.1", "-p", str(port)],
            env={
                **os.environ,
                "MLFLOW_TRACKING_URI": "sqlite:///mlruns/mlflow.db",
                # It starts uvicorn by its name.
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            },
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 120
        while not is_up(url):
            assert process.poll() is None, Path("serve.log").read_text()
            assert time.monotonic() < until, Path("serve.log").read_text()
            time.sleep(0.3)
        yield url
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=30)


def is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ping", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def ask(url: str, body: object, content_type: str = "application/json") -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{url}/invocations",
        json.dumps(body).encode(),
        {"Content-Type": content_type},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.slow
def test_mlflow_serves_the_champion_over_http_with_label_names(here: Store, server: str) -> None:
    texts = [*pd.read_csv(here.folder / "validation.csv")["text"], *ODD]
    expected = predicted("tiny@champion", texts)
    columns = {"columns": ["text"], "data": [[text] for text in texts]}
    records = [{"text": text} for text in texts]
    for body in (
        {"inputs": texts},
        {"dataframe_split": columns},
        {"dataframe_records": records},
    ):
        status, answer = ask(server, body)
        assert status == 200
        assert [found["label"] for found in answer["predictions"]] == list(expected["prediction"])
        scores = [found["score"] for found in answer["predictions"]]
        assert scores == pytest.approx(list(expected["confidence"]), abs=1e-6)
    for alone in ODD:
        assert ask(server, {"inputs": [alone]})[0] == 200
    status, answer = ask(server, {"inputs": ["good", ""]})
    assert status == 400
    assert "row 1 has no answer" in answer["message"]
    # What the server itself would answer with another column's label, with 500, or a stack trace.
    for request in (
        {"body": {"texts": ["good"]}},
        {"body": {"dataframe_records": [{"id": "7", "text": "good"}]}},
        {"body": {"inputs": [5]}},
        {"body": {"inputs": ["good"]}, "content_type": "application/octet-stream"},
    ):
        status, answer = ask(server, **request)
        assert status == 400
        assert "stack_trace" not in answer
        assert "\n" not in answer["message"]
    assert ask(server, {"inputs": ["good"]})[0] == 200
