"""Where the artifacts of a run or a model may lie: where MLflow itself puts them, and nowhere else.

Whoever can write to a store can let a run or a model name any folder of any machine, which is then
read, written to or deleted. MLflow puts the artifacts of a run into ``EXPERIMENT/RUN/artifacts``,
and a model into ``EXPERIMENT/models/MODEL/artifacts``. Only a folder with exactly this name is
used, and only if no link on the way leads elsewhere.
"""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow.entities import LoggedModel, Run, ViewType
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import append_to_uri_path

from tunetrail.config.secrets import redact
from tunetrail.errors import InputError

_RUN_ID = re.compile(r"[0-9a-f]{32}")
_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")
_ARTIFACTS = "artifacts"


def is_run_id(name: str) -> bool:
    return _RUN_ID.fullmatch(name) is not None


def require_run_id(name: object) -> str:
    """Return the id of a run, which becomes the name of a folder.

    Raises:
        InputError: it is none.

    """
    if not isinstance(name, str) or not is_run_id(name):
        raise InputError(f"run {str(name)[:80]!r}: the store names a run like no run; refused")
    return name


def is_local(uri: str) -> bool:
    """Whether artifacts are files of this machine."""
    return urlsplit(uri).scheme in ("", "file")


def locate_run(client: MlflowClient, run: Run) -> str:
    """Return where the artifacts of a run lie.

    Raises:
        InputError: not where MLflow puts them.

    """
    run_id = require_run_id(run.info.run_id)
    place = _place_of(client, run.info.experiment_id)
    uri = str(run.info.artifact_uri)
    return _require(uri, place, run_id, _ARTIFACTS, what=f"run {run_id}: its artifacts lie")


def locate_model(client: MlflowClient, model: LoggedModel) -> str:
    """Return where the files of a model lie.

    Raises:
        InputError: not where MLflow puts them.

    """
    model_id = str(model.model_id)
    what = f"model {model_id[:40]}: its files lie"
    if not _MODEL_ID.fullmatch(model_id):
        raise InputError(f"{what} under a name that is no id of a model; refused")
    place = _place_of(client, model.experiment_id)
    uri = str(model.artifact_location)
    return _require(uri, place, "models", model_id, _ARTIFACTS, what=what)


def require_in_store(client: MlflowClient, uri: str, *, source: str) -> str:
    """Check that a version of the registry lies among the artifacts of the store.

    Raises:
        InputError: it lies elsewhere.

    """
    for experiment in client.search_experiments(view_type=ViewType.ALL):
        place = str(experiment.artifact_location).rstrip("/")
        inside = uri.removeprefix(f"{place}/")
        kind, _, rest = inside.removeprefix("models/").partition("/")
        known = _MODEL_ID if inside.startswith("models/") else _RUN_ID
        parts = rest.split("/")
        if inside == uri or not known.fullmatch(kind) or parts[0] != _ARTIFACTS:
            continue
        return _require(uri, place, *inside.split("/"), what=f"{source}: its files lie")
    raise InputError(
        f"{source}: its files lie in {redact(uri)}, outside the artifacts of this store; refused: "
        "give that directory itself if you trust it"
    )


def _place_of(client: MlflowClient, experiment_id: str) -> str:
    return str(client.get_experiment(experiment_id).artifact_location)


def _require(uri: str, place: str, *names: str, what: str) -> str:
    expected = append_to_uri_path(place, *names)
    if uri != expected or ".." in unquote(uri).split("/"):
        raise InputError(f"{what} in {redact(uri)}, outside of {redact(expected)}; refused")
    if is_local(uri):
        folder = Path(local_file_uri_to_path(uri))
        beginning = folder.parents[len(names) - 1]
        if folder.resolve() != beginning.resolve().joinpath(*names):
            raise InputError(f"{what} in {folder}, which is a link to elsewhere; refused")
    return uri
