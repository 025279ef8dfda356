"""Earlier runs as starting points: their models as checkpoints, and chains of them."""

import contextlib
import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tunetrail.config.paths import locate
from tunetrail.errors import InputError, OutageError, first_line
from tunetrail.models.cache import make_once
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.tracking.places import (
    Place,
    fetch,
    find_files,
    find_in_run,
    find_place,
    find_run,
)
from tunetrail.tracking.processes import Held, find_held
from tunetrail.tracking.run_ids import complete_run_id
from tunetrail.tracking.store import connect_existing, look_up, store_errors

# Tag of a run that started from the model of an earlier run: the id of that run.
INITIALIZED_FROM = "tunetrail.initialized_from"
# What a person sets, for errors.
_KEY = "model.run_id"


def load_run(*, run_id: str, tracking_uri: str, cache_dir: str) -> Checkpoint:
    """Find the model that an earlier run has logged.

    Files on this machine are read where they are. Those of a server are downloaded once, into
    ``cache_dir``.

    Args:
        run_id: of the run, or a name of the registry with alias or version.
        tracking_uri: of the store.
        cache_dir: for downloads.

    Raises:
        InputError: there is no such run, it did not finish, or its model is not there.
        OutageError: the store's server does not answer.

    """
    with _named(run_id, tracking_uri):
        run, place = _find(run_id, tracking_uri)
        folder = fetch(place, Path()) if place.is_local else _download(place, locate(cache_dir))
        model_dir, tokenizer_dir = find_files(folder, source=place.source)
    return Checkpoint(
        path=str(model_dir),
        tokenizer_path=str(tokenizer_dir),
        origin=f"run {run.info.run_id} ({run.info.run_name})",
        run_id=run.info.run_id,
    )


def resolve_run(name: str, *, uri: str) -> str:
    """Return the id of the run that a name of the registry stands for now; an id as it is.

    Raises:
        InputError: as :func:`load_run` does, except for files that are missing.
        OutageError: the store's server does not answer.

    """
    with _named(name, uri):
        run, _ = _find(name, uri)
    return str(run.info.run_id)


def list_ancestors(client: MlflowClient, run: Run) -> Iterator[Run | str]:
    """Yield the run that a run started from, and so on; the last one that is missing as its id.

    Raises:
        InputError: the chain leads in a circle.

    """
    seen = [run.info.run_id]
    while (name := run.data.tags.get(INITIALIZED_FROM)) is not None:
        if name in seen:
            circle = " -> ".join(run_id[:8] for run_id in [*seen[seen.index(name) :], name])
            raise InputError(
                f"the runs that it started from lead in a circle ({circle}); one of their tags "
                f"{INITIALIZED_FROM} was changed: correct or delete it"
            )
        seen.append(name)
        found = look_up(client.get_run, name)
        if found is None:
            yield name
            return
        run = found
        yield run


def _find(name: object, uri: str) -> tuple[Run, Place]:
    if not isinstance(name, str):
        raise InputError("it must be a text; put it in quotes")
    client = connect_existing(uri)
    run_id = complete_run_id(client, name) or _run_of_version(client, name, uri)
    run = find_run(client, run_id, uri=uri)
    _require_finished(run)
    for _ in list_ancestors(client, run):
        pass
    return run, find_in_run(client, run)


def _run_of_version(client: MlflowClient, name: str, uri: str) -> str:
    place = find_place(client, name, uri=uri)
    run = None if place.run_id is None else look_up(client.get_run, place.run_id)
    if run is None:
        raise InputError(
            f"{place.source} came out of no run of this store; write it to a directory with "
            "`tunetrail export`, and use model=directory model.path=PATH"
        )
    if find_in_run(client, run).location != place.location:
        raise InputError(
            f"{place.source} is not the model that its run {place.run_id} logged last; write it "
            "to a directory with `tunetrail export`, and use model=directory model.path=PATH"
        )
    return str(place.run_id)


def _require_finished(run: Run) -> None:
    run_id, status = run.info.run_id, run.info.status
    if status == "RUNNING":
        if find_held(run, None) is Held.NO:
            raise InputError(
                "the run is RUNNING, but its process was killed; continue it with "
                f"resume={run_id}, or give another"
            )
        raise InputError("the run is still RUNNING; wait for its end, or give another")
    if status != "FINISHED":
        cause = run.data.tags.get("tunetrail.failure")
        why = f" ({first_line(cause)})" if cause else ""
        raise InputError(
            f"the run is {status}{why} and has no model to start from; give a run that is "
            "FINISHED, or train it again"
        )


def _download(place: Place, cache_dir: Path) -> Path:
    digest = hashlib.sha256(place.location.encode()).hexdigest()[:12]
    folder = cache_dir / f"run-{place.run_id}-{digest}"
    make_once(folder, partial(fetch, place))
    return folder / "model"


@contextlib.contextmanager
def _named(name: object, uri: str) -> Iterator[None]:
    """Name the key and its value in errors."""
    try:
        with store_errors(uri):
            yield
    except OutageError:
        raise
    except InputError as error:
        raise type(error)(f"{_KEY}={name}: {error}") from error
