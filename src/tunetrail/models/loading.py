"""Checkpoint -> tokenizer and model, with one log line about weights that are newly made."""

import logging
from typing import Any

from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tunetrail.errors import InputError
from tunetrail.hub import is_reachable
from tunetrail.models.checkpoints import Checkpoint

log = logging.getLogger(__name__)


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """Load the model's own tokenizer; where it has no padding token, the end token pads.

    Raises:
        InputError: the checkpoint cannot be had, or has no tokenizer.

    """
    tokenizer: PreTrainedTokenizerBase = _from_pretrained(AutoTokenizer, checkpoint)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise InputError(
                f"model {checkpoint.path!r}: its tokenizer has neither a padding nor an end "
                "token; set pad_token in its tokenizer_config.json"
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_sequence_classifier(
    checkpoint: Checkpoint, *, label_names: list[str], pad_token_id: int
) -> PreTrainedModel:
    """Load the body and, where the checkpoint has no head for as many labels, make a new one.

    Seed torch before the call: the head's weights are drawn here. A head for as many labels of
    other names is kept, and said to be: it may be the same labels under other names.

    Raises:
        InputError: the checkpoint cannot be had, or its architecture cannot classify.

    """
    model: PreTrainedModel
    model, loaded = _from_pretrained(
        AutoModelForSequenceClassification,
        checkpoint,
        num_labels=len(label_names),
        id2label=dict(enumerate(label_names)),
        label2id={name: index for index, name in enumerate(label_names)},
        pad_token_id=pad_token_id,
        # The same architecture with another number of labels: keep the body, make a new head.
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        use_safetensors=True,
        dtype="float32",
    )
    made = sorted({*loaded["missing_keys"], *(key[0] for key in loaded["mismatched_keys"])})
    if made:
        log.info("new weights, to be trained: %s", ", ".join(made))
    elif (known := list(_known_labels(checkpoint).values())) != label_names:
        log.warning(
            "the checkpoint's head is kept; it was trained for %s and now answers %s",
            ", ".join(known),
            ", ".join(label_names),
        )
    return model


def _known_labels(checkpoint: Checkpoint) -> dict[int, str]:
    labels: dict[int, str] = _from_pretrained(AutoConfig, checkpoint).id2label
    return labels


def _from_pretrained(auto: Any, checkpoint: Checkpoint, **kwargs: Any) -> Any:
    where = f"model {checkpoint.path!r}"
    local = checkpoint.revision is None
    if not local:
        kwargs |= {"revision": checkpoint.revision, "local_files_only": not is_reachable()}
    try:
        return auto.from_pretrained(checkpoint.path, **kwargs)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if not local and (isinstance(error, OSError) and not _is_disk_error(error)):
            raise InputError(
                f"{where} (revision {checkpoint.revision}): not in the local cache and not to be "
                f"had from the hub ({first}); check model.id and the network. Without a network: "
                "model=minilm, model=smollm2, or model=directory model.path=PATH"
            ) from error
        if isinstance(error, ValueError):
            raise InputError(f"{where} cannot be loaded by {auto.__name__}: {first}") from error
        if not _is_disk_error(error):
            raise InputError(f"{where} cannot be read: {first}") from error
        raise


def _is_disk_error(error: OSError) -> bool:
    """Tell a real error of the system, such as a full disk, from the libraries' own OSErrors."""
    return error.errno is not None
