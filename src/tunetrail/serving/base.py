"""What a served model offers to ``tunetrail predict`` and ``export``, and how one is loaded.

A model is served by the module that its pipeline tag names, a word of the hub:
``served/text_classification.py`` serves "text-classification". A new tag is one new module, which

- has a class ``ServedModel`` as below;
- has ``_load_pyfunc(path, model_config)`` for MLflow to call, and ``COLUMNS`` of what it gives;
- imports nothing of this package: a copy of it is the code that answers in every logged model.
"""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Protocol

import torch
import transformers
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunetrail import served
from tunetrail.errors import InputError, first_line
from tunetrail.serving.find import SavedModel


class ServedModel(Protocol):
    """Weights and tokenizer, ready to answer as in training's evaluation.

    Its constructor takes ``model_dir, tokenizer_dir, *, max_length, device, batch_tokens`` and
    raises ValueError or OSError for files that it cannot serve. ``batch_tokens`` is how many
    tokens, padding included, go through the model at once; None is a good number.
    """

    # What it reads: "text", "tokens" (a list of texts), or both.
    inputs: tuple[str, ...]
    # Name of an answer's column -> "string", "float" (32 bits), or "json" (a list or an object).
    columns: dict[str, str]
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    def answer(self, inputs: Sequence[Any]) -> list[dict[str, Any] | None]:
        """Return the columns of each input's answer; None where the tokenizer makes no token.

        Raises:
            torch.OutOfMemoryError: a single input does not fit into the GPU's memory.

        """

    def describe_use(self, name: str) -> str:
        """Describe in Markdown how transformers alone uses an export in the directory ``name``."""


def load_model(saved: SavedModel, *, device: str, batch_tokens: int | None = None) -> ServedModel:
    """Load a model that was found, onto the device ``auto``, ``cpu`` or ``cuda``.

    Raises:
        InputError: it cannot be loaded, nothing serves its kind, or there is no such device.

    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no GPU was found; use auto or cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model: ServedModel = _find_class(saved)(
            saved.model_dir,
            saved.tokenizer_dir,
            max_length=saved.max_length,
            device=device,
            batch_tokens=batch_tokens,
        )
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"{saved.source} does not fit into the GPU's memory; free it, or use --device cpu"
        ) from error
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"{saved.source} cannot be loaded: {first_line(error)}") from error
    return model


def _find_class(saved: SavedModel) -> Any:
    name = saved.pipeline_tag.replace("-", "_")
    if re.fullmatch("[a-z0-9_]+", name) and find_spec(f"{served.__name__}.{name}") is not None:
        return served.load_module(saved.pipeline_tag).ServedModel
    raise InputError(
        f"{saved.source}: it is a model for {saved.pipeline_tag}, which no module of "
        "tunetrail.served serves; train another with train.py"
    )
