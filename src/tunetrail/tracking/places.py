"""Where a store holds a trained model: found by a run or a name of the registry, and its files.

Others may write to a store. So paths inside a model are those that MLflow always uses, and only
safetensors count as weights: pickle files run code.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import LoggedModel, Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunetrail import served
from tunetrail.config.secrets import redact
from tunetrail.config.store_key import store_key
from tunetrail.errors import InputError, one_line
from tunetrail.served.base import ServedModel, load_model, load_tokenizer
from tunetrail.tracking.confinement import (
    is_local,
    locate_model,
    require_in_store,
)
from tunetrail.tracking.model_files import require_harmless
from tunetrail.tracking.models import find_complete
from tunetrail.tracking.registry import CHAMPION
from tunetrail.tracking.run_ids import complete_run_id
from tunetrail.tracking.store import look_up, require_active
from tunetrail.tracking.tags import BEST_RUN, PARENT, STUDY, TRIAL

_NUM_LISTED = 10


@dataclass(frozen=True)
class Place:
    """Where a store holds a model.

    ``source`` names it for a person. ``run_id`` is the run it came out of, if that is known.
    """

    location: str
    run_id: str | None
    source: str

    @property
    def is_local(self) -> bool:
        """Whether its files are on this machine."""
        return is_local(self.location)


def find_place(client: MlflowClient, name: str, *, uri: str) -> Place:
    """Find a model by the id of its run, or by ``NAME@ALIAS`` or ``NAME/VERSION``.

    The first 8 digits of an id or more are enough. ``NAME`` alone is its champion; ``models:/`` may
    stand before it.

    Args:
        client: of the store.
        name: as above.
        uri: of the store, for errors.

    Raises:
        InputError: there is no such model.

    """
    if (run_id := complete_run_id(client, name)) is not None:
        return find_in_run(client, find_run(client, run_id, uri=uri))
    return _find_in_registry(client, name, uri)


def find_run(client: MlflowClient, run_id: str, *, uri: str) -> Run:
    """Look a run up.

    Raises:
        InputError: the store has no such run, or it was deleted.

    """
    run = look_up(client.get_run, run_id)
    if run is None:
        raise InputError(f"run {run_id} is not in {redact(uri)}; give its store with {store_key()}")
    require_active(client, run)
    return run


def find_in_run(client: MlflowClient, run: Run) -> Place:
    """Find the last complete model that a run has logged.

    Raises:
        InputError: it has none, or no longer.

    """
    run_id = run.info.run_id
    if (model := find_complete(client, run)) is not None:
        return Place(locate_model(client, model), run_id, f"run {run_id}")
    was_logged = bool(run.outputs and run.outputs.model_outputs)
    why = _why_no_weights(client, run, was_logged=was_logged)
    raise InputError(f"run {run_id} holds no weights: {why}")


def _why_no_weights(client: MlflowClient, run: Run, *, was_logged: bool) -> str:
    tags, run_id = run.data.tags, run.info.run_id
    again = f"`tunetrail rerun {run_id} tracking.log_model=true`"
    study = tags.get(STUDY)
    if study is not None:
        parent = tags.get(PARENT)
        best = (client.get_run(parent).data.tags if parent else tags).get(BEST_RUN)
        is_trial = TRIAL in tags
        what = f"trial {tags[TRIAL]}" if is_trial else "the parent run"
        advice = f"the best run is {best}" if best and best != "None" else "it has no best run yet"
        advice += f", and {again} makes these again" if is_trial else ""
        return (
            f"it is {what} of study {study}, which keeps those of its sweep.keep_best trials; "
            f"{advice}"
        )
    if was_logged:
        return f"its model was deleted; {again} makes it again"
    if run.info.status != "FINISHED":
        return "it did not finish; train again with tracking.log_model=true"
    return f"tracking.log_model=false; {again} makes them"


def _find_in_registry(client: MlflowClient, name: str, uri: str) -> Place:
    match = re.fullmatch(r"(?:models:/)?([^@]+?)(?:@([^@/]+)|/(\d+))?", name)
    if match is None:
        raise InputError(
            "no name of a registered model either; give a run id, NAME@ALIAS or NAME/VERSION"
        )
    registered, alias, version = match.groups()
    found = look_up(client.get_registered_model, registered)
    if found is None:
        raise InputError(
            f"there is no registered model {registered!r} in {redact(uri)} ({_list_names(client)})"
        )
    if version is None:
        alias = alias or CHAMPION
        version = found.aliases.get(alias)
        if version is None:
            raise InputError(f"{registered} has no {alias} ({_list_versions(client, registered)})")
    chosen = look_up(client.get_model_version, registered, str(version))
    if chosen is None:
        raise InputError(
            f"{registered} has no version {version} ({_list_versions(client, registered)})"
        )
    source = f"{registered} version {version}" + (f" ({alias})" if alias else "")
    location = client.get_model_version_download_uri(registered, str(version))
    require_in_store(client, location, source=source)
    return Place(location, chosen.run_id or None, source)


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


def fetch(place: Place, scratch: Path) -> Path:
    """Return the folder of a model where it lies on this machine, else a copy in ``scratch``.

    Raises:
        InputError: its files are gone.

    """
    gone = (
        f"{place.source}: its weights were removed; a study keeps those of its sweep.keep_best "
        "trials"
    )
    if place.is_local:
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


def find_files(folder: Path, *, source: str, is_typed: bool = False) -> tuple[Path, Path]:
    """Find the folders of weights and tokenizer in one that MLflow or ``save_pretrained`` wrote.

    Args:
        folder: of the model.
        source: names the model in an error.
        is_typed: whether a person has named the folder; else it is of a store, and nothing in it
            may lead out of it.

    Raises:
        InputError: something is missing, or leads elsewhere.

    """
    model_dir, tokenizer_dir = folder, folder
    if (folder / "MLmodel").is_file():
        # As MLflow names them. A path in MLmodel could lead anywhere.
        model_dir, tokenizer_dir = folder / "model", folder / "components" / "tokenizer"
    if not (model_dir / "config.json").is_file():
        raise InputError(f"{source}: no config.json in {model_dir}; write it with save_pretrained")
    if not any(path.is_file() for path in model_dir.glob("*.safetensors")):
        raise InputError(
            f"{source}: no *.safetensors in {model_dir}, and nothing else is read because "
            "pickle files run code; save the model with save_pretrained"
        )
    # A tokenizer of bytes has no file of a vocabulary; another one is refused when it is loaded.
    names = ("tokenizer.json", "vocab.txt", "tokenizer_config.json")
    if not any((tokenizer_dir / name).is_file() for name in names):
        raise InputError(
            f"{source}: no tokenizer in {tokenizer_dir}; save the model's own there with "
            "tokenizer.save_pretrained"
        )
    require_harmless(model_dir, tokenizer_dir, root=None if is_typed else folder, source=source)
    return model_dir, tokenizer_dir


def load_logged(
    client: MlflowClient, model: LoggedModel, *, tag: str, scratch: Path
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load weights and tokenizer of a logged model; what a server sends goes to ``scratch``.

    Not with MLflow, which runs the code beside weights whose class it does not know.

    Args:
        tag: names the module in ``served/`` that would answer.

    Raises:
        InputError: they cannot be loaded, or lie elsewhere.

    """
    source = f"model {model.model_id}"
    folder = fetch(Place(locate_model(client, model), model.source_run_id, source), scratch)
    model_dir, tokenizer_dir = find_files(folder, source=source)
    answering: type[ServedModel] = served.load_module(tag).ServedModel
    try:
        return (
            load_model(model_dir, answering.auto, purpose=answering.purpose),
            load_tokenizer(tokenizer_dir),
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"{source} cannot be loaded: {one_line(error, most=300)}") from error
