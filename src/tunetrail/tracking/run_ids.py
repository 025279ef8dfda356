"""Runs found by the first digits of their ids, in all experiments of a store."""

import re

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tunetrail.errors import InputError
from tunetrail.tracking.confinement import is_run_id

_ID_PREFIX = re.compile(r"[0-9a-f]{8,31}")


def complete_run_id(client: MlflowClient, name: str) -> str | None:
    """Return the whole id of a run that is named by its first 8 digits or more.

    Any other name, and digits that no run begins with, give None; a whole id is returned as it is.

    Raises:
        InputError: several runs begin with these digits.

    """
    if is_run_id(name):
        return name
    if not _ID_PREFIX.fullmatch(name):
        return None
    found = search_runs(client, f"attributes.run_id LIKE '{name}%'")
    if len(found) > 1:
        ids = ", ".join(sorted(run.info.run_id for run in found))
        raise InputError(
            f"run {name}: several runs begin with these digits ({ids}); give more of them"
        )
    return str(found[0].info.run_id) if found else None


def search_runs(client: MlflowClient, condition: str) -> list[Run]:
    """Search all experiments; 10 runs at most."""
    experiments = [found.experiment_id for found in client.search_experiments()]
    return list(client.search_runs(experiments, condition, max_results=10))
