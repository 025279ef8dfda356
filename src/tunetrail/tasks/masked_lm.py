"""Masked language modelling: predict the tokens of a text that are masked from all others."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import pandas as pd
import torch
from datasets import Dataset
from transformers import (
    AutoModelForMaskedLM,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tunetrail.errors import InputError
from tunetrail.models.loading import Kind, Loader
from tunetrail.served.fill_mask import encode_windows, fill, frame_parts
from tunetrail.served.language import (
    NOT_COUNTED,
    build_batch,
    find_frame,
    score_tokens,
    tokenize,
)
from tunetrail.tasks.base import Metric, TrainingRows
from tunetrail.tasks.language_modelling import LanguageModelling


@dataclass(frozen=True)
class MaskedLM(LanguageModelling):
    """Devlin et al., "BERT", arXiv:1810.04805, section 3.1, without next sentences.

    Args:
        mask_share: of the tokens that are masked in training, anew in each epoch. Measured is
            always on the same masks, 15 % of the tokens.

    """

    mask_share: float

    pipeline_tag: ClassVar[str] = "fill-mask"
    unsuited: ClassVar[Mapping[Kind, str]] = {
        "decoder": "it fills no masks; a decoder is trained with task=causal_lm",
        "encoder-decoder": "it fills no masks; it is trained with task=text_generation",
    }
    metrics: ClassVar[Mapping[str, Metric]] = {
        "perplexity": Metric(greater_is_better=False, is_share=False),
        "token_accuracy": Metric(),
    }

    def __post_init__(self) -> None:
        """Check the values of the config."""
        super().__post_init__()
        number = isinstance(self.mask_share, int | float) and not isinstance(self.mask_share, bool)
        if not number or not 0 < self.mask_share < 1:
            raise InputError(f"task.mask_share={self.mask_share}: must be a number between 0 and 1")

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """Encode rows with the masks on which models are measured.

        Raises:
            InputError: the tokenizer has no mask token.

        """
        if tokenizer.mask_token_id is None:
            raise InputError(
                "task=masked_lm: the model's tokenizer has no mask token, as it has in encoders; "
                "a decoder is trained with task=causal_lm"
            )
        return self.encode_windows(rows, encode_windows, tokenizer)

    def training_rows(
        self, rows: Dataset, encoded: Dataset, tokenizer: PreTrainedTokenizerBase
    ) -> TrainingRows:
        """Pack all tokens of all texts into blocks of about the same length, without padding.

        What the tokenizer puts after a text stands between texts, too.
        """
        del encoded
        _, after = find_frame(tokenizer)
        texts = ([*ids, *after] for ids in tokenize(rows["text"][:], tokenizer) if ids)
        stream = list(chain.from_iterable(texts))
        # The last one gets what comes after it with its block.
        stream = stream[: len(stream) - len(after)]
        (blocks,) = frame_parts([stream], tokenizer, max_length=self.length(tokenizer))
        special = {*tokenizer.all_special_ids}
        # There is nothing to mask in a block of unknown characters alone.
        blocks = [block for block in blocks if {*block} - special]
        return MaskedAnew(blocks, tokenizer, share=self.mask_share)

    def load_model(
        self, load: Loader, tokenizer: PreTrainedTokenizerBase, train: Dataset
    ) -> PreTrainedModel:
        del train
        return load(AutoModelForMaskedLM, pad_token_id=int(tokenizer.pad_token_id))

    def predict(self, model: Any, batch: Mapping[str, torch.Tensor], outputs: Any) -> torch.Tensor:
        """Keep loss and hit of each masked token, shape (batch, tokens, 2)."""
        del model
        return score_tokens(outputs["logits"], batch["labels"])

    def sample(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, rows: Dataset
    ) -> pd.DataFrame | None:
        """Fill the masks of the beginnings of a few texts."""
        chosen = rows.select(range(min(self.num_samples, len(rows))))
        windows = encode_windows(chosen["text"][:], tokenizer, max_length=self.length(tokenizer))
        first = {window["index"]: window for window in reversed(windows)}
        if not first:
            return None
        inputs, _ = build_batch([*first.values()], pad_token_id=int(tokenizer.pad_token_id))
        device = next(model.parameters()).device
        inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        with torch.inference_mode():
            logits = model(**inputs).logits
        frame = pd.DataFrame(
            {
                "row": [chosen["row"][index] for index in first],
                "masked": [_show(window["input_ids"], tokenizer) for window in first.values()],
                "filled": fill(logits, inputs["input_ids"], tokenizer),
                "text": [chosen["text"][index] for index in first],
            }
        )
        return frame[::-1].reset_index(drop=True)

    def limits(self) -> list[str]:
        return [
            f"It was trained on {self.max_length} tokens at once.",
            "Its perplexity is that of single tokens among all others, not of whole texts.",
            "Its perplexity compares only with that of models with the same tokenizer.",
        ]


class MaskedAnew(torch.utils.data.Dataset[dict[str, Any]]):
    """Blocks of tokens, in each epoch with other masks.

    The masks of a block depend on the seed of the training, the epoch and the block alone: after a
    checkpoint a resumed run goes on with the same ones. The library's collator draws them; by
    itself it would draw from the generator of dropout, whose state is that of another batch then.

    Args:
        blocks: their tokens.
        tokenizer: of the model.
        share: of the tokens that are masked.

    """

    def __init__(
        self, blocks: list[list[int]], tokenizer: PreTrainedTokenizerBase, *, share: float
    ) -> None:
        self.blocks = blocks
        self._draw = DataCollatorForLanguageModeling(tokenizer, mlm_probability=share)
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch, from 0. Trainer calls this."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index >= len(self.blocks):
            raise IndexError(index)
        content = f"{torch.initial_seed()} {self._epoch} {index}".encode()
        seed = int.from_bytes(hashlib.sha256(content).digest()[:7], "little")
        self._draw.generator = torch.Generator().manual_seed(seed)
        while True:
            (ids,), (labels,) = self._draw.torch_mask_tokens(torch.tensor([self.blocks[index]]))
            # The loss of a batch of short blocks without a mask would be no number.
            if labels.ne(NOT_COUNTED).any():
                return {"input_ids": ids.tolist(), "labels": labels.tolist()}


def _show(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """Write a window without what stands around it, but with its masks."""
    hidden = {*tokenizer.all_special_ids} - {tokenizer.mask_token_id}
    return str(tokenizer.decode([id_ for id_ in ids if id_ not in hidden]))
