"""The artifacts of a run, read back."""

import tempfile
from pathlib import Path

import pandas as pd
from mlflow.exceptions import MlflowException

from tunetrail.config.secrets import redact
from tunetrail.errors import InputError
from tunetrail.tracking.store import connect, find_outage, store_errors


def read_artifact(*, uri: str, run_id: str, path: str) -> str:
    """Read a text artifact of a run.

    Raises:
        InputError: the store cannot be used, or the run or the artifact is not there.

    """
    client = connect(uri)
    with store_errors(uri), tempfile.TemporaryDirectory() as folder:
        try:
            return Path(client.download_artifacts(run_id, path, folder)).read_text("utf-8")
        except (OSError, MlflowException) as error:
            if find_outage(error) is not None:
                raise
            raise InputError(f"run {run_id} has no artifact {path} in {redact(uri)}") from error


def read_table(*, uri: str, run_id: str, path: str) -> pd.DataFrame:
    """Read a Parquet artifact of a run.

    Raises:
        InputError: the store cannot be used, or the run or the artifact is not there.

    """
    client = connect(uri)
    with store_errors(uri), tempfile.TemporaryDirectory() as folder:
        try:
            return pd.read_parquet(client.download_artifacts(run_id, path, folder))
        except (OSError, MlflowException) as error:
            if find_outage(error) is not None:
                raise
            raise InputError(f"run {run_id} has no artifact {path} in {redact(uri)}") from error
