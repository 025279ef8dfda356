"""Put right what killed processes left: tables, runs that stay RUNNING, temporary folders."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tunetrail.config.paths import locate
from tunetrail.config.project import ROOT
from tunetrail.config.scratch import clear
from tunetrail.config.untrusted import load_project
from tunetrail.errors import InputError
from tunetrail.runs.records import find_run
from tunetrail.tracking.processes import (
    Held,
    close_killed,
    find_held,
    list_running,
)
from tunetrail.tracking.store import connect_existing, repair_tables, store_errors


def repair(run_ids: Sequence[str], *, uri: str) -> Iterator[str]:
    """Repair a store, and yield a line for whatever was done or is left.

    Args:
        run_ids: runs to close although nothing is known of their processes.
        uri: of the store.

    Raises:
        InputError: it cannot be repaired, or one of the runs cannot be closed.

    """
    if (done := repair_tables(uri)) is not None:
        yield f"tables     {done}"
    client = connect_existing(uri)
    config = load_project(ROOT).config
    checkpoint_dir = locate(str(config["tracking"]["checkpoint_dir"]))
    with store_errors(uri):
        named = [find_run(client, run_id, uri=uri) for run_id in run_ids]
        for run in named:
            _require_closable(run, checkpoint_dir)
            close_killed(client, run, checkpoint_dir)
            yield f"closed     {_describe(run)}"
        yield from _close_others(client, checkpoint_dir)
    for folder in (Path(tempfile.gettempdir()), locate(str(config["cache_dir"]))):
        for deleted in clear(folder):
            yield f"deleted    {deleted}"
    yield "the store is in order"


def _require_closable(run: Run, checkpoint_dir: Path) -> None:
    run_id = run.info.run_id
    if run.info.status != "RUNNING":
        raise InputError(f"run {run_id} is {run.info.status}; only one that is RUNNING is closed")
    if find_held(run, checkpoint_dir) is Held.YES:
        raise InputError(f"run {run_id} is held by a process of this machine; stop that first")


def _close_others(client: MlflowClient, checkpoint_dir: Path) -> Iterator[str]:
    experiments = [found.experiment_id for found in client.search_experiments()]
    for run in list(list_running(client, experiments)):
        match find_held(run, checkpoint_dir):
            case Held.NO:
                if close_killed(client, run, checkpoint_dir):
                    yield f"closed     {_describe(run)}"
            case Held.YES:
                yield f"running    {_describe(run)}"
            case Held.UNKNOWN:
                yield (
                    f"unknown    {_describe(run)}: its process is not of this machine, or not "
                    "noted; if it is gone: tunetrail repair RUN_ID"
                )


def _describe(run: Run) -> str:
    return f"{run.info.run_id} ({run.info.run_name})"
