"""Runs read back from the store as plain values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tunetrail.config.record import flatten, flatten_params
from tunetrail.config.secrets import redact
from tunetrail.config.store_key import store_key
from tunetrail.config.untrusted import parse_config
from tunetrail.errors import InputError
from tunetrail.tracking.artifacts import Artifacts
from tunetrail.tracking.confinement import require_run_id
from tunetrail.tracking.recorded_files import read_files
from tunetrail.tracking.run_ids import complete_run_id, search_runs
from tunetrail.tracking.store import connect_existing, look_up, require_active, store_errors
from tunetrail.tracking.tags import STATE

# Times and machines differ from run to run, means over seeds are the study's, not the run's, and
# the size of the model is no result.
_NOT_REPEATED = ("speed/", "seeds/", "model/", "system/")
# No machine has more; somebody else may have written the number.
_MOST_THREADS = 4096
_ID = re.compile(r"[0-9a-f]{8,32}")

History = Mapping[int, float]


@dataclass(frozen=True)
class RecordedCode:
    """The code of a run: a commit, and a ``patch`` with changes to it for ``git apply``."""

    commit: str | None
    patch: bytes
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class RunRecord:
    """A recorded run. What it did not record, or what cannot be read, is None.

    Attributes:
        config_text: ``config.yaml``, untrusted.
        config: its params, interpolations unresolved.
        packages: name of a distribution -> version.
        machine: flat, with dots between keys.
        splits: split -> SHA-256 and number of rows.
        files: name of a source file -> SHA-256.
        metrics: name -> step -> value, without times.

    """

    run_id: str
    name: str
    status: str
    tags: Mapping[str, str]
    config_text: str | None
    config: Mapping[str, Any] | None
    code: RecordedCode
    packages: Mapping[str, str] | None
    machine: Mapping[str, Any] | None
    seeds: Mapping[str, Any] | None
    splits: Mapping[str, tuple[str, int]] | None
    files: Mapping[str, str] | None
    model: Mapping[str, Any] | None
    metrics: Mapping[str, History]

    @property
    def num_threads(self) -> int | None:
        """Number of threads it computed with."""
        number = (self.machine or {}).get("num_threads")
        return number if isinstance(number, int) and 0 < number <= _MOST_THREADS else None

    @property
    def num_gpus(self) -> int | None:
        """Number of GPUs it saw."""
        gpus = (self.machine or {}).get("gpus")
        return len(gpus) if isinstance(gpus, list) else None

    @property
    def has_ended_early(self) -> bool:
        """Whether it was pruned, failed or was stopped: a rerun may be longer."""
        return self.status != "FINISHED" or self.tags.get(STATE) == "PRUNED"


def load_record(run_id: str, *, uri: str) -> RunRecord:
    """Read a run.

    Args:
        run_id: its id, or the first 8 digits or more if no other run begins with them.

    Raises:
        InputError: there is no such run, it was deleted, or its artifacts are outside of those of
            its experiment.

    """
    client = connect_existing(uri)
    with store_errors(uri):
        run = find_run(client, run_id, uri=uri)
        return _read(client, run, Artifacts(client, run))


def find_by_name(name: str, *, uri: str) -> str | None:
    """Find the id of the run that is called ``name``, in any experiment."""
    client = connect_existing(uri)
    with store_errors(uri):
        found = search_runs(client, f"attributes.run_name = '{name}'")
    return None if not found else require_run_id(found[0].info.run_id)


def find_run(client: MlflowClient, asked: str, *, uri: str) -> Run:
    """Look a run up by its id, or the first 8 digits or more.

    Raises:
        InputError: there is no such run, or it was deleted.

    """
    if not _ID.fullmatch(asked):
        raise InputError(
            f"run {asked}: is no id of a run; give its 32 digits from 0 to f, or the first 8"
        )
    run_id = complete_run_id(client, asked)
    run = None if run_id is None else look_up(client.get_run, run_id)
    if run is None:
        raise InputError(f"run {asked} is not in {redact(uri)}; give its store with {store_key()}")
    require_active(client, run)
    return run


def _read(client: MlflowClient, run: Run, artifacts: Artifacts) -> RunRecord:
    config_text = artifacts.text("config.yaml")
    machine = artifacts.mapping("environment/machine.json")
    data = artifacts.mapping("reports/data.json")
    return RunRecord(
        run_id=run.info.run_id,
        name=str(run.info.run_name),
        status=run.info.status,
        tags=run.data.tags,
        config_text=config_text,
        config=_read_config(config_text),
        code=_read_code(run, artifacts),
        packages=_read_packages(artifacts.text("environment/requirements.txt")),
        machine=None if machine is None else flatten(machine),
        seeds=artifacts.mapping("environment/seeds.json"),
        splits=None if data is None else _read_splits(data),
        files=None if data is None else read_files(data),
        model=artifacts.mapping("environment/model.json"),
        metrics={
            name: _read_history(client, run.info.run_id, name)
            for name in sorted(run.data.metrics)
            if not name.startswith(_NOT_REPEATED)
        },
    )


def _read_history(client: MlflowClient, run_id: str, name: str) -> dict[int, float]:
    # The history is in the order of logging. A resumed run has logged the steps after its last
    # checkpoint twice: the later value counts.
    return {metric.step: metric.value for metric in client.get_metric_history(run_id, name)}


def _read_config(text: str | None) -> dict[str, Any] | None:
    try:
        return None if text is None else flatten_params(parse_config(text))
    except InputError:
        return None


def _read_code(run: Run, artifacts: Artifacts) -> RecordedCode:
    code = artifacts.mapping("environment/code.json") or {}
    left_out = code.get("left_out")
    return RecordedCode(
        commit=run.data.tags.get("tunetrail.commit"),
        patch=artifacts.content("environment/diff.patch") or b"",
        left_out=tuple(
            str(entry.get("path"))
            for entry in (left_out if isinstance(left_out, list) else [])
            if isinstance(entry, dict)
        ),
    )


def _read_packages(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    lines = (line.partition("==") for line in text.splitlines())
    return {name: version for name, equals, version in lines if equals}


def _read_splits(data: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    splits = data.get("splits", data)
    return {
        name: (str(split["sha256"]), split["num_rows"])
        for name, split in (splits.items() if isinstance(splits, dict) else ())
        if isinstance(split, dict) and "sha256" in split and isinstance(split.get("num_rows"), int)
    }
