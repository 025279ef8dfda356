"""The limit on the length of texts, for all tasks that read texts."""

from transformers import PreTrainedTokenizerBase

from tunetrail.errors import InputError


def require_length(max_length: object) -> None:
    """Check ``task.max_length``.

    Raises:
        InputError: a length below 1 or of the wrong type.

    """
    if isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 1:
        raise InputError(f"task.max_length={max_length}: must be a whole number of 1 or more")


def length_for(tokenizer: PreTrainedTokenizerBase, max_length: int) -> int:
    """Return ``max_length``, or the model's own limit if that is less."""
    return min(max_length, tokenizer.model_max_length)
