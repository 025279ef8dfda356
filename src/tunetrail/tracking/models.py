"""Logged models: weights that MLflow can load, and how they are listed and removed."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import pandas as pd
import requests
from mlflow.entities import LoggedModel, LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunetrail.config.secrets import redact
from tunetrail.errors import InputError, first_line
from tunetrail.tracking.run_log import RunLog
from tunetrail.tracking.store import quiet_mlflow

# Tag of a model that is, or is about to be, in the registry under this name.
_REGISTERED = "tunetrail.registered"
# The name that MLflow gives to a model's card among its files.
_CARD = "model_card.md"


@dataclass(frozen=True)
class Answering:
    """How a logged model answers.

    Args:
        pipeline_tag: the hub's word for what it does.
        module: the one file of code that every logged model carries: it answers.
        config: what that code must know.
        example: a few inputs.
        expected: the run's own answers to them, one line an input.

    """

    pipeline_tag: str
    module: ModuleType
    config: Mapping[str, Any]
    example: list[str]
    expected: pd.DataFrame


def log_model(
    run_log: RunLog,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    answering: Answering,
    origin: str,
    requirements: list[str],
    step: int,
    scratch_dir: Path,
) -> str:
    """Log the model with signature and input example; return its ``models:/`` URI.

    It is loaded once the way a user would, and belongs to the run only if it answers as the run
    itself does.

    Args:
        run_log: of the run.
        model: as ``from_pretrained`` can load it.
        tokenizer: of the model.
        answering: how it answers.
        origin: what the model was fine-tuned from.
        requirements: packages with versions.
        step: of the evaluation whose weights these are.
        scratch_dir: where the files are put together before they are copied; what a killed
            process leaves goes with this folder.

    Raises:
        InputError: the logged model cannot be loaded, or answers something else.

    """
    from huggingface_hub import ModelCard
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    model.cpu()
    card = ModelCard(
        f"---\nlibrary_name: transformers\n---\n\n# {run_log.name}\n\n"
        f"Fine-tuned from `{redact(origin)}` in MLflow run `{run_log.run_id}`, which "
        "holds config, data fingerprint, metrics and figures.\n"
    )
    # MLflow asks the hub for card and licence of whatever the model is named after, and
    # retries for long where there is no network. These weights are not on the hub.
    model.name_or_path = f"run:{run_log.run_id}"
    # A logged model goes to the active experiment, whatever experiment its run belongs to.
    mlflow.set_experiment(experiment_id=run_log.experiment_id)
    columns = answering.module.COLUMNS
    with quiet_mlflow(), _scratch(scratch_dir):
        # Made apart from its run: log_model would add its own settings to the run's params,
        # and they would stand out in every comparison of runs with and without a model.
        logged = mlflow.initialize_logged_model("model", source_run_id=run_log.run_id)
        try:
            info = Model.log(
                None,
                _Flavor(answering.module),
                model_id=logged.model_id,
                name="model",
                transformers_model={"model": model, "tokenizer": tokenizer},
                task=answering.pipeline_tag,
                signature=ModelSignature(
                    inputs=Schema([ColSpec(DataType.string)]),
                    outputs=Schema([ColSpec(type_, name) for name, type_ in columns.items()]),
                ),
                input_example=answering.example,
                model_card=card,
                model_config=dict(answering.config),
                pip_requirements=requirements,
                # It would be loaded once more, only to warn where _require_answers raises.
                validate_serving_input=False,
            )
            _require_answers(info.model_uri, answering)
        except Exception:
            # Half a model is of no use, and takes the space that the failure needs to be logged.
            remove_model(run_log.client, logged)
            raise
        output = LoggedModelOutput(logged.model_id, step=step)
        run_log.client.log_outputs(run_log.run_id, models=[output])
    return str(info.model_uri)


def _require_answers(uri: str, answering: Answering) -> None:
    """Load the model the way a user would, and compare what it says."""
    try:
        found = mlflow.pyfunc.load_model(uri).predict(answering.example)
    except Exception as error:
        raise InputError(f"the logged model does not answer: {first_line(error)}") from error
    for number, text in enumerate(answering.example):
        got, own = found.iloc[number].to_dict(), answering.expected.iloc[number].to_dict()
        if not all(_agree(got.get(name), value) for name, value in own.items()):
            raise InputError(
                f"the logged model answers {got} where the run itself answers {own}, for "
                f"{text[:60]!r}: it is not the model that was trained"
            )


def _agree(one: Any, other: Any) -> bool:
    if isinstance(other, float):
        # Both in fp32, in batches of other shapes.
        return isinstance(one, float) and abs(one - other) < 1e-3
    return bool(one == other)


class _Flavor:
    """MLflow's flavor for transformers, except for the code that answers.

    MLflow 3.17 hands every text to ``ast.literal_eval`` first: a list of texts that are all such as
    ``5`` or ``'fine'`` becomes other inputs, and a text of 2,000 words ends in a MemoryError.
    """

    def __init__(self, module: ModuleType) -> None:
        self._code = Path(str(module.__file__))

    def save_model(
        self, path: str, mlflow_model: Any, *, validate_serving_input: bool, **kwargs: Any
    ) -> None:
        del validate_serving_input  # Model.log reads it
        mlflow.transformers.save_model(
            path=path, mlflow_model=mlflow_model, code_paths=[str(self._code)], **kwargs
        )
        mlflow_model.flavors["python_function"]["loader_module"] = self._code.stem
        mlflow_model.save(str(Path(path) / "MLmodel"))


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[None]:
    """Make temporary files in a folder of ours: MLflow takes no other word for where."""
    folder.mkdir(parents=True, exist_ok=True)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def list_models(client: MlflowClient, experiment_id: str) -> Iterator[LoggedModel]:
    """List an experiment's models, those too that were never finished.

    A run names its models in ``run.outputs``, but only once they are complete: a model that a
    killed process left half copied is found by its ``source_run_id`` alone.
    """
    token = None
    while True:
        page = client.search_logged_models([experiment_id], page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def find_model(client: MlflowClient, run_id: str) -> LoggedModel | None:
    """Find the weights that a run has logged to the end; None where there are none (any more)."""
    outputs = client.get_run(run_id).outputs
    for output in outputs.model_outputs if outputs is not None else ():
        try:
            model: LoggedModel = client.get_logged_model(output.model_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        else:
            return model
    return None


def load_components(
    model: LoggedModel, folder: Path
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load weights and tokenizer of a logged model; what a server sends goes to ``folder``."""
    with quiet_mlflow():
        found = mlflow.transformers.load_model(
            f"models:/{model.model_id}", str(folder), return_type="components"
        )
    return found["model"], found["tokenizer"]


def hold_model(client: MlflowClient, model: LoggedModel, *, name: str) -> None:
    """Mark weights as registered, before they are: they must not be removed in between."""
    client.set_logged_model_tags(model.model_id, {_REGISTERED: name})


def is_registered(client: MlflowClient, model: LoggedModel) -> bool:
    """Whether a registry hands out this model, or is about to: by a study's end or by hand."""
    if {_REGISTERED, MLFLOW_MODEL_VERSIONS} & set(model.tags):
        return True
    # A version that was made through MLflow's client leaves no tag on the model.
    condition = f"run_id = '{model.source_run_id}'"
    return bool(client.search_model_versions(condition, max_results=1))


def write_card(client: MlflowClient, model: LoggedModel, card: str) -> None:
    """Put a model card in the place of the one that the model was logged with."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _CARD
        path.write_text(card, encoding="utf-8")
        client.log_model_artifact(model.model_id, str(path))


def remove_model(client: MlflowClient, model: LoggedModel) -> None:
    """Remove a model's files, then its record: killed in between, the record is found again."""
    try:
        get_artifact_repository(model.artifact_location).delete_artifacts()
    except FileNotFoundError:
        pass  # removed at the same time by another worker
    except requests.HTTPError as error:
        if error.response is None or error.response.status_code != 404:
            raise
    try:
        client.delete_logged_model(model.model_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
