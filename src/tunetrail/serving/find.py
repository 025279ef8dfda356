"""Find a saved model by a registry name, a run or a directory."""

import contextlib
import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml  # type: ignore[import-untyped] # PyYAML ships no types
from mlflow.entities import LoggedModelStatus, Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path

from tunetrail.config.secrets import redact
from tunetrail.errors import InputError
from tunetrail.tracking.artifacts import Artifacts
from tunetrail.tracking.store import connect_existing, look_up, store_errors

_RUN_ID = re.compile(r"[0-9a-f]{32}")
_CHAMPION = "champion"
# A tokenizer without a limit gives a number far above this.
_MOST_TOKENS = 10_000_000
_NUM_LISTED = 10


@dataclass(frozen=True)
class SavedModel:
    """A model in files: weights with their config, and a tokenizer.

    ``model_dir`` and ``tokenizer_dir`` may be the same. ``pipeline_tag`` is the hub's word for what
    the model does. ``max_length`` is how many tokens of a text it was trained to read. ``card`` is
    the text of its model card, if any.
    """

    model_dir: Path
    tokenizer_dir: Path
    pipeline_tag: str
    max_length: int
    source: str
    card: str | None


@contextlib.contextmanager
def open_model(name: str, *, uri: str) -> Iterator[SavedModel]:
    """Find a model. Files that a server sends are deleted when the block ends.

    Args:
        name: a directory, else the id of a run, else a name of the registry with alias or version:
            ``NAME@champion`` or ``NAME/3``, also after ``models:/``. ``NAME`` is its champion.

    Raises:
        InputError: there is no such model, or its files are not complete and in safetensors.
        OutageError: the store's server does not answer.

    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        yield _inspect(folder, source=str(folder), run_card=None)
        return
    if folder.exists():
        raise InputError(f"model {name}: that is a file; give the directory that it is in")
    try:
        client = connect_existing(uri)
    except InputError as error:
        raise type(error)(f"model {name} is no directory here, and {error}") from error
    with store_errors(uri):
        find = _find_in_run if _RUN_ID.fullmatch(name) else _find_in_registry
        place = find(client, name, redact(uri))
    with tempfile.TemporaryDirectory(prefix="tunetrail-model-") as scratch:
        with store_errors(uri):
            folder = _fetch(place, Path(scratch))
            card = _read_run_card(client, place.run_id)
        yield _inspect(folder, source=place.source, run_card=card)


@dataclass(frozen=True)
class _Place:
    """Where a store holds a model, and the run it came out of."""

    location: str
    run_id: str | None
    source: str


def _find_in_run(client: MlflowClient, run_id: str, uri: str) -> _Place:
    run = look_up(client.get_run, run_id)
    if run is None:
        raise InputError(f"run {run_id} is not in {uri}; give its store with --uri")
    outputs = run.outputs.model_outputs if run.outputs else []
    for output in sorted(outputs, key=lambda output: output.step, reverse=True):
        logged = look_up(client.get_logged_model, output.model_id)
        if logged is not None and logged.status == LoggedModelStatus.READY:
            return _Place(logged.artifact_location, run_id, f"run {run_id}")
    raise InputError(f"run {run_id} holds no weights: {_why_no_weights(client, run)}")


def _why_no_weights(client: MlflowClient, run: Run) -> str:
    tags = run.data.tags
    study = tags.get("tunetrail.study")
    if study is None:
        state = "it did not finish" if run.info.status != "FINISHED" else "tracking.log_model=false"
        return f"{state}; train again with tracking.log_model=true"
    parent = tags.get("mlflow.parentRunId")
    best = (client.get_run(parent).data.tags if parent else tags).get("tunetrail.best_run")
    what = f"trial {tags['tunetrail.trial']}" if "tunetrail.trial" in tags else "the parent run"
    advice = f"the best run is {best}" if best and best != "None" else "it has no best run yet"
    return (
        f"it is {what} of study {study}, which keeps those of its sweep.keep_best trials; {advice}"
    )


def _find_in_registry(client: MlflowClient, name: str, uri: str) -> _Place:
    match = re.fullmatch(r"(?:models:/)?([^@]+?)(?:@([^@/]+)|/(\d+))?", name)
    if match is None:
        raise InputError(
            f"model {name}: no such directory; give one, a run id, NAME@ALIAS or NAME/VERSION"
        )
    registered, alias, version = match.groups()
    found = look_up(client.get_registered_model, registered)
    if found is None:
        raise InputError(
            f"model {name}: no such directory, nor a registered model {registered!r} in {uri} "
            f"({_list_names(client)})"
        )
    if version is None:
        alias = alias or _CHAMPION
        version = found.aliases.get(alias)
        if version is None:
            raise InputError(
                f"model {name}: {registered} has no {alias} ({_list_versions(client, registered)})"
            )
    chosen = look_up(client.get_model_version, registered, str(version))
    if chosen is None:
        raise InputError(
            f"model {name}: {registered} has no version {version} "
            f"({_list_versions(client, registered)})"
        )
    source = f"{registered} version {version}" + (f" ({alias})" if alias else "")
    location = client.get_model_version_download_uri(registered, str(version))
    return _Place(location, chosen.run_id or None, source)


def _list_names(client: MlflowClient) -> str:
    names = [found.name for found in client.search_registered_models(max_results=_NUM_LISTED)]
    return f"registered: {', '.join(names)}" if names else "nothing is registered there"


def _list_versions(client: MlflowClient, name: str) -> str:
    aliases = client.get_registered_model(name).aliases
    # A registry's own names may hold a quote; its search takes no other sign for one.
    quoted = name.replace("'", "''")
    page = client.search_model_versions(
        f"name='{quoted}'", max_results=_NUM_LISTED, order_by=["version_number DESC"]
    )
    versions = ", ".join(str(found.version) for found in page) or "none"
    said = ", ".join(f"{alias}={version}" for alias, version in aliases.items()) or "none"
    return f"aliases: {said}; versions: {versions}"


def _fetch(place: _Place, scratch: Path) -> Path:
    """Return the folder itself where it lies on this machine, else a copy in ``scratch``.

    Raises:
        InputError: its files are gone.

    """
    gone = (
        f"{place.source}: its weights were removed; a study keeps those of its sweep.keep_best "
        "trials"
    )
    if urlsplit(place.location).scheme in ("", "file"):
        folder = Path(local_file_uri_to_path(place.location))
        if not folder.is_dir():
            raise InputError(gone)
        return folder
    copy = scratch / "model"
    copy.mkdir()
    repository = get_artifact_repository(place.location)
    if not repository.list_artifacts():
        raise InputError(gone)
    return Path(repository.download_artifacts("", str(copy)))


def _read_run_card(client: MlflowClient, run_id: str | None) -> str | None:
    """Read what the run says about its model, as the winner of a study has it."""
    # The run may have been deleted, and the model not.
    run = None if run_id is None else look_up(client.get_run, run_id)
    return None if run is None else Artifacts(client, run).text("model_card.md")


def _inspect(folder: Path, *, source: str, run_card: str | None) -> SavedModel:
    """Look into a folder as MLflow, ``save_pretrained`` or ``tunetrail export`` writes it.

    Raises:
        InputError: something is missing, or it is unknown what the model does.

    """
    model_dir, tokenizer_dir, trained_length = folder, folder, _MOST_TOKENS
    card, pipeline_tag = folder / "README.md", None
    if (folder / "MLmodel").is_file():
        # As MLflow names them. A path in MLmodel could lead anywhere.
        model_dir, tokenizer_dir = folder / "model", folder / "components" / "tokenizer"
        pipeline_tag, trained_length = _read_description(folder / "MLmodel", source)
        card = folder / "model_card.md"
    config = _read_json(model_dir / "config.json", source, "write it with save_pretrained")
    if not any(model_dir.glob("*.safetensors")):
        raise InputError(
            f"{source}: no *.safetensors in {model_dir}, and nothing else is read because "
            "pickle files run code; save the model with save_pretrained"
        )
    if not any((tokenizer_dir / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise InputError(
            f"{source}: no tokenizer in {tokenizer_dir}; save the model's own there with "
            "tokenizer.save_pretrained"
        )
    settings = _read_json(
        tokenizer_dir / "tokenizer_config.json", source, "save it with tokenizer.save_pretrained"
    )
    max_length = min(trained_length, _whole(settings.get("model_max_length")))
    if max_length >= _MOST_TOKENS:
        raise InputError(
            f"{source}: nothing says how many tokens the model reads; set model_max_length in "
            f"{tokenizer_dir / 'tokenizer_config.json'}"
        )
    return SavedModel(
        model_dir=model_dir,
        tokenizer_dir=tokenizer_dir,
        pipeline_tag=pipeline_tag or _find_tag(config, source),
        max_length=max_length,
        source=source,
        card=run_card or (card.read_text("utf-8") if card.is_file() else None),
    )


def _read_json(path: Path, source: str, remedy: str) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{source}: no {path.name} in {path.parent}; {remedy}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{source}: {path} cannot be read ({error}); {remedy}") from error
    if not isinstance(values, dict):
        raise InputError(f"{source}: {path} holds no JSON object; {remedy}")
    return values


def _read_description(path: Path, source: str) -> tuple[str, int]:
    """Return what MLflow's description says: the pipeline tag, and how long the texts were."""
    try:
        flavors = yaml.safe_load(path.read_text("utf-8"))["flavors"]
        max_length = flavors["python_function"].get("config", {}).get("max_length")
        return str(flavors["transformers"]["task"]), _whole(max_length)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise InputError(f"{source}: {path} is no description of a model of MLflow") from error


def _whole(value: object) -> int:
    """Return a length; anything else means that there is no limit."""
    return value if isinstance(value, int) and 0 < value < _MOST_TOKENS else _MOST_TOKENS


def _find_tag(config: dict[str, Any], source: str) -> str:
    """Find what a model does by its architecture, as transformers does for a model card."""
    from transformers.modelcard import TASK_MAPPING

    architecture = str((config.get("architectures") or ["no architecture"])[0])
    known: dict[str, Any] = TASK_MAPPING
    for tag, architectures in known.items():
        if architecture in architectures.values():
            return tag
    raise InputError(
        f"{source}: its config.json names {architecture}, which is no model of transformers for a "
        "task; train one with train.py"
    )
