"""Logged models: weights that MLflow can load, and how they are listed and removed."""

import contextlib
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import requests
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunetrail import served
from tunetrail.config.progress import report_progress
from tunetrail.config.scratch import scratch
from tunetrail.config.secrets import redact
from tunetrail.errors import InputError, first_line
from tunetrail.served.base import SETTINGS, ServedModel
from tunetrail.tasks.base import Task
from tunetrail.templates import render
from tunetrail.tracking.confinement import locate_model
from tunetrail.tracking.provenance.machine import list_packages
from tunetrail.tracking.run_log import RunLog
from tunetrail.tracking.store import look_up, quiet_mlflow

# Tag of a model that is in the registry under this name, or will be in a moment.
_REGISTERED = "tunetrail.registered"
# What the code in served/ needs.
_PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "safetensors",
    "mlflow",
    "numpy",
    "pandas",
)
# MLflow's code for what it cannot log, such as a model without the head of its task.
_INVALID = "INVALID_PARAMETER_VALUE"
# The name that MLflow gives to a model's card among its files.
_CARD = "model_card.md"


def log_model(
    run_log: RunLog,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    task: Task,
    tag: str,
    table: pd.DataFrame,
    origin: str,
    calibration: str | None,
    step: int,
    scratch_dir: Path,
) -> None:
    """Log the model with signature and input example.

    Before its files go to the store it is loaded as a user loads it, and must give the answers of
    the run. Not from the store: MLflow runs the code in a model, and others may change it there.

    Args:
        model: as ``from_pretrained`` can load it.
        tag: names the module in ``served/`` that answers.
        table: what :meth:`Task.tabulate` gives for a few rows: the example, with the run's answers.
        origin: what the model was fine-tuned from.
        calibration: how far its probabilities can be trusted, for its card.
        step: of the evaluation whose weights these are.
        scratch_dir: for the files before they are copied; what a killed process leaves there is
            deleted with this folder.

    Raises:
        InputError: the logged model cannot be loaded, or answers something else.

    """
    report_progress("logs the model")
    from huggingface_hub import ModelCard
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    model.cpu()
    inputs = task.inputs(table)
    example = example_of(inputs)
    answering: type[ServedModel] = served.load_module(tag).ServedModel
    columns = answering.list_served(model.config)
    card = render(
        "run_card",
        name=run_log.name,
        origin=redact(origin),
        run_id=run_log.run_id,
        calibration=calibration,
    )
    # MLflow asks the hub for the card and the licence of the model's name, and retries for long
    # without a network. These weights are not on the hub.
    model.name_or_path = f"run:{run_log.run_id}"
    settings = {"pipeline_tag": tag, **task.serving_config(tokenizer)}
    # An export has no MLmodel, and says it all the same.
    setattr(model.config, SETTINGS, settings)
    # A logged model goes to the active experiment, not to the one of its run.
    mlflow.set_experiment(experiment_id=run_log.experiment_id)
    with quiet_mlflow(), _scratch(scratch_dir):
        # Not with log_model: that adds its own settings to the run's params, and every comparison
        # of runs with and without a model would show them.
        logged = mlflow.initialize_logged_model("model", source_run_id=run_log.run_id)
        try:
            Model.log(
                None,
                _Flavor(
                    _copy_served(),
                    partial(_require_answers, example=example, expected=task.answers(table)),
                ),
                model_id=logged.model_id,
                name="model",
                transformers_model={"model": model, "tokenizer": tokenizer},
                task=tag,
                signature=ModelSignature(
                    inputs=Schema([ColSpec(DataType.string, name) for name in inputs]),
                    outputs=Schema([ColSpec(type_, name) for name, type_ in columns.items()]),
                ),
                input_example=example,
                model_card=ModelCard(card),
                model_config=settings,
                pip_requirements=_list_requirements(),
                # It would be loaded once more, only to warn where _require_answers raises.
                validate_serving_input=False,
            )
        except Exception as error:
            # Half a model is of no use, and the run needs the space to log its failure.
            remove_model(run_log.client, logged)
            refused = isinstance(error, MlflowException) and error.error_code == _INVALID
            if refused:
                cause = first_line(error.__cause__ or error)
                raise InputError(f"the logged model does not answer: {cause}") from error
            raise
        output = LoggedModelOutput(logged.model_id, step=step)
        run_log.client.log_outputs(run_log.run_id, models=[output])


def example_of(inputs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return inputs as a user gives them: an object of named columns for each row.

    Not a table: MLflow 3.17 compares its columns with a range, of which pandas 3 warns.
    """
    return [{str(name): value for name, value in row.items()} for row in inputs.to_dict("records")]


def _copy_served() -> Path:
    """Copy the code that answers, named by its content: one process may load two versions of it.

    MLflow puts the code of every model that it loads on the one path of the process.
    """
    files = sorted(Path(str(served.__file__)).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    target = Path(tempfile.mkdtemp()) / f"tunetrail_served_{digest[:8]}"
    target.mkdir()
    for file in files:
        shutil.copy(file, target)
    return target


def _list_requirements() -> list[str]:
    """List the packages that a logged model needs to answer, with their versions."""
    return [line for line in list_packages() if line.split("==")[0] in _PACKAGES]


def _require_answers(path: str, *, example: list[dict[str, Any]], expected: pd.DataFrame) -> None:
    """Load the model as a user does, and compare its answers with those of the run."""
    before = list(sys.path)
    try:
        found = mlflow.pyfunc.load_model(path).predict(example)
    except Exception as error:
        raise InputError(f"the logged model does not answer: {first_line(error)}") from error
    finally:
        sys.path[:] = before
    for number, row in enumerate(example):
        got, own = found.iloc[number].to_dict(), expected.iloc[number].to_dict()
        if not all(_agree(got.get(name), value) for name, value in own.items()):
            raise InputError(
                f"the logged model answers {got} where the run itself answers {own}, for "
                f"{str(row)[:60]}: it is not the model that was trained"
            )


def _agree(one: Any, other: Any) -> bool:
    if isinstance(other, float):
        # Both are computed in fp32, but in batches of different shapes.
        return isinstance(one, float) and abs(one - other) < 1e-3 * max(1.0, abs(other))
    return bool(one == other)


class _Flavor:
    """MLflow's flavor for transformers, with other code to answer.

    MLflow 3.17 passes every text to ``ast.literal_eval`` first: texts such as ``5`` or ``'fine'``
    become other inputs, and a text of 2,000 words ends in a MemoryError.
    """

    def __init__(self, code: Path, check: Callable[[str], None]) -> None:
        self._code, self._check = code, check

    def save_model(
        self,
        path: str,
        mlflow_model: Any,
        *,
        task: str,
        validate_serving_input: bool,
        **kwargs: Any,
    ) -> None:
        from transformers.pipelines import get_supported_tasks

        del validate_serving_input  # Model.log reads it
        # MLflow builds a pipeline of every model, and transformers 5 has none for some tasks.
        has_pipeline = task in get_supported_tasks()
        mlflow.transformers.save_model(
            path=path,
            mlflow_model=mlflow_model,
            code_paths=[str(self._code)],
            task=task if has_pipeline else "feature-extraction",
            **kwargs,
        )
        mlflow_model.flavors["transformers"]["task"] = task
        mlflow_model.flavors["python_function"]["loader_module"] = f"{self._code.name}.base"
        mlflow_model.save(str(Path(path) / "MLmodel"))
        self._check(path)


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[None]:
    """Make temporary files in this folder: MLflow has no argument for it."""
    folder.mkdir(parents=True, exist_ok=True)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def list_models(client: MlflowClient, experiment_id: str) -> Iterator[LoggedModel]:
    """List an experiment's models, also those that were never finished.

    A run names its models in ``run.outputs``, but only once they are complete. A model that a
    killed process left incomplete is found by its ``source_run_id`` alone.
    """
    token = None
    while True:
        page = client.search_logged_models([experiment_id], page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def find_model(client: MlflowClient, run_id: str) -> LoggedModel | None:
    """Find the complete weights that a run has logged; None if it has none, or no longer."""
    return find_complete(client, client.get_run(run_id))


def find_complete(client: MlflowClient, run: Run) -> LoggedModel | None:
    """Find the last complete model of a run; None if it has none, or no longer."""
    outputs = run.outputs.model_outputs if run.outputs else []
    for output in sorted(outputs, key=lambda output: output.step, reverse=True):
        model = look_up(client.get_logged_model, output.model_id)
        if model is not None and model.status == LoggedModelStatus.READY:
            return model
    return None


def hold_model(client: MlflowClient, model: LoggedModel, *, name: str) -> None:
    """Mark weights as registered before they are, so that nothing deletes them in between."""
    client.set_logged_model_tags(model.model_id, {_REGISTERED: name})


def is_registered(client: MlflowClient, model: LoggedModel) -> bool:
    """Whether this model is in the registry, or will be in a moment."""
    if {_REGISTERED, MLFLOW_MODEL_VERSIONS} & set(model.tags):
        return True
    # A version that a person made with MLflow's client leaves no tag on the model.
    condition = f"run_id = '{model.source_run_id}'"
    return bool(client.search_model_versions(condition, max_results=1))


def write_card(client: MlflowClient, model: LoggedModel, card: str) -> None:
    """Replace the model card with which the model was logged."""
    locate_model(client, model)
    with scratch() as folder:
        path = folder / _CARD
        path.write_text(card, encoding="utf-8")
        client.log_model_artifact(model.model_id, str(path))


def remove_model(client: MlflowClient, model: LoggedModel) -> None:
    """Delete a model's files, then its record: after a kill in between, the record is found.

    Raises:
        InputError: its files lie where MLflow puts none.

    """
    location = locate_model(client, model)
    try:
        get_artifact_repository(location).delete_artifacts()
    except FileNotFoundError:
        pass  # another worker deleted it at the same time
    except requests.HTTPError as error:
        if error.response is None or error.response.status_code != 404:
            raise
    try:
        client.delete_logged_model(model.model_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
