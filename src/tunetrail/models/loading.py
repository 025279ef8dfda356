"""Load the model of a checkpoint; one log line names weights that are new."""

import contextlib
import logging
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors.torch import load_file
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    PreTrainedModel,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file, get_checkpoint_shard_files

from tunetrail.config.hub import is_reachable
from tunetrail.config.paths import Stamp, stamp_files
from tunetrail.errors import InputError, one_line
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
    stamp = stamp_files(find_weight_files(checkpoint))
    if not stamp:
        return None
    if stamp not in _held:
        _held.clear()  # before reading: never two sets
        # load_file maps the file into memory; a copy stays the same if the file is written again.
        with told_in_one_line(PreTrainedModel, checkpoint):
            _held[stamp] = {
                name: tensor.clone()
                for path, *_ in stamp
                for name, tensor in load_file(path).items()
            }
    return _held[stamp]


def find_weight_files(checkpoint: Checkpoint) -> list[Path]:
    """Find the usual files of a checkpoint's weights; none where only transformers finds them."""
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


def find_kind(checkpoint: Checkpoint) -> Kind:
    """Find by its config what a checkpoint is; none of its weights are read.

    Raises:
        InputError: its config cannot be loaded.

    """
    config = from_pretrained(AutoConfig, checkpoint)
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
        # Some checkpoints say that outputs are tuples, or that they hold much that nobody reads.
        config |= {"return_dict": True, "output_hidden_states": False, "output_attentions": False}
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
            model, loaded = from_pretrained(auto, self.checkpoint, **config, **how)
        else:
            model, loaded = _from_memory(architecture, found, self.weights, self.checkpoint, **how)
        shapes = {name: (found, own) for name, found, own in loaded["mismatched_keys"]}
        made = sorted({*loaded["missing_keys"], *shapes})
        if made and {name for name, _ in model.named_parameters()} <= set(made):
            # As of Llama in transformers 5: its QA model calls "transformer" what its others call
            # "model".
            raise NoHeadError(
                f"model {self.checkpoint.path!r}: none of its weights fit {type(model).__name__}, "
                "all would be new; use another architecture, such as model=minilm"
            )
        _require_finite(model, where=f"model {self.checkpoint.path!r}")
        _require_body(model, made, shapes, where=f"model {self.checkpoint.path!r}")
        _warn_of_surplus(model, loaded["unexpected_keys"])
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
        return from_pretrained(AutoConfig, self.checkpoint, **config)


def is_causal(model: PreTrainedModel) -> bool:
    """Whether what a language model predicts after a token does not depend on later ones."""
    device = next(model.parameters()).device
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]], device=device)
    with torch.inference_mode():
        first, second = model(input_ids=ids).logits[:, :3].float()
    return torch.allclose(first, second, rtol=1e-4, atol=1e-5)


def _require_body(
    model: PreTrainedModel, made: list[str], shapes: Mapping[str, Any], *, where: str
) -> None:
    """Check that only weights of a head are new: config.json may be of another model.

    Raises:
        InputError: weights of the pretrained body are new.

    """
    body = f"{model.base_model_prefix}."
    # Checkpoints of language models have no pooler, and classifiers train theirs.
    wrong = [name for name in made if name.startswith(body) and "pooler" not in name]
    if wrong:
        first = wrong[0]
        what = "is missing"
        if first in shapes:
            what = "has the shape {} where its config.json says {}".format(
                *map(list, shapes[first])
            )
        raise InputError(
            f"{where}: {len(wrong)} weights of its body do not fit its config.json and would be "
            f"new, without what was pretrained ({first} {what}); give a directory in which both "
            "are as save_pretrained wrote them"
        )


def _require_finite(model: PreTrainedModel, *, where: str) -> None:
    wrong = [name for name, part in model.named_parameters() if not part.isfinite().all()]
    if wrong:
        raise InputError(
            f"{where}: {len(wrong)} of its weights hold values that are no numbers ({wrong[0]}); "
            "its training has diverged: give an earlier checkpoint of it"
        )


def _warn_of_surplus(model: PreTrainedModel, unexpected: Collection[str]) -> None:
    """Say that a model has fewer layers than its checkpoint; a head of another task is no layer."""
    own = {_without_numbers(name) for name in model.state_dict()}
    if surplus := sorted(name for name in unexpected if _without_numbers(name) in own):
        log.warning(
            "%d weights of the checkpoint are left out: its config.json says fewer layers (%s, …)",
            len(surplus), surplus[0],
        )  # fmt: skip


def _without_numbers(name: str) -> str:
    return re.sub(r"\.\d+\.", ".0.", name)


def _known_labels(checkpoint: Checkpoint) -> list[str]:
    return list(from_pretrained(AutoConfig, checkpoint).id2label.values())


def _from_memory(
    architecture: Any, config: Any, weights: Weights, checkpoint: Checkpoint, **how: Any
) -> Any:
    # A tensor that already has the right type becomes part of the model, and training changes it.
    # So pass copies.
    copies = {name: tensor.clone() for name, tensor in weights.items()}
    with told_in_one_line(architecture, checkpoint):
        model, loaded = architecture.from_pretrained(None, config=config, state_dict=copies, **how)
    model.name_or_path = model.config.name_or_path = checkpoint.path
    return model, loaded


def from_pretrained(auto: Any, checkpoint: Checkpoint, **kwargs: Any) -> Any:
    """Load a part of a checkpoint with an auto class of transformers.

    Raises:
        InputError: it cannot be loaded.

    """
    # The code beside weights is never run, nor does a prompt offer to: a record may name them.
    kwargs["trust_remote_code"] = False
    with told_in_one_line(auto, checkpoint):
        return auto.from_pretrained(checkpoint.path, **_where(checkpoint), **kwargs)


def _where(checkpoint: Checkpoint) -> dict[str, Any]:
    if not checkpoint.is_on_hub:
        return {}
    return {"revision": checkpoint.revision, "local_files_only": not is_reachable()}


@contextlib.contextmanager
def told_in_one_line(auto: Any, checkpoint: Checkpoint) -> Iterator[None]:
    """Say what is wrong with a checkpoint: faulty files end in errors of any type."""
    where = f"model {checkpoint.path!r}"
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the system, such as a full disk: libraries raise OSError, too
        said = one_line(error, most=300)
        if checkpoint.is_on_hub and isinstance(error, HfHubHTTPError | OSError):
            raise InputError(
                f"{where} (revision {checkpoint.revision}): not in the local cache, and the hub "
                f"did not send it ({said}); check model.id and the network. Without a network: "
                "model=minilm, model=smollm2, or model=directory model.path=PATH"
            ) from error
        raise InputError(f"{where} cannot be loaded by {auto.__name__}: {said}") from error
