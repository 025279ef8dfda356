"""``tunetrail rerun``: a recorded run is run again and compared."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState
from PIL import Image
from servers import Server
from toys import ROOT, make_rows, write_csv

from tunetrail.__main__ import main
from tunetrail.config.scratch import clear
from tunetrail.runs.code_trees import checked_out
from tunetrail.runs.records import load_record
from tunetrail.tracking.run_log import open_run

Train = Callable[..., Any]
URI = "sqlite:///mlruns/mlflow.db"
BARE = ("tracking.log_model=false", "trainer.logging_steps=2")


def client() -> MlflowClient:
    return MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")


def all_runs(condition: str = "") -> list[Any]:
    experiment = client().get_experiment_by_name("tunetrail")
    return list(client().search_runs([experiment.experiment_id], condition))


def artifact(run: Any, path: str) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://")) / path


@dataclass(frozen=True)
class Said:
    """What the command said and how it ended; the verdict is its last line."""

    exit_code: int
    out: str
    err: str

    @property
    def verdict(self) -> str:
        return self.out.strip().splitlines()[-1]

    @property
    def run(self) -> Any:
        (run_id,) = re.findall(r"^rerun      ([0-9a-f]{32})$", self.out, re.MULTILINE)
        return client().get_run(run_id)


@pytest.fixture
def again(
    workspace: Path, warm_processes: None, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """``tunetrail rerun …`` in this process; the run it starts is a process of its own."""

    def run(*arguments: str) -> Said:
        capfd.readouterr()
        exit_code = main(["rerun", *arguments])
        said = capfd.readouterr()
        return Said(exit_code, said.out, said.err)

    return run


@pytest.fixture
def original(train: Train, tiny: list[str]) -> str:
    """The id of a run that is over."""
    train(*tiny, *BARE)
    (run,) = all_runs()
    return str(run.info.run_id)


Again = Callable[..., Said]


@pytest.mark.slow
def test_a_rerun_names_its_original_and_holds_the_comparison(again: Again, original: str) -> None:
    # that trial was not trained: what it says of itself is another run's
    reused = put_run({"tunetrail.reused_from": original, "tunetrail.trial": "7"})
    said = again(reused[:8])
    assert f"{reused} was not trained: its numbers are those of {original}" in said.out
    run = said.run
    assert run.data.tags["tunetrail.rerun_of"] == original
    assert run.data.tags["tunetrail.rerun"] == "bit-identical"
    assert run.data.params == client().get_run(original).data.params
    assert "bit-identical" in artifact(run, "reports/rerun.md").read_text()
    table = pd.read_csv(artifact(run, "tables/rerun.csv"))
    assert list(table) == ["metric", "step", "original", "rerun", "difference"]
    assert (table["difference"] == 0).all()
    assert "validation/loss" in set(table["metric"])
    with Image.open(artifact(run, "figures/rerun.png")) as image:
        assert image.size > (800, 800)
    assert not list(Path("mlruns").rglob("*.safetensors"))
    # a rerun is a run like any other
    assert again(run.info.run_id).verdict == said.verdict


@pytest.mark.slow
def test_another_number_of_threads_is_named_as_the_reason(again: Again, original: str) -> None:
    """Whether so small a model gives the same bits on two threads depends on the processor."""
    said = again(original, "--threads", "2")
    assert said.exit_code in (0, 3), said
    assert said.verdict.startswith(("bit-identical", "within tolerance"))
    assert "threads changed (num_threads 1 -> 2" in said.verdict


@pytest.mark.slow
def test_other_rows_are_named_as_the_reason(again: Again, original: str, workspace: Path) -> None:
    write_csv(workspace / "train.csv", make_rows(57, seed=9))
    said = again(original)
    assert said.exit_code == 4
    assert said.verdict.startswith("diverged at step 2 (")
    assert "because data changed (train 60 rows " in said.verdict
    assert " -> 57 rows " in said.verdict
    assert said.run.data.tags["tunetrail.rerun"] == "diverged"
    assert "| data | train |" in artifact(said.run, "reports/rerun.md").read_text()


@pytest.mark.slow
def test_an_override_counts_and_is_named_as_the_reason(again: Again, original: str) -> None:
    said = again(original, "trainer.learning_rate=1e-3")
    assert said.exit_code == 4
    assert "config changed (trainer.learning_rate 0.003 -> 0.001)" in said.verdict
    # and so is a value within the tolerance
    said = again(original, "trainer.weight_decay=0.0100001", "--tolerance", "0.5")
    assert said.exit_code in (0, 3)
    assert "trainer.weight_decay 0.01 -> 0.0100001" in said.verdict


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_trials_of_warm_workers_rerun_alone_give_the_same_bits(
    run_train: Callable[..., Any], tiny: list[str], again: Again
) -> None:
    """Two workers, several trials each, of different lengths; one was pruned."""
    names = ("trainer.num_train_epochs", "trainer.learning_rate")
    fixed = [value for value in tiny if not value.startswith(names)]
    done = run_train(
        "-m", *fixed, *BARE, "study=s", "sweep.num_trials=6", "hydra.sweeper.num_workers=2",
        "sampler=grid", "trainer.learning_rate=1e-6,3e-3,8e-3", "trainer.num_train_epochs=2,3",
        "pruner=threshold", "pruner.lower=0.28", "pruner.n_warmup_steps=0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    study = optuna.load_study(study_name="s", storage="sqlite:///mlruns/optuna.db")
    pruned = [trial for trial in study.trials if trial.state is TrialState.PRUNED]
    complete = [trial for trial in study.trials if trial.state is TrialState.COMPLETE]
    assert pruned
    assert len(complete) >= 2
    for trial in (*complete[-2:], pruned[0]):
        said = again(trial.user_attrs["mlflow_run_id"])
        assert said.exit_code == 0, said
        assert said.verdict.startswith("bit-identical")
        assert f"trial {trial.number} of s" in said.out
        assert "mlflow.parentRunId" not in said.run.data.tags
    assert said.verdict.endswith("as far as the original went (PRUNED)")
    # the study itself is no run
    parent = study.user_attrs["mlflow_run_id"]
    best = study.best_trial.user_attrs["mlflow_run_id"]
    said = again(parent)
    assert said.exit_code == 1
    assert f"is the study s, not a run; its best trial is {best}" in said.err


@pytest.mark.slow
def test_a_run_that_failed_fails_again_in_the_same_way(
    train: Train, tiny: list[str], again: Again
) -> None:
    with pytest.raises(SystemExit, match=r"lower trainer\.learning_rate"):
        train(*tiny, *BARE, "trainer.learning_rate=1e30", "trainer.max_grad_norm=0")
    (run,) = all_runs()
    if not run.data.metrics:
        pytest.fail("it must fail after its first numbers")
    said = again(run.info.run_id)
    assert said.exit_code == 0, said
    assert said.verdict.endswith("as far as the original went (FAILED)")
    assert said.run.info.status == "FAILED"
    # neither saved a checkpoint to resume from
    assert not list(Path("mlruns/checkpoints").iterdir())


@pytest.mark.slow
def test_a_server_serves_as_well_as_a_file(
    workspace: Path, again: Again, train: Train, tiny: list[str]
) -> None:
    server = Server(workspace)
    server.start()
    try:
        train(*tiny, *BARE, f"tracking.uri={server.uri}")
        (run,) = all_runs()
        said = again(run.info.run_id, "--uri", server.uri)
        assert said.exit_code == 0, said
        assert said.run.data.tags["tunetrail.rerun_of"] == run.info.run_id
        assert main(["compare", run.info.run_id, said.run.info.run_id, "--uri", server.uri]) == 0
        by_file = load_record(run.info.run_id, uri=URI)
        assert load_record(run.info.run_id[:8], uri=server.uri).metrics == by_file.metrics
    finally:
        server.stop()


@pytest.fixture
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of its own: the sources of this one, committed."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("src", "conf"):
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    shutil.copy(ROOT / "train.py", folder)
    (folder / ".gitignore").write_text("__pycache__/\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "all")
    return folder


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", *identity, "-C", str(folder), *arguments],
        check=True, timeout=60, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout


def in_clone(clone: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(clone / "src")},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def change_numbers(clone: Path, factor: float) -> None:
    """Edit a source file so that every learning rate is another one."""
    path = clone / "src" / "tunetrail" / "config" / "arguments.py"
    before, end, after = path.read_text().partition("    return arguments\n")
    assert end
    path.write_text(f"{before}    arguments.learning_rate *= {factor}\n{end}{after}")


@pytest.mark.slow
def test_later_code_is_the_reason_and_does_not_matter_with_checkout(
    workspace: Path, clone: Path, tiny: list[str]
) -> None:
    # the run has uncommitted changes of its own, not all of them UTF-8
    change_numbers(clone, 0.5)
    (clone / "src" / "words.md").write_bytes(b"caf\xe9\r\n")
    done = in_clone(clone, str(clone / "train.py"), *tiny, *BARE)
    assert done.returncode == 0, done.stderr
    (run,) = all_runs()
    run_id = run.info.run_id

    change_numbers(clone, 3.0)
    git(clone, "add", ".")
    git(clone, "commit", "-qm", "train faster")
    done = in_clone(clone, "-m", "tunetrail", "rerun", run_id)
    assert done.returncode == 4, done.stderr
    verdict = done.stdout.strip().splitlines()[-1]
    assert verdict.startswith("diverged at step 2 (")
    assert "because code changed (src/tunetrail/config/arguments.py +1 -0)" in verdict
    assert "with uncommitted changes: src/tunetrail/config/arguments.py +1 -0" in done.stdout

    done = in_clone(clone, "-m", "tunetrail", "rerun", run_id, "--checkout")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1].startswith("bit-identical")
    assert "src/tunetrail/config/arguments.py, src/words.md" in done.stdout
    assert len(git(clone, "worktree", "list").splitlines()) == 1
    assert git(clone, "status", "--porcelain") == ""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_stopped_rerun_closes_its_run_and_removes_its_checkout(
    workspace: Path, clone: Path, tiny: list[str]
) -> None:
    done = in_clone(clone, str(clone / "train.py"), *tiny, *BARE)
    assert done.returncode == 0, done.stderr
    (run,) = all_runs()
    checkpoints = workspace / "mlruns" / "checkpoints"
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        before = {run.info.run_id for run in all_runs()}
        code, err = stop_rerun(run.info.run_id, clone, checkpoints, stop)
        if stop is signal.SIGKILL:
            # Nobody can be told: the run ends all the same, and the next command clears the rest.
            until = time.monotonic() + 60
            while all_runs("attributes.status = 'RUNNING'") and time.monotonic() < until:
                time.sleep(0.2)
            (stopped,) = (found for found in all_runs() if found.info.run_id not in before)
            assert stopped.info.status == "KILLED"
            assert stopped.data.tags["tunetrail.failure"] == "SystemExit: 143"
            assert len(git(clone, "worktree", "list").splitlines()) == 2
            assert clear(Path(tempfile.gettempdir()))
            with checked_out(clone, commit=run.data.tags["tunetrail.commit"], patch=b""):
                assert len(git(clone, "worktree", "list").splitlines()) == 2
        else:
            assert code == 130
            assert err.endswith("error: interrupted\n")
            (stopped,) = (found for found in all_runs() if found.info.run_id not in before)
            assert stopped.data.tags["tunetrail.rerun_of"] == run.info.run_id
            assert stopped.info.status == "KILLED"
            assert not list(checkpoints.iterdir())
        assert len(git(clone, "worktree", "list").splitlines()) == 1


def stop_rerun(
    run_id: str, clone: Path, checkpoints: Path, stop: signal.Signals
) -> tuple[int | None, str]:
    """Stop a rerun in the middle of its training; its exit code and what it said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tunetrail", "rerun", run_id,
         "trainer.num_train_epochs=500", "--checkout"],
        env={**os.environ, "PYTHONPATH": str(clone / "src")},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 120
        while not list(checkpoints.glob("*/checkpoint-*")) and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.2)
        if stop is signal.SIGINT:
            os.killpg(process.pid, stop)  # as a terminal does
        else:
            process.send_signal(stop)
        _, err = process.communicate(timeout=90)
    finally:
        process.kill()
    return process.returncode, err


def put_run(tags: dict[str, str] | None = None, *, config: str | None = None) -> str:
    with open_run(
        uri=URI, experiment="tunetrail", artifact_dir="mlruns/artifacts", tags=tags or {}
    ) as run_log:
        if config is not None:
            run_log.text(config, "config.yaml")
    return run_log.run_id


def test_what_cannot_be_done_again_is_one_line(again: Again, workspace: Path) -> None:
    bare, without_metrics = put_run(), put_run(config="seed: 1\n")
    deleted = put_run()
    client().delete_run(deleted)
    study = put_run({"tunetrail.study": "s", "tunetrail.best_run": bare})
    reused = put_run({"tunetrail.reused_from": bare})
    for asked, message in (
        ("0" * 32, f"run {'0' * 32} is not in sqlite:///mlruns/mlflow.db"),
        ("00000000", "run 00000000 is not in"),
        ("../../etc/passwd", "run ../../etc/passwd: "),
        ("%", "run %: "),
        (deleted, "was deleted; restore it with `MLFLOW_TRACKING_URI="),
        (bare, "recorded no config.yaml"),
        (without_metrics, "logged no metric"),
        (study, f"its best trial is {bare}"),
        (reused, f"run {bare} recorded no config.yaml"),
    ):
        said = again(asked)
        assert said.exit_code == 1
        assert said.err.startswith("error: ")
        assert message in said.err
        assert said.err.count("\n") == 1
    said = again(bare, "--uri", "sqlite:///nowhere/x.db")
    assert "no store in" in said.err
    assert not Path("nowhere").exists()


def test_artifacts_that_lie_outside_the_store_are_refused(again: Again, workspace: Path) -> None:
    import sqlite3

    run_id = put_run(config="seed: 1\n")
    location = f"file://{workspace}/mlruns/artifacts"
    for uri in (
        f"file://{workspace}", f"{location}/../../secret", f"{location}/%2e%2e/secret",
        f"{location}-more/x",
    ):  # fmt: skip
        with sqlite3.connect("mlruns/mlflow.db") as database:
            database.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (uri, run_id))
        database.close()
        said = again(run_id)
        assert said.exit_code == 1
        assert "outside" in said.err


def test_a_link_out_of_the_store_is_refused(again: Again, workspace: Path) -> None:
    run_id = put_run(config="seed: 1\n")
    (workspace / "secret.yaml").write_text("seed: 1\n")
    config = artifact(client().get_run(run_id), "config.yaml")
    config.unlink()
    config.symlink_to(workspace / "secret.yaml")
    said = again(run_id)
    assert said.exit_code == 1
    assert "config.yaml is a link out of the store; refused" in said.err


def test_environment_of_the_record_is_read_in_both_shapes(workspace: Path) -> None:
    """A run that recorded less is read as far as it goes."""
    with open_run(
        uri=URI,
        experiment="tunetrail",
        artifact_dir="mlruns/artifacts",
        tags={"tunetrail.commit": "c" * 40},
    ) as run_log:
        run_log.data(
            {"num_threads": 4, "gpus": [{"name": "x"}], "deterministic": {"algorithms": True}},
            "environment/machine.json",
        )
        run_log.data(
            {
                "splits": {"train": {"sha256": "ab", "num_rows": 3}},
                "files": [{"name": "a.csv", "sha256": "cd", "num_bytes": 1}],
            },
            "reports/data.json",
        )
        run_log.data(
            {"patched": ["a.py"], "left_out": [{"path": "b.bin", "reason": "large"}]},
            "environment/code.json",
        )
        run_log.text("a==1\nb==2\n", "environment/requirements.txt")
        run_log.text(json.dumps([1]), "environment/seeds.json")
    record = load_record(run_log.run_id, uri=URI)
    assert (record.num_threads, record.num_gpus) == (4, 1)
    assert record.machine is not None
    assert record.machine["deterministic.algorithms"] is True
    assert record.splits == {"train": ("ab", 3)}
    assert record.files == {"a.csv": "cd"}
    assert record.code.left_out == ("b.bin",)
    assert record.packages == {"a": "1", "b": "2"}
    # not what it should be, or not there
    assert record.seeds is record.model is record.config is None
