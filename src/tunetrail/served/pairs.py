"""Pairs of texts, as a tokenizer puts them together."""

from collections.abc import Sequence
from typing import Any

from transformers import BatchEncoding, PreTrainedTokenizerBase


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase,
    firsts: Sequence[str],
    seconds: Sequence[str],
    **options: Any,
) -> BatchEncoding:
    """Encode pairs in the tokenizer's own form.

    A tokenizer without one, as that of most decoders, would put the second text right after the
    first. There a line end goes before the second one; offsets count it: :func:`count_added`.

    Args:
        options: of the tokenizer's call, such as ``truncation``.

    """
    before = "\n" * count_added(tokenizer)
    encoded: BatchEncoding = tokenizer(list(firsts), [before + text for text in seconds], **options)
    return encoded


def count_added(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many characters :func:`encode_pairs` puts before a second text."""
    alone = int(tokenizer.num_special_tokens_to_add(pair=False))
    return int(tokenizer.num_special_tokens_to_add(pair=True) <= alone)
