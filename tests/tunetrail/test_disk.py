"""A full disk ends a run in one line and leaves no half-written files: on a real small disk."""

import errno
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import LoggedModelStatus
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from tunetrail.errors import DiskFullError, InputError
from tunetrail.tracking.models import find_model
from tunetrail.tracking.store import connect
from tunetrail.training.checkpoints import find_checkpoint

Train = Callable[..., Any]
Small = Callable[[int], Path]


@pytest.fixture
def small(workspace: Path) -> Iterator[Small]:
    """Mount a file system of so many kB."""
    folder = workspace / "small"
    folder.mkdir()

    def mount(kilobytes: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, check=False).returncode != 0:
            pytest.skip("mounting a small file system needs root")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def failing(train: Train, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DiskFullError]:
    """Run until the disk is full; return the error itself, not the line that a person sees."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def run(*overrides: str) -> DiskFullError:
        with pytest.raises(DiskFullError) as caught:
            train("trainer.num_train_epochs=1", *overrides)
        assert isinstance(caught.value, OSError)
        assert caught.value.errno == errno.ENOSPC
        assert isinstance(caught.value, InputError)
        assert "\n" not in str(caught.value)
        return caught.value

    return run


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [100, 300])
def test_a_checkpoint_that_does_not_fit_leaves_nothing(
    small: Small, failing: Callable[..., DiskFullError], tiny: list[str], kilobytes: int
) -> None:
    """Neither half the weights, nor weights with half an optimizer."""
    folder = small(kilobytes)
    said = str(failing(*tiny, f"tracking.checkpoint_dir={folder}"))
    assert said.startswith("the disk is full: free space where tracking.checkpoint_dir")
    assert not list(folder.rglob("checkpoint-*"))


@pytest.mark.slow
def test_the_checkpoint_before_the_one_that_does_not_fit_stays(
    small: Small, failing: Callable[..., DiskFullError], tiny: list[str]
) -> None:
    folder = small(800)
    failing(*tiny, f"tracking.checkpoint_dir={folder}", "trainer.num_train_epochs=2")
    (run_folder,) = folder.iterdir()
    assert [path.name for path in run_folder.glob("checkpoint-*")] == ["checkpoint-8"]
    assert find_checkpoint(run_folder, run_id="r").name == "checkpoint-8"


@pytest.mark.slow
def test_a_model_that_does_not_fit_never_counts_as_one(
    small: Small, failing: Callable[..., DiskFullError], tiny: list[str], tiny_gpt2: Path
) -> None:
    """The run's numbers and its page of 5 MB fit, the model of 7 MB beside them does not."""
    config = GPT2Config.from_pretrained(tiny_gpt2, n_embd=256)
    GPT2LMHeadModel(config).save_pretrained("wide")
    AutoTokenizer.from_pretrained(tiny_gpt2).save_pretrained("wide")
    folder = small(10_000)
    failing(*tiny, "model.path=wide", f"tracking.artifact_dir={folder}")
    assert list(folder.rglob("learning_curves.html"))
    client = connect("sqlite:///mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tunetrail")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    assert run.data.tags["tunetrail.failure"].startswith("DiskFullError: the disk is full")
    assert find_model(client, run.info.run_id) is None
    models = client.search_logged_models([experiment.experiment_id])
    assert all(model.status != LoggedModelStatus.READY for model in models)


@pytest.mark.slow
def test_a_disk_that_fills_up_in_the_middle_is_the_same_error(
    small: Small, failing: Callable[..., DiskFullError], tiny: list[str]
) -> None:
    """The interactive page takes 5 MB."""
    folder = small(3_000)
    said = str(failing(*tiny, f"tracking.artifact_dir={folder}"))
    assert said.startswith("the disk is full: free space where tracking.checkpoint_dir")


def test_a_full_database_is_the_same_error(
    small: Small,
    failing: Callable[..., DiskFullError],
    tiny: list[str],
    workspace: Path,
    empty_store: Path,
) -> None:
    """SQLite has words of its own for it."""
    size = empty_store.stat().st_size
    folder = small(size // 1024 + 2_000)
    shutil.copy(empty_store, folder / "mlflow.db")
    free = shutil.disk_usage(folder).free
    (folder / "filler").write_bytes(b"0" * (free - 8192))
    said = str(failing(*tiny, f"tracking.uri=sqlite:///{folder}/mlflow.db"))
    assert said.startswith("the disk is full: free space where")
