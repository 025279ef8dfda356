"""The one reader of a run's artifacts, local or on a server."""

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path

from tunetrail.config.paths import MOST_BYTES, read_regular
from tunetrail.config.scratch import scratch
from tunetrail.config.secrets import redact
from tunetrail.errors import InputError
from tunetrail.tracking.confinement import is_local, locate_run
from tunetrail.tracking.store import connect_existing, find_outage, look_up, store_errors


class Artifacts:
    """Reads the artifacts of a run.

    Others may write to a store, so nothing outside of the experiment's artifacts is read.

    Raises:
        InputError: the run's artifacts lie outside those of its experiment.

    """

    def __init__(self, client: MlflowClient, run: Run) -> None:
        self._client = client
        self._run_id: str = run.info.run_id
        self._uri = locate_run(client, run)

    def content(self, path: str, *, most: int = MOST_BYTES) -> bytes | None:
        """Read ``most`` bytes or fewer; None if the run has no such artifact.

        Raises:
            InputError: a link leads out of the store, or it is larger.

        """
        try:
            if is_local(self._uri):
                return self._read_local(path, most)
            with scratch() as folder:
                return read_regular(
                    Path(self._client.download_artifacts(self._run_id, path, str(folder))),
                    most=most,
                )
        except (OSError, MlflowException) as error:
            if find_outage(error) is not None:
                raise
            return None

    def _read_local(self, path: str, most: int) -> bytes:
        root = Path(local_file_uri_to_path(self._uri)).resolve()
        file = (root / path).resolve()
        if not file.is_relative_to(root):
            raise InputError(f"run {self._run_id}: {path} is a link out of the store; refused")
        return read_regular(file, most=most)

    def text(self, path: str) -> str | None:
        """Read a text; None if there is none, or it is not UTF-8."""
        content = self.content(path)
        try:
            return None if content is None else content.decode()
        except UnicodeDecodeError:
            return None

    def mapping(self, path: str) -> dict[str, Any] | None:
        """Read a JSON object; None if there is none."""
        try:
            content = json.loads(self.text(path) or "null")
        except (ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) else None


def read_artifact(*, uri: str, run_id: str, path: str) -> str:
    """Read a text artifact of a run.

    Raises:
        InputError: the store cannot be used, or has no such run or artifact.

    """
    return _require(uri, run_id, path).decode()


def read_table(*, uri: str, run_id: str, path: str) -> pd.DataFrame:
    """Read a Parquet artifact of a run.

    Raises:
        InputError: the store cannot be used, or has no such run or artifact.

    """
    return pd.read_parquet(io.BytesIO(_require(uri, run_id, path)))


def _require(uri: str, run_id: str, path: str) -> bytes:
    client = connect_existing(uri)
    with store_errors(uri):
        run = look_up(client.get_run, run_id)
        content = None if run is None else Artifacts(client, run).content(path)
    if content is None:
        raise InputError(f"run {run_id} has no artifact {path} in {redact(uri)}")
    return content
