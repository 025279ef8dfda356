"""A disk that fills up is noticed before half a file is written, on a real small file system."""

import errno
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.tracking import MlflowClient

from tunetrail.disk import optimizer_size, require_space, weights_size
from tunetrail.errors import DiskFullError, InputError

Train = Callable[..., Any]
Small = Callable[[int], Path]


@pytest.fixture
def small(workspace: Path) -> Iterator[Small]:
    """Mount a file system of so many MB."""
    folder = workspace / "small"
    folder.mkdir()

    def mount(megabytes: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
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
            train(*overrides, "trainer.num_train_epochs=1")
        assert isinstance(caught.value, OSError)
        assert caught.value.errno == errno.ENOSPC
        assert isinstance(caught.value, InputError)
        assert "\n" not in str(caught.value)
        return caught.value

    return run


def files_of(folder: Path, pattern: str) -> list[Path]:
    return [path for path in folder.rglob(pattern) if path.is_file()]


@pytest.mark.slow
def test_a_checkpoint_that_does_not_fit_is_not_begun(
    small: Small, failing: Callable[..., DiskFullError], tiny: list[str]
) -> None:
    folder = small(2)
    said = str(failing(*tiny, f"tracking.checkpoint_dir={folder}"))
    assert said.startswith("the disk is full: a checkpoint needs 17.")
    assert "2.1 MB are free" in said
    assert f"in {folder}" in said
    assert "set tracking.checkpoint_dir to another disk" in said
    assert not files_of(folder, "*")


@pytest.mark.slow
def test_a_model_that_does_not_fit_is_not_begun(
    small: Small, failing: Callable[..., DiskFullError], tiny: list[str], workspace: Path
) -> None:
    folder = small(12)
    said = str(failing(*tiny, f"tracking.artifact_dir={folder}"))
    assert said.startswith("the disk is full: the model needs 16.9 MB")
    assert "set tracking.artifact_dir to another disk" in said
    # the run's numbers and figures are there, and no model
    assert files_of(folder, "learning_curves.html")
    assert not files_of(folder, "*.safetensors")
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tunetrail")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    assert run.data.tags["tunetrail.failure"].startswith("DiskFullError: the disk is full")


@pytest.mark.slow
def test_a_disk_that_fills_up_in_the_middle_is_the_same_error(
    small: Small, failing: Callable[..., DiskFullError], tiny: list[str]
) -> None:
    """The interactive page, which nothing asks for space beforehand, takes 5 MB."""
    folder = small(3)
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
    folder = small(size // 2**20 + 2)
    shutil.copy(empty_store, folder / "mlflow.db")
    free = shutil.disk_usage(folder).free
    (folder / "filler").write_bytes(b"0" * (free - 8192))
    said = str(failing(*tiny, f"tracking.uri=sqlite:///{folder}/mlflow.db"))
    assert said.startswith("the disk is full: free space where")


def test_tied_weights_count_once_and_an_optimizer_by_its_states() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(10, 10, bias=False), torch.nn.Linear(10, 10))
    assert weights_size(model) == 4 * (100 + 100 + 10)
    model[0].weight = model[1].weight
    assert weights_size(model) == 4 * (100 + 10)
    optimizer = torch.optim.AdamW(model.parameters())
    assert optimizer_size(optimizer) == 0
    model(torch.ones(1, 10)).sum().backward()
    optimizer.step()
    # two moments of each weight, and a step for each of the two tensors
    assert optimizer_size(optimizer) == 2 * 4 * (100 + 10) + 2 * 4


def test_what_fits_is_let_through_and_a_folder_need_not_be_there_yet(tmp_path: Path) -> None:
    require_space(1, tmp_path / "not" / "yet", what="it", key="here")
    with pytest.raises(DiskFullError, match=r"needs .* GB and .* are free in"):
        require_space(10**18, tmp_path, what="it", key="here")
