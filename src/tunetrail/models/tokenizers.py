"""Load the tokenizer of a checkpoint, and check that it is one for its model and for the rows."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import MODEL_MAPPING, AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from tunetrail.errors import InputError
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import from_pretrained, told_in_one_line
from tunetrail.served.base import require_vocabulary

log = logging.getLogger(__name__)

# With fewer tokens of the rows unknown, nothing is said: a rare sign is unknown to most tokenizers.
_FEW_UNKNOWN = 0.1
# An embedding has a little padding; much of it, where the tokenizer is of another model.
_LEAST_FILLED = 0.75


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """Load the checkpoint's tokenizer; if it has no padding token, the end token is used.

    Its ``model_max_length`` is at most what the model has positions for.

    Raises:
        InputError: the checkpoint cannot be loaded, has no tokenizer, or one that is not its own.

    """
    place = replace(checkpoint, path=checkpoint.tokenizer)
    where = f"model {checkpoint.path!r}"
    # First: transformers finds by it which tokenizer to load.
    config = from_pretrained(AutoConfig, checkpoint)
    try:
        tokenizer: PreTrainedTokenizerBase = from_pretrained(AutoTokenizer, place)
        require_vocabulary(tokenizer)
    except InputError as error:
        if checkpoint.is_on_hub:
            raise
        files = "are its tokenizer's files there, such as tokenizer.json?"
        raise InputError(f"{error}; {files}") from error.__cause__
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise InputError(
                f"{where}: its tokenizer has neither a padding nor an end "
                "token; set pad_token in its tokenizer_config.json"
            )
        tokenizer.pad_token = tokenizer.eos_token
    _require_embedded(tokenizer, config, where=where)
    if (positions := _count_positions(config, checkpoint)) is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    return tokenizer


def _require_embedded(tokenizer: PreTrainedTokenizerBase, config: Any, *, where: str) -> None:
    """Check that the model has an embedding for each token, and few without a token."""
    # Models of characters hash them, and have no such number.
    size = getattr(config.get_text_config(), "vocab_size", None)
    if size is None:
        return
    vocabulary = tokenizer.get_vocab()
    token, last = max(vocabulary.items(), key=lambda item: item[1])
    if last >= size:
        raise InputError(
            f"{where}: its tokenizer gives {token!r} the number {last}, and the model has "
            f"embeddings for 0 to {size - 1} (vocab_size); give the tokenizer that it was trained "
            "with, or resize_token_embeddings of the model and save both"
        )
    if len(vocabulary) < _LEAST_FILLED * size:
        log.warning(
            "%s: its tokenizer knows %s tokens and the model %s; is it the model's own?",
            where, f"{len(vocabulary):,}", f"{size:,}",
        )  # fmt: skip


def _count_positions(config: Any, checkpoint: Checkpoint) -> int | None:
    """Count the tokens that a model has positions for; None where it sets no limit."""
    limit = getattr(config, "max_position_embeddings", None)
    if limit is None or limit <= 0:
        return None
    body_class = MODEL_MAPPING.get(type(config), None)
    if not isinstance(body_class, type):
        return int(limit)
    # Models of RoBERTa's family count positions from the one after the padding token's: their table
    # of positions has a padding entry, and those before it are never used.
    with told_in_one_line(body_class, checkpoint), torch.device("meta"):
        body = body_class(config)
    offsets = [
        part.padding_idx + 1
        for part in body.modules()
        if isinstance(part, torch.nn.Embedding)
        and part.padding_idx is not None
        and part.num_embeddings == limit
        and part is not body.get_input_embeddings()
    ]
    return int(limit) - max(offsets, default=0)


def require_known(
    ids: npt.NDArray[np.int64], tokenizer: PreTrainedTokenizerBase, *, split: str
) -> None:
    """Check that a tokenizer knows what it reads: else a model would learn from nothing.

    Args:
        ids: all tokens of a split.
        tokenizer: that made them.
        split: of the rows.

    Raises:
        InputError: it knows nothing of them.

    """
    marks = {*tokenizer.all_special_ids}
    unknown = tokenizer.unk_token_id
    others = {
        name: token for name, token in tokenizer.special_tokens_map.items() if name != "unk_token"
    }
    if tokenizer.unk_token in others.values():
        unknown = None  # as of GPT-2, which knows every text
    ordinary = ids[~np.isin(ids, sorted(marks - {unknown}))]
    share = float(np.mean(ordinary == unknown)) if unknown is not None and len(ordinary) else 0.0
    if not len(ordinary) or share == 1:
        raise InputError(
            f"the model's tokenizer knows nothing of the texts of {split}: each of their tokens is "
            f"{tokenizer.unk_token or 'special'}; choose a model for their language and script, or "
            "give the tokenizer that it was trained with"
        )
    if share > _FEW_UNKNOWN:
        log.warning(
            "%.0f %% of the tokens of %s are %s: the model's tokenizer does not know them",
            100 * share, split, tokenizer.unk_token,
        )  # fmt: skip
