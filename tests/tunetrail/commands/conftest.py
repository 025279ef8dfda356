"""A store with one trained model, for the commands that take one."""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from toys import Store, fill_workspace, run_here, tiny_overrides

from tunetrail.__main__ import main
from tunetrail.tracking.store import connect


@pytest.fixture(scope="package")
def store(
    tmp_path_factory: pytest.TempPathFactory, empty_store: Path, tiny_gpt2: Path
) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("store")
    fill_workspace(folder, empty_store)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_here(patch, *tiny_overrides(tiny_gpt2))
        client = connect("sqlite:///mlruns/mlflow.db")
        (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
        (output,) = run.outputs.model_outputs
        client.create_registered_model("tiny")
        client.create_model_version("tiny", f"models:/{output.model_id}", run_id=run.info.run_id)
        client.set_registered_model_alias("tiny", "champion", "1")
        assert main(["export", "tiny", "exported"]) == 0
        yield Store(folder, run.info.run_id, folder / "exported")


@pytest.fixture
def here(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    """The store, from a folder of the test's own."""
    (tmp_path / "mlruns").symlink_to(store.folder / "mlruns")
    monkeypatch.chdir(tmp_path)
    return store
