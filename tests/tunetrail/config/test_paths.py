"""A path is taken from where the command was given, and a file is known by more than its size."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from optuna.storages import RDBStorage

from tunetrail.commands.arguments import read_path
from tunetrail.config.paths import locate, stamp_files
from tunetrail.errors import InputError
from tunetrail.models.checkpoints import directory
from tunetrail.tracking.store import connect, connect_existing

Train = Callable[..., Any]


def test_a_file_is_the_same_only_if_nobody_has_written_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    os.utime(path, (10**9, 10**9))
    before = stamp_files([path])
    assert stamp_files([path]) == before
    path.write_text("new")
    os.utime(path, (10**9, 10**9))
    written = stamp_files([path])
    assert before != written
    (tmp_path / "b").write_text("odd")
    os.utime(tmp_path / "b", (10**9, 10**9))
    (tmp_path / "b").replace(path)
    assert stamp_files([path]) != written


def test_a_tilde_is_the_home_folder(
    tiny_gpt2: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tiny_gpt2.parent))
    assert directory(path=f"~/{tiny_gpt2.name}").path == str(tiny_gpt2)
    monkeypatch.setenv("HOME", str(workspace))
    assert locate("~/x") == workspace / "x"
    assert connect_existing("sqlite:///~/mlruns/mlflow.db").search_experiments()
    assert read_path("~/x") == workspace / "x"
    assert not Path("~").exists()
    # names that begin so, and no people
    assert [str(locate(name)) for name in ("~$a.csv", "~no-one/x")] == ["~$a.csv", "~no-one/x"]


@pytest.mark.parametrize("name", ["what?", "per%20cent"])
def test_a_store_that_would_land_elsewhere_is_refused(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (workspace / name).mkdir()
    monkeypatch.chdir(workspace / name)
    for uri in ("sqlite:///mlflow.db", f"sqlite:///{workspace / name / 'mlflow.db'}"):
        with pytest.raises(InputError, match=r"^tracking\.uri=.*has \? or % in its name"):
            connect(uri)
    assert [*workspace.joinpath(name).iterdir()] == []


@pytest.mark.slow
def test_jobs_that_work_in_folders_of_their_own_use_one_store(
    run_train: Any, tiny: list[str], workspace: Path
) -> None:
    model = os.path.relpath(tiny[4].partition("=")[2], workspace)
    done = run_train(
        "-m", *tiny[:4], f"model.path={model}", *tiny[5:], "study=moved",
        "hydra.job.chdir=true", "sweep.num_trials=1", "sweep.final_seeds=0",
        "trainer.num_train_epochs=1", "trainer.learning_rate=choice(1e-3,3e-3)",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'tunetrail'")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.tags.get("tunetrail.state", "parent") for run in runs) == [
        "COMPLETE", "parent",
    ]  # fmt: skip
    assert len(RDBStorage(f"sqlite:///{workspace}/mlruns/optuna.db").get_all_studies()) == 1
    assert [path.parent for path in workspace.rglob("*.db")] == [workspace / "mlruns"] * 2
