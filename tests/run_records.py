"""The runs in the store of a workspace, and their files."""

from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient


def client_of(workspace: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")


def all_runs(workspace: Path, filter_string: str = "") -> list[Any]:
    client = client_of(workspace)
    experiment = client.get_experiment_by_name("tunetrail")
    return list(client.search_runs([experiment.experiment_id], filter_string))


def only_run(workspace: Path) -> Any:
    (run,) = all_runs(workspace)
    return run


def artifact(run: Any, path: str) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://")) / path
