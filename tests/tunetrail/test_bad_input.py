"""An error is one line with the key, the value, what was found, and the remedy."""

import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

Train = Callable[..., Any]


def write(path: str, text: str) -> None:
    Path(path).write_text(text, encoding="utf-8")


ROWS = "".join(f"text number {i},{'ab'[i % 2]}\n" for i in range(20))


@pytest.fixture
def said(train: Train, tiny: list[str], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run with overrides that cannot work; return the one line the program leaves with."""

    def run(*overrides: str) -> str:
        with pytest.raises(SystemExit) as caught:
            train(*tiny, *overrides)
        assert caught.value.code not in (0, None)
        message = str(caught.value.code)
        assert message.startswith("error: "), capsys.readouterr().err
        assert "\n" not in message
        assert "Traceback" not in capsys.readouterr().err
        return message

    return run


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, ["data.train=bad.csv", "no such file"]),
        ("", ["data.train=bad.csv"]),
        ("text,label\n", ["data.train=bad.csv", "no rows"]),
        (
            "words,label\nhello,a\n",
            ["no column 'text' in train", "words, label", "data.columns.text"],
        ),
        (
            "text,mark\nhello,a\n",
            ["no column 'label' in train", "text, mark", "columns.label"],
        ),
        ("text,label\n,a\n" + ROWS, ["empty", "checks.quality=clean"]),
        ("text,label\nhello,a\nthere,a\n", ["'b'", "validation"]),
        ("text,label\n" + ROWS.replace(",b", ",c"), ["'b'", "validation"]),
    ],
    ids=[
        "missing",
        "empty",
        "no rows",
        "no text",
        "no label",
        "blank text",
        "one class",
        "unknown",
    ],
)
def test_bad_files(said: Callable[..., str], content: str | None, found: list[str]) -> None:
    if content is not None:
        write("bad.csv", content)
    write("held.csv", "text,label\n" + ROWS)
    message = said("data.train=bad.csv", "data.validation=held.csv")
    for part in found:
        assert part in message, message


def test_a_class_that_is_too_small_to_be_split(said: Callable[..., str]) -> None:
    write("one.csv", "text,label\n" + ROWS + "the only one,c\n")
    message = said("data.train=one.csv", "data.validation=null")
    assert "'c'" in message
    assert "1 different text in train" in message


def test_rows_without_what_the_task_reads(train: Train, tiny: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        train("data=tweets", *tiny[3:], "task=token_classification")
    assert str(caught.value.code) == (
        "error: data=tweets: it has no tokens, which this task reads (found: sentiment, "
        "confidence, text); choose other data, or set +data.columns.tokens=COLUMN"
    )


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("data.num_train=61", "data.num_train=61: train has 60 rows"),
        ("data.num_train=0", "data.num_train=0: must be a whole number"),
        ("data.per_label=0", "data.per_label=0: must be a whole number of 1 or more"),
        ("data.per_label=21", "data.per_label=21: train has 20 rows of 'negative'; ask for fewer"),
        ("data.per_label=8 data.num_train=21", "data.per_label=8: train has 7 rows of 'negative'"),
        ("method=frozen method.num_layers_trained=3", "GPT2ForSequenceClassification has 2 layers"),
        ("trainer.per_device_train_batch_size=0", "must be a whole number of 1 or more"),
        ("trainer.learning_rate=-1", "trainer.learning_rate=-1: must be a number above 0"),
        ("trainer.num_train_epochs=none", "trainer.num_train_epochs=none: must be a number"),
        ("precision=int4", "precision=int4: must be one of auto, bf16, fp16, fp32"),
        ("checks.quality=strict", "checks.quality=strict: must be one of off, warn, clean, error"),
        ("checks.labels=clean", "checks.labels=clean: must be one of off, warn"),
        ("checks.leakage=error data.validation=train.csv", "checks.leakage=error: "),
        ("seed=-1", "seed=-1: must be a whole number"),
        ("training_seed=-1", "training_seed=-1: must be a whole number from 0 to 4294967295"),
        ("training_seed=1.5", "training_seed=1.5: must be a whole number"),
        ("sweep.keep_best=0", "sweep.keep_best=0: must be a whole number of 1 or more"),
        (
            '++sweep.constraints={gap/accuracy: "< 0.2"}',
            "sweep.constraints.gap/accuracy=< 0.2: must be <= or >= and a number",
        ),
        (
            '++sweep.constraints={gap/accuracy: "<= little"}',
            "sweep.constraints.gap/accuracy=<= little: must be <= or >= and a number",
        ),
        (
            "++sweep.constraints={gap/accuracy: 0.2}",
            "sweep.constraints.gap/accuracy=0.2: must be <= or >= and a number, in quotes",
        ),
        (
            '++sweep.constraints={gap/acuracy: "<= 0.2"}',
            "sweep.constraints=gap/acuracy: no such metric (found: validation/loss",
        ),
        ("+trainer.lerning_rate=1", "did you mean trainer.learning_rate?"),
        ("+task.max_lenght=5", "did you mean task.max_length?"),
        ("+method.nam=all", "did you mean method.name?"),
        ("+data.source.validaton=a.csv", "did you mean data.source.validation?"),
        ("+model.source.pth=nowhere", "did you mean model.source.path?"),
        ("+sampler.n_startup_trails=3", "did you mean sampler.n_startup_trials?"),
        ("task._target_=tunetrail.tasks.Tagging", "task._target_=tunetrail.tasks.Tagging: cannot"),
        ("model.path=.", "no checkpoint, config.json is missing"),
        ("model.path=nowhere", "model.path=nowhere: no directory there"),
        ("trainer.metric_for_best_model=bleu", "trainer.metric_for_best_model=bleu"),
        ("trainer.metric_for_best_model=null", "trainer.metric_for_best_model=null"),
        ("+trainer.bf16=true", "trainer.bf16: cannot be set here; use precision=bf16"),
        (
            "+trainer.push_to_hub=true",
            "trainer.push_to_hub: cannot be set here; push the logged mo",
        ),
        ("+trainer.report_to=mlflow", "trainer.report_to: cannot be set here; use tracking.uri"),
        ("task.max_length=0", "task.max_length=0: must be a whole number of 1 or more"),
        ("task.padding=max", "task.padding=max: must be one of longest, max_length"),
        ("task.main_metric=bleu", "task.main_metric=bleu"),
        ("trainer.optim=adam9", "trainer.optim=adam9: must be one of adamw_torch, "),
        ("sweep.objectives=[validation/loss,x]", "sweep.objectives=x: no such metric (found:"),
        ("score_test=true", "score_test=true: there is no test split"),
        ("resume=no-such-run", "no-such-run"),
        ("registry.name=my/model", "registry.name=my/model: must be a name without / : @ % and"),
        ("registry.name=my@model", "(found: @), or null to register nowhere"),
        ("registry.name=3", "registry.name=3: must be a name"),
        ("registry.name=..", "registry.name=..: must be a name"),
        (f"registry.name={'x' * 251}", "has 251 characters; 250 at most"),
    ],
)
@pytest.mark.slow
def test_bad_values(said: Callable[..., str], override: str, found: str) -> None:
    assert found in said(*([override] if "{" in override else override.split(" ")))


def test_an_unknown_metric_is_an_error_before_a_run_is_opened(
    said: Callable[..., str], workspace: Path
) -> None:
    message = said(
        "sweep.objectives=validation/acuracy", "data.train=nope.csv",
        "model.path=nowhere", "tracking.uri=sqlite:///other/mlflow.db",
    )  # fmt: skip
    assert message.startswith("error: sweep.objectives=validation/acuracy: no such metric (found: ")
    assert "validation/accuracy" in message
    assert "gap/macro_f1" in message
    assert not (workspace / "other").exists()


def test_a_hub_model_without_a_network(train: Train, tiny: list[str]) -> None:
    overrides = [override for override in tiny if not override.startswith("model")]
    with pytest.raises(SystemExit) as caught:
        train(*overrides, "model=hub", "model.id=no/such-model")
    message = str(caught.value.code)
    assert message.startswith("error: model 'no/such-model'")
    assert "model=minilm" in message
    assert "\n" not in message


def test_a_server_that_does_not_answer(said: Callable[..., str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert f"tracking.uri={url}: no MLflow server answers" in said(f"tracking.uri={url}")


def test_a_store_whose_driver_is_not_installed(said: Callable[..., str]) -> None:
    message = said("tracking.uri=mysql://me:hunter2@localhost/runs")
    assert "the driver of that database is not installed (no module MySQLdb)" in message
    assert "hunter2" not in message


def test_a_tracking_folder_that_cannot_be_written(said: Callable[..., str]) -> None:
    write("taken", "a file where a folder belongs")
    message = said("tracking.uri=sqlite:///taken/mlflow.db")
    assert "tracking.uri=sqlite:///taken/mlflow.db" in message


@pytest.mark.parametrize("key", ["tracking.checkpoint_dir", "tracking.artifact_dir"])
def test_a_folder_below_a_file(said: Callable[..., str], key: str) -> None:
    write("taken", "a file where a folder belongs")
    assert f"{key}=taken/here: cannot write to" in said(f"{key}=taken/here")


def test_a_file_in_the_place_of_mlruns(train: Train, tiny: list[str], workspace: Path) -> None:
    shutil.rmtree(workspace / "mlruns")
    write("mlruns", "a file")
    with pytest.raises(SystemExit) as caught:
        train(*tiny)
    assert str(caught.value.code).startswith("error: hydra.run.dir=mlruns/hydra/runs/")


@pytest.mark.slow
def test_a_finished_run_is_not_resumed_and_keeps_its_record(
    train: Train, tiny: list[str], workspace: Path
) -> None:
    train(*tiny, "tracking.log_model=false", "trainer.num_train_epochs=1")
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tunetrail")
    (run,) = client.search_runs([experiment.experiment_id])
    with pytest.raises(SystemExit) as caught:
        train(*tiny, f"resume={run.info.run_id}")
    assert "the run is FINISHED" in str(caught.value.code)
    assert client.get_run(run.info.run_id).info.status == "FINISHED"


def test_a_run_that_was_open_is_failed_with_its_cause(
    said: Callable[..., str], workspace: Path
) -> None:
    message = said("model.path=nowhere")
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tunetrail")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    assert run.data.tags["tunetrail.failure"] == "InputError: " + message.removeprefix("error: ")
    # what is needed to run it again was logged before anything went wrong
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert artifacts >= {"config.yaml", "environment"}


def test_an_unknown_key_keeps_the_words_of_hydra(said: Callable[..., str]) -> None:
    message = said("trainer.lerning_rate=1")
    assert "Could not override 'trainer.lerning_rate'" in message
    assert "+trainer.lerning_rate=1" in message
    assert message.endswith("did you mean trainer.learning_rate?")


def test_a_loss_that_is_not_finite_ends_the_run_with_that_cause(
    train: Train, tiny: list[str], workspace: Path
) -> None:
    with pytest.raises(SystemExit, match=r"error: .*lower trainer\.learning_rate"):
        train(*tiny, "trainer.learning_rate=1e18", "trainer.max_grad_norm=0",
              "trainer.logging_steps=1", "trainer.warmup_steps=0")  # fmt: skip
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tunetrail")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    assert run.data.tags["tunetrail.failure"].startswith("NonFiniteLossError: ")
    assert "lower trainer.learning_rate" in run.data.tags["tunetrail.failure"]


@pytest.mark.slow
def test_the_whole_traceback_is_shown_on_request(
    run_train: Callable[..., Any], tiny: list[str]
) -> None:
    short = run_train(*tiny, "data.train=nope.csv")
    assert short.returncode == 1
    assert "error: data.train=nope.csv" in short.stderr
    assert "Traceback" not in short.stderr
    long = run_train(*tiny, "data.train=nope.csv", HYDRA_FULL_ERROR="1")
    assert long.returncode == 1
    assert "Traceback" in long.stderr
    assert "InputError: data.train=nope.csv" in long.stderr


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_a_failed_run(
    run_train: Callable[..., Any], tiny: list[str], workspace: Path
) -> None:
    """A real file system of 1 MB under the checkpoints."""
    small = workspace / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        done = run_train(*tiny, f"tracking.checkpoint_dir={small}", "tracking.log_model=false")
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert done.returncode == 1
    assert "error: the disk is full" in done.stderr, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tunetrail")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    assert "the disk is full" in run.data.tags["tunetrail.failure"]
