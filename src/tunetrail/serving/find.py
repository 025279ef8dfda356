"""Find a saved model by a registry name, a run or a directory."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # PyYAML ships no types
from mlflow.tracking import MlflowClient

from tunetrail.config.paths import locate, read_regular
from tunetrail.config.scratch import scratch
from tunetrail.errors import InputError
from tunetrail.served.base import SETTINGS
from tunetrail.tracking.artifacts import Artifacts
from tunetrail.tracking.places import fetch, find_files, find_place
from tunetrail.tracking.store import connect_existing, look_up, store_errors

# A tokenizer without a limit gives a number far above this.
_MOST_TOKENS = 10_000_000


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
        name: a directory, else the id of a run or the first 8 digits of it, else a name of the
            registry with alias or version: ``NAME@champion`` or ``NAME/3``, also after
            ``models:/``. ``NAME`` is its champion.

    Raises:
        InputError: there is no such model, or its files are not complete and in safetensors.
        OutageError: the store's server does not answer.

    """
    if not name.strip():
        raise InputError(f"model {name!r} is empty; give a run id, NAME@ALIAS or a directory")
    folder = locate(name)
    if folder.is_dir():
        yield _inspect(folder, source=str(folder), run_card=None, is_typed=True)
        return
    if folder.exists():
        raise InputError(f"model {name}: that is a file; give the directory that it is in")
    try:
        client = connect_existing(uri)
        with store_errors(uri):
            place = find_place(client, name, uri=uri)
    except InputError as error:
        raise type(error)(f"model {name} is not a directory here, and {error}") from error
    with scratch() as copy:
        with store_errors(uri):
            folder = fetch(place, copy)
            card = _read_run_card(client, place.run_id)
        yield _inspect(folder, source=place.source, run_card=card)


def _read_run_card(client: MlflowClient, run_id: str | None) -> str | None:
    """Read what the run says about its model, as the winner of a study has it."""
    # The run may have been deleted, and the model not.
    run = None if run_id is None else look_up(client.get_run, run_id)
    return None if run is None else Artifacts(client, run).text("model_card.md")


def _inspect(
    folder: Path, *, source: str, run_card: str | None, is_typed: bool = False
) -> SavedModel:
    """Look into a folder as MLflow, ``save_pretrained`` or ``tunetrail export`` writes it.

    Raises:
        InputError: something is missing, or it is unknown what the model does.

    """
    card, pipeline_tag, trained_length = folder / "README.md", None, _MOST_TOKENS
    if (folder / "MLmodel").is_file():
        pipeline_tag, trained_length = _read_description(folder / "MLmodel", source)
        card = folder / "model_card.md"
    model_dir, tokenizer_dir = find_files(folder, source=source, is_typed=is_typed)
    config = _read_json(model_dir / "config.json", source, "write it with save_pretrained")
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
        card=run_card or (read_regular(card).decode() if card.is_file() else None),
    )


def _read_json(path: Path, source: str, remedy: str) -> dict[str, Any]:
    try:
        values = json.loads(read_regular(path))
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
        flavors = yaml.safe_load(read_regular(path))["flavors"]
        settings = flavors["python_function"].get("config", {})
        # Not str(…): with aliases of YAML a few lines stand for gigabytes.
        tag = "".join(settings.get("pipeline_tag", flavors["transformers"]["task"]))
        return tag, _whole(settings.get("max_length"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise InputError(f"{source}: {path} is no description of a model of MLflow") from error


def _whole(value: object) -> int:
    """Return a length; anything else means that there is no limit."""
    return value if isinstance(value, int) and 0 < value < _MOST_TOKENS else _MOST_TOKENS


def _find_tag(config: dict[str, Any], source: str) -> str:
    """Find what a model does: as its training noted, else by its architecture."""
    from transformers.modelcard import TASK_MAPPING

    if isinstance(settings := config.get(SETTINGS), dict) and "pipeline_tag" in settings:
        return str(settings["pipeline_tag"])
    architecture = str((config.get("architectures") or ["no architecture"])[0])
    known: dict[str, Any] = TASK_MAPPING
    for tag, architectures in known.items():
        if architecture in architectures.values():
            return tag
    raise InputError(
        f"{source}: its config.json names {architecture}, which is no model of transformers for a "
        "task; train one with train.py"
    )
