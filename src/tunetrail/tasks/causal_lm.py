"""Causal language modelling: predict each token of a text from those before it."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import pandas as pd
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from tunetrail.config.arguments import require_count
from tunetrail.errors import InputError
from tunetrail.models.loading import Kind, Loader, NoHeadError, is_causal
from tunetrail.served.language import split_evenly, tokenize
from tunetrail.served.text_generation import (
    continue_texts,
    encode_windows,
    find_ends,
    score_next_tokens,
)
from tunetrail.tasks.base import Metric, TrainingRows
from tunetrail.tasks.language_modelling import LanguageModelling

_REMEDY = "an encoder is trained with task=masked_lm"


@dataclass(frozen=True)
class CausalLM(LanguageModelling):
    """Train on blocks of ``max_length`` tokens, in which texts follow each other.

    Args:
        max_new_tokens: of a sample, and of a continuation by the served model.

    """

    max_new_tokens: int

    pipeline_tag: ClassVar[str] = "text-generation"
    unsuited: ClassVar[Mapping[Kind, str]] = {
        "encoder": f"it reads what comes after a token, too; {_REMEDY}",
        "encoder-decoder": "it is no language model; it is trained with task=text_generation",
    }
    metrics: ClassVar[Mapping[str, Metric]] = {
        "perplexity": Metric(greater_is_better=False, is_share=False),
        "bits_per_byte": Metric(greater_is_better=False, is_share=False),
        "token_accuracy": Metric(),
    }

    def __post_init__(self) -> None:
        """Check the values of the config."""
        super().__post_init__()
        require_count("task.max_new_tokens", self.max_new_tokens)
        if self.max_new_tokens >= self.max_length:
            raise InputError(
                f"task.max_new_tokens={self.max_new_tokens}: must be less than task.max_length="
                f"{self.max_length}, so that there is room for the beginning of a text"
            )

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """Encode rows in windows.

        Raises:
            InputError: the tokenizer has no token that ends a text.

        """
        if tokenizer.eos_token_id is None:
            raise InputError(
                "task=causal_lm: the model's tokenizer has no token that ends a text, as it has in "
                f"decoders; {_REMEDY}"
            )
        return self.encode_windows(rows, encode_windows, tokenizer)

    def training_rows(
        self, rows: Dataset, encoded: Dataset, tokenizer: PreTrainedTokenizerBase
    ) -> TrainingRows:
        """Pack all tokens of all texts into blocks of about the same length, without padding.

        What ends a text stands after each, so that the model learns where texts end.
        """
        del encoded
        start, end = find_ends(tokenizer)
        first = [] if start == end else [start]
        texts = ([*first, *ids, end] for ids in tokenize(rows["text"][:], tokenizer) if ids)
        stream = [*([start] if start == end else []), *chain.from_iterable(texts)]
        blocks = split_evenly(stream, self.length(tokenizer))
        return Dataset.from_dict({"input_ids": blocks, "labels": blocks})

    def load_model(
        self, load: Loader, tokenizer: PreTrainedTokenizerBase, train: Dataset
    ) -> PreTrainedModel:
        """Load the model with its own head.

        Raises:
            InputError: it is an encoder.

        """
        del train
        try:
            model = load(AutoModelForCausalLM, pad_token_id=int(tokenizer.pad_token_id))
        except NoHeadError as error:
            raise InputError(f"{error}; {_REMEDY}") from error
        if not is_causal(model):
            raise InputError(
                f"task=causal_lm: {type(model).__name__} reads what comes after a token, too, so "
                f"there is nothing to predict; {_REMEDY}"
            )
        # The served model continues texts by so many tokens, and so does an export.
        model.generation_config.max_new_tokens = self.max_new_tokens
        return model

    def predict(self, model: Any, batch: Mapping[str, torch.Tensor], outputs: Any) -> torch.Tensor:
        """Keep loss and hit of each token but the first, shape (batch, tokens - 1, 2)."""
        del model
        return score_next_tokens(outputs["logits"], batch["labels"])

    def sample(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, rows: Dataset
    ) -> pd.DataFrame | None:
        """Continue the first half of a few texts, by the most probable token each time."""
        chosen = rows.select(range(min(self.num_samples, len(rows))))
        halves = [(ids[: (len(ids) + 1) // 2], ids[(len(ids) + 1) // 2 :])
                  for ids in tokenize(chosen["text"][:], tokenizer)]  # fmt: skip
        if not halves:
            return None
        start, _ = find_ends(tokenizer)
        new = min(self.max_new_tokens, self.length(tokenizer) - 1)
        room = self.length(tokenizer) - new
        prompts = [[start, *first][-room:] for first, _ in halves]
        return pd.DataFrame(
            {
                "row": chosen["row"],
                "beginning": [tokenizer.decode(first) for first, _ in halves],
                "continuation": continue_texts(model, tokenizer, prompts, max_new_tokens=new),
                "target": [tokenizer.decode(second) for _, second in halves],
            }
        )

    def limits(self) -> list[str]:
        return [
            f"It was trained on {self.max_length} tokens at once, and uses no more context.",
            "It continues texts as they stand in its data, whether they are true or kind, or not.",
            "Its perplexity compares only with that of models with the same tokenizer.",
        ]
