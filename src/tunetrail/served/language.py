"""What language models share: tokens of texts, and how probable a model finds them."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

# Logits that are worked on at once: 16 MB.
_CELLS = 4_000_000
# Stands for a token that is not counted, as Trainer pads what it keeps of batches.
NOT_COUNTED = -100
# A larger mean, in nats, is as hopeless; its exponential may be no number.
_MOST_NATS = 100.0


def tokenize(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Return the tokens of each text, all of them, and nothing around them."""
    if not texts:
        return []
    # Not verbose: it would warn that a text is longer than a model reads at once.
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)
    return [list(ids) for ids in encoded["input_ids"]]


def find_frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the tokens that a tokenizer puts before a text, and those after it."""
    whole = tokenizer("a")["input_ids"]
    (inner,) = tokenize(["a"], tokenizer)
    ends = range(len(inner), len(whole) + 1)
    end = next(end for end in ends if whole[end - len(inner) : end] == inner)
    return whole[: end - len(inner)], whole[end:]


def split_evenly(ids: Sequence[int], most: int) -> list[list[int]]:
    """Split tokens into as few parts as possible of at most ``most``, as equal as possible."""
    number = max(math.ceil(len(ids) / most), 1)
    ends = [len(ids) * part // number for part in range(number + 1)]
    return [list(ids[start:end]) for start, end in pairwise(ends)]


def build_batch(
    windows: Sequence[dict[str, Any]], *, pad_token_id: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Pad ``input_ids`` and ``labels`` of windows on the right; return inputs and labels."""
    lengths = torch.tensor([[len(window["input_ids"])] for window in windows])
    attention = (torch.arange(int(lengths.max())) < lengths).long()
    ids = _pad([window["input_ids"] for window in windows], pad_token_id)
    labels = _pad([window["labels"] for window in windows], NOT_COUNTED)
    return {"input_ids": ids, "attention_mask": attention}, labels


def _pad(rows: Sequence[list[int]], value: int) -> torch.Tensor:
    length = max(len(row) for row in rows)
    return torch.tensor([row + [value] * (length - len(row)) for row in rows])


def score_tokens(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return loss and hit of each token that is counted.

    Args:
        logits: shape (batch, tokens, vocabulary); those of the token at the same place.
        labels: shape (batch, tokens); -100 where a token is not counted.

    Returns:
        Shape (batch, tokens, 2), float32: the negative log-likelihood in nats, and 1 where the
        token is the most probable one, else 0. Both are -100 where it is not counted.

    """
    scored = torch.full((*labels.shape, 2), float(NOT_COUNTED), device=logits.device)
    places = labels.ne(NOT_COUNTED).nonzero()
    # All at once would need as much memory again as the logits.
    for chosen in torch.split(places, max(1, _CELLS // logits.shape[-1])):
        place = chosen.unbind(dim=1)
        found, target = logits[place].float(), labels[place]
        loss = torch.nn.functional.cross_entropy(found, target, reduction="none")
        scored[place] = torch.stack([loss, (found.argmax(dim=-1) == target).float()], dim=-1)
    return scored


def batch_tokens(model: Any) -> int:
    """Return how many tokens may go through a model at once for 256 MB of logits."""
    return max(1, 16 * _CELLS // int(model.config.vocab_size))


def perplexities(scores: Iterable[tuple[int, Any]], number: int) -> list[float | None]:
    """Return the perplexity of each text; None for a text without a counted token.

    Args:
        scores: number of a text, and what :func:`score_tokens` found of one of its windows.
        number: of texts.

    """
    losses, tokens = [0.0] * number, [0] * number
    for index, scored in scores:
        counted = scored[:, 0] != NOT_COUNTED
        losses[index] += float(scored[counted, 0].sum(dtype="float64"))
        tokens[index] += int(counted.sum())
    means = [loss / count if count else None for loss, count in zip(losses, tokens, strict=True)]
    return [None if mean is None else math.exp(min(mean, _MOST_NATS)) for mean in means]
