"""Load the tokenizer and the model of a checkpoint; one log line names weights that are new."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors.torch import load_file
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file, get_checkpoint_shard_files

from tunetrail.config.hub import is_reachable
from tunetrail.config.paths import Stamp, stamp_files
from tunetrail.errors import InputError, first_line
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.served.in_context_classification import KEY as PROMPT

log = logging.getLogger(__name__)

Weights = Mapping[str, torch.Tensor]


Kind = Literal["encoder", "decoder", "encoder-decoder"]


class NoHeadError(InputError):
    """There is no model of this architecture for what a task asks for."""


# Files -> the weights in them. Holds one entry at most.
_held: dict[Stamp, Weights] = {}


def read_weights(checkpoint: Checkpoint) -> Weights | None:
    """Read a checkpoint's weights, or take them from memory if its files have not changed.

    Memory holds the weights of the last checkpoint, in the type in which they are stored. All
    callers share them, so they must not be changed.

    Returns:
        None if the weights are not in the usual files: only ``from_pretrained`` can find them.

    """
    stamp = stamp_files(_weight_files(checkpoint))
    if not stamp:
        return None
    if stamp not in _held:
        _held.clear()  # before reading: never two sets
        # load_file maps the file into memory; a copy stays the same if the file is written again.
        _held[stamp] = {
            name: tensor.clone() for path, *_ in stamp for name, tensor in load_file(path).items()
        }
    return _held[stamp]


def _weight_files(checkpoint: Checkpoint) -> list[Path]:
    options = _where(checkpoint) | {"_raise_exceptions_for_missing_entries": False}
    try:
        single = cached_file(checkpoint.path, SAFE_WEIGHTS_NAME, **options)
        if single is not None:
            return [Path(single)]
        index = cached_file(checkpoint.path, SAFE_WEIGHTS_INDEX_NAME, **options)
        if index is None:
            return []
        shards, _ = get_checkpoint_shard_files(checkpoint.path, index, **_where(checkpoint))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError):
        return []  # from_pretrained will raise it again, with its cause
    return [Path(shard) for shard in shards]


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """Load the checkpoint's tokenizer; if it has no padding token, the end token is used.

    Raises:
        InputError: the checkpoint cannot be loaded, or has no tokenizer.

    """
    place = replace(checkpoint, path=checkpoint.tokenizer)
    tokenizer: PreTrainedTokenizerBase = _from_pretrained(AutoTokenizer, place)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise InputError(
                f"model {checkpoint.path!r}: its tokenizer has neither a padding nor an end "
                "token; set pad_token in its tokenizer_config.json"
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def find_kind(checkpoint: Checkpoint) -> Kind:
    """Find by its config what a checkpoint is; none of its weights are read.

    Raises:
        InputError: its config cannot be loaded.

    """
    config = _from_pretrained(AutoConfig, checkpoint)
    if config.is_encoder_decoder:
        return "encoder-decoder"
    # Encoders can be loaded with a causal head, too.
    is_encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(
        config, "is_decoder", False
    )
    return (
        "decoder" if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and not is_encoder else "encoder"
    )


@dataclass(frozen=True)
class Loader:
    """Loads a checkpoint as the kind of model that a task needs.

    Args:
        weights: as :func:`read_weights` returns them. The model is the same, bit for bit; only its
            config is read from disk. None: the weights are read from disk, too.
        new: is filled with the names of the weights that the checkpoint lacks.

    """

    checkpoint: Checkpoint
    weights: Weights | None = None
    new: set[str] = field(default_factory=set)

    @property
    def kind(self) -> Kind:
        return find_kind(self.checkpoint)

    def __call__(
        self, auto: Any, *, label_names: list[str] | None = None, **config: Any
    ) -> PreTrainedModel:
        """Load the model, with a new head if the checkpoint has no fitting one.

        Seed torch before the call: the weights of a new head are random. A head for as many labels
        with other names is kept, with a warning: they may be the same labels.

        Args:
            auto: a class such as ``AutoModelForSequenceClassification``.
            label_names: for a model that scores labels.

        Raises:
            NoHeadError: its architecture has no such model.
            InputError: the checkpoint cannot be loaded.

        """
        if label_names is not None:
            config |= {
                "num_labels": len(label_names),
                "id2label": dict(enumerate(label_names)),
                "label2id": {name: index for index, name in enumerate(label_names)},
            }
        how = {
            # The same architecture with another number of labels: keep the body, make a new head.
            "ignore_mismatched_sizes": True,
            "output_loading_info": True,
            "use_safetensors": True,
            "dtype": "float32",
        }
        model: PreTrainedModel
        found = self.read_config(**config)
        architecture = auto._model_mapping.get(type(found), None)  # noqa: SLF001 - the table has no public name
        if architecture is None:
            raise NoHeadError(
                f"model {self.checkpoint.path!r} cannot be loaded by {auto.__name__}: there is no "
                f"such model of the architecture {found.model_type}"
            )
        if self.weights is None or not isinstance(architecture, type):
            # The auto class chooses among several architectures.
            model, loaded = _from_pretrained(auto, self.checkpoint, **config, **how)
        else:
            model, loaded = _from_memory(architecture, found, self.weights, self.checkpoint, **how)
        made = sorted({*loaded["missing_keys"], *(key[0] for key in loaded["mismatched_keys"])})
        if made and {name for name, _ in model.named_parameters()} <= set(made):
            # As of Llama in transformers 5: its QA model calls "transformer" what its others call
            # "model".
            raise NoHeadError(
                f"model {self.checkpoint.path!r}: none of its weights fit {type(model).__name__}, "
                "all would be new; use another architecture, such as model=minilm"
            )
        self.new.update(made)
        if made:
            log.info("new weights, to be trained: %s", ", ".join(made))
        elif label_names is not None and (known := _known_labels(self.checkpoint)) != label_names:
            log.warning(
                "the checkpoint's head is kept; it was trained for %s and now answers %s",
                ", ".join(known),
                ", ".join(label_names),
            )
        # A model for another task must not be taken for one that answers after this prompt.
        vars(model.config).pop(PROMPT, None)
        return model

    def read_config(self, **config: Any) -> Any:
        """Read the config of the model, with other values for some of its keys."""
        return _from_pretrained(AutoConfig, self.checkpoint, **config)


def is_causal(model: PreTrainedModel) -> bool:
    """Whether what a language model predicts after a token does not depend on later ones."""
    device = next(model.parameters()).device
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]], device=device)
    with torch.inference_mode():
        first, second = model(input_ids=ids).logits[:, :3].float()
    return torch.allclose(first, second, rtol=1e-4, atol=1e-5)


def _known_labels(checkpoint: Checkpoint) -> list[str]:
    return list(_from_pretrained(AutoConfig, checkpoint).id2label.values())


def _from_memory(
    architecture: Any, config: Any, weights: Weights, checkpoint: Checkpoint, **how: Any
) -> Any:
    # A tensor that already has the right type becomes part of the model, and training changes it.
    # So pass copies.
    copies = {name: tensor.clone() for name, tensor in weights.items()}
    with _said_in_one_line(architecture, checkpoint):
        model, loaded = architecture.from_pretrained(None, config=config, state_dict=copies, **how)
    model.name_or_path = model.config.name_or_path = checkpoint.path
    return model, loaded


def _from_pretrained(auto: Any, checkpoint: Checkpoint, **kwargs: Any) -> Any:
    if not checkpoint.is_on_hub:
        # The code beside weights in a directory is never run, nor does a prompt offer to.
        kwargs["trust_remote_code"] = False
    with _said_in_one_line(auto, checkpoint):
        return auto.from_pretrained(checkpoint.path, **_where(checkpoint), **kwargs)


def _where(checkpoint: Checkpoint) -> dict[str, Any]:
    if not checkpoint.is_on_hub:
        return {}
    return {"revision": checkpoint.revision, "local_files_only": not is_reachable()}


@contextlib.contextmanager
def _said_in_one_line(auto: Any, checkpoint: Checkpoint) -> Iterator[None]:
    where = f"model {checkpoint.path!r}"
    local = not checkpoint.is_on_hub
    try:
        yield
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        first = first_line(error)
        if not local and (isinstance(error, OSError) and not _is_disk_error(error)):
            raise InputError(
                f"{where} (revision {checkpoint.revision}): not in the local cache, and the hub "
                f"did not send it ({first}); check model.id and the network. Without a network: "
                "model=minilm, model=smollm2, or model=directory model.path=PATH"
            ) from error
        if isinstance(error, ValueError):
            raise InputError(f"{where} cannot be loaded by {auto.__name__}: {first}") from error
        if not _is_disk_error(error):
            raise InputError(f"{where} cannot be read: {first}") from error
        raise


def _is_disk_error(error: OSError) -> bool:
    """Whether it is an error of the system, such as a full disk: libraries raise OSError, too."""
    return error.errno is not None
