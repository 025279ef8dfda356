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
    firsts, seconds = list(firsts), [before + text for text in seconds]
    if options.get("truncation") is True:
        most = 2 * options["max_length"]
        firsts, seconds = (_cut(texts, tokenizer, most=most) for texts in (firsts, seconds))
    encoded: BatchEncoding = tokenizer(firsts, seconds, **options)
    return encoded


def count_apart(tokenizer: PreTrainedTokenizerBase, first: str, second: str) -> int:
    """Return how many tokens both texts of a pair have, without those that are put around them."""
    both = [first, "\n" * count_added(tokenizer) + second]
    return sum(map(len, tokenizer(both, add_special_tokens=False, verbose=False)["input_ids"]))


def _cut(texts: list[str], tokenizer: PreTrainedTokenizerBase, *, most: int) -> list[str]:
    """Cut texts after so many tokens, of which the tokenizer then cuts off some more.

    It makes each piece that it cuts off one text once for each piece of the other: two texts of
    100 kB give so many that no memory holds them. A slow tokenizer makes no pieces.
    """
    long = [place for place, text in enumerate(texts) if len(text) > most]
    if not long or not tokenizer.is_fast:
        return texts
    read = tokenizer(
        [texts[place] for place in long],
        add_special_tokens=False,
        truncation=True,
        max_length=most,
        return_offsets_mapping=True,
    )
    shorter = [*texts]
    for place, offsets in zip(long, read["offset_mapping"], strict=True):
        if len(offsets) == most:
            shorter[place] = texts[place][: offsets[-1][1]]
    return shorter


def count_added(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many characters :func:`encode_pairs` puts before a second text."""
    alone = int(tokenizer.num_special_tokens_to_add(pair=False))
    return int(tokenizer.num_special_tokens_to_add(pair=True) <= alone)
