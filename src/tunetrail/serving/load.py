"""Load a model that was found, with the module in ``served/`` that its pipeline tag names."""

import re

import torch
import transformers
from safetensors import SafetensorError

from tunetrail import served
from tunetrail.errors import InputError, one_line
from tunetrail.served.base import ServedModel
from tunetrail.serving.find import SavedModel


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
        raise InputError(f"{saved.source} cannot be loaded: {one_line(error, most=300)}") from error
    return model


def _find_class(saved: SavedModel) -> type[ServedModel]:
    if re.fullmatch("[a-z0-9-]+", saved.pipeline_tag) and saved.pipeline_tag != "base":
        try:
            found: type[ServedModel] = served.load_module(saved.pipeline_tag).ServedModel
        except ModuleNotFoundError as error:
            if not str(error.name).startswith(served.__name__):
                raise InputError(
                    f"{saved.source}: {error.name} is not installed, which a model for "
                    f"{saved.pipeline_tag} needs"
                ) from error
        except AttributeError:
            pass  # what serves nothing by itself
        else:
            return found
    raise InputError(
        f"{saved.source}: it is a model for {saved.pipeline_tag}, which no module of "
        "tunetrail.served serves; train another with train.py"
    )
