"""What the tasks share that label a text, or a pair of texts, as a whole."""

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, Value
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tunetrail.config.arguments import require_count
from tunetrail.data import linear
from tunetrail.data.columns import count_of, read_texts
from tunetrail.errors import InputError, first_line
from tunetrail.served.base import TEMPERATURE, is_temperature
from tunetrail.served.blank import is_blank
from tunetrail.served.pairs import count_apart, encode_pairs
from tunetrail.tasks.base import (
    MOST_CELLS,
    NUM_CUT,
    Array,
    Baseline,
    Collator,
    TrainedAsMeasured,
    begin_table,
    length_for,
)

log = logging.getLogger(__name__)

# Between the two texts of a pair where a person reads both, and where duplicates are looked for:
# a symbol, which stays where punctuation is folded.
_BETWEEN = " | "
# That are encoded at once.
_MOST_CHARACTERS = 10_000_000
# The columns of both texts; rows of single texts have none of them.
_FIRST, _SECOND = "first", "second"
# Labels of a row with their probabilities, where a table has no room for all of them.
_MOST_PROBABLE = 5


@dataclass(frozen=True)
class Texts:
    """The texts of a split: as a person reads them, and columns of the task's own."""

    text: list[str | None]
    own: dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class SequenceClassification(TrainedAsMeasured, ABC):
    """Labels for a whole text, or for a pair of texts where data.columns.text_pair names one.

    Args:
        max_length: longer texts are cut after this many tokens; of a pair the longer text first.
        padding: ``longest`` pads each batch, ``max_length`` every text, to the same length.
        main_metric: chooses the best weights; shown beside the loss on curves and in the summary.
        temperature: probabilities are of logits divided by it; ``calibrate=true`` fits it.

    """

    max_length: int
    padding: Literal["longest", "max_length"]
    main_metric: str
    temperature: float = field(default=1.0, kw_only=True)

    pipeline_tag: ClassVar[str] = "text-classification"
    says_probabilities: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_count("task.max_length", self.max_length)
        if self.padding not in ("longest", "max_length"):
            raise InputError(f"task.padding={self.padding}: must be longest or max_length")
        if not is_temperature(self.temperature):
            raise InputError(f"task.temperature={self.temperature}: must be a number above 0")

    @abstractmethod
    def list_targets(self, rows: Dataset) -> list[Any]:
        """Return what the loss compares the logits of each row with."""

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        length, targets = length_for(tokenizer, self.max_length), self.list_targets(rows)
        how = {
            "truncation": True,
            "max_length": length,
            "padding": "max_length" if self.padding == "max_length" else False,
        }

        def encode(batch: dict[str, list[Any]], index: list[int]) -> dict[str, Any]:
            if _SECOND in batch:
                encoded = encode_pairs(tokenizer, batch[_FIRST], batch[_SECOND], **how)
                texts = list(zip(batch[_FIRST], batch[_SECOND], strict=True))
            else:
                encoded = tokenizer(batch["text"], **how)
                texts = batch["text"]
            cut = [
                count_cut(found, text, tokenizer)
                for found, text in zip(encoded.encodings or (), texts, strict=False)
            ]
            own = {"labels": [targets[i] for i in index], "index": index}
            # A slow tokenizer does not say what it has cut.
            return {**encoded, **own, NUM_CUT: cut or [0] * len(index)}

        # Until they are cut, the tokens of a batch take 50 bytes for each character.
        longest = max(map(len, rows["text"][:]), default=0)
        found = rows.map(
            encode,
            batched=True,
            batch_size=min(1000, max(1, _MOST_CHARACTERS // max(1, longest))),
            with_indices=True,
            remove_columns=rows.column_names,
        )
        if num_cut := int(np.count_nonzero(found[NUM_CUT][:])):
            log.info(
                "%s of %s have more than %d tokens and are cut there (task.max_length=%d)",
                count_of(num_cut, "text"), f"{len(rows):,}", length, self.max_length,
            )  # fmt: skip
        return found

    def build_collator(
        self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
    ) -> Collator:
        del model
        return DataCollatorWithPadding(tokenizer)

    def predict(self, model: Any, batch: Mapping[str, torch.Tensor], outputs: Any) -> torch.Tensor:
        """Keep the logits, shape (batch, labels)."""
        del model, batch
        logits: torch.Tensor = outputs["logits"]
        return logits

    def at_temperature(self, temperature: float) -> Self:
        return replace(self, temperature=temperature)

    def inputs(self, table: pd.DataFrame) -> pd.DataFrame:
        return table[[name for name in ("text", "text_pair") if name in table]]

    def limits(self) -> list[str]:
        return [f"Texts are cut after {self.max_length} tokens: what comes later is not read."]

    def serving_config(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """Cut longer texts as training did, instead of failing; be as sure as the run is."""
        how = {"truncation": True, "max_length": length_for(tokenizer, self.max_length)}
        return how if self.temperature == 1 else {**how, TEMPERATURE: self.temperature}


def name_columns(columns: Mapping[str, str | None], others: Mapping[str, str]) -> dict[str, str]:
    """Return config key -> column of the texts, and ``others``, the keys of what they are given."""
    keys = {"data.columns.text": str(columns["text"])}
    if (pair := columns.get("text_pair")) is not None:
        keys["data.columns.text_pair"] = pair
    return keys | {**others}


def read_sequences(part: Dataset, columns: Mapping[str, str | None], *, split: str) -> Texts:
    """Read the texts of a split; a row that lacks one of a pair has no text.

    Raises:
        InputError: a column holds something else.

    """
    first = read_texts(part, str(columns["text"]), split=split, key="data.columns.text")
    if (pair := columns.get("text_pair")) is None:
        return Texts(first, {})
    second = read_texts(part, pair, split=split, key="data.columns.text_pair")
    return Texts(
        [_join(*texts) for texts in zip(first, second, strict=True)],
        {
            _FIRST: ([one or "" for one in first], Value("string")),
            _SECOND: ([other or "" for other in second], Value("string")),
        },
    )


def note_inputs(model: PreTrainedModel, rows: Dataset) -> PreTrainedModel:
    """Note in the model's config whether it reads pairs: what serves it reads it there."""
    model.config.reads_text_pairs = _SECOND in rows.column_names
    return model


def begin_sequences(rows: Dataset) -> pd.DataFrame:
    """Begin the table of predictions; of a pair it has both texts."""
    frame = begin_table(rows)
    if _SECOND in rows.column_names:
        frame["text"] = rows[_FIRST]
        frame.insert(frame.columns.get_loc("text") + 1, "text_pair", rows[_SECOND])
    return frame


def texts_for_words(rows: Dataset) -> Sequence[linear.Text]:
    """Return the texts of rows as a model of words reads them: of a pair both."""
    if _SECOND in rows.column_names:
        return [*zip(rows[_FIRST], rows[_SECOND], strict=True)]
    texts: list[str] = rows["text"][:]
    return texts


def learn_words(learn: Callable[[], Array], chosen: Array, num_rows: int) -> Baseline:
    """Return the baseline of a linear model of words.

    Args:
        learn: fits it, and returns its statistics.
        chosen: the rows of train that it is fitted on.
        num_rows: of train.

    """
    key, name = "linear", "a linear model of words"
    try:
        statistics = learn()
    except ValueError as error:  # such as texts without a word
        return Baseline(key, name, None, f"left out: {first_line(error)}")
    some = f"learnt from {len(chosen):,} of {num_rows:,} rows of train"
    return Baseline(key, name, statistics, some if len(chosen) < num_rows else "")


def add_probabilities(frame: pd.DataFrame, shares: Array, names: Sequence[str]) -> pd.DataFrame:
    """Add a column probability_<label> for each label to a table of predictions.

    With too many of them a table has one column ``probabilities`` instead: the most probable
    labels, as JSON.
    """
    if shares.size <= MOST_CELLS:
        columns = [f"probability_{name}" for name in names]
        return pd.concat([frame, pd.DataFrame(shares, columns=columns, index=frame.index)], axis=1)
    order = np.argsort(-shares, axis=1, kind="stable")[:, :_MOST_PROBABLE]
    frame["probabilities"] = [
        json.dumps({names[code]: round(float(row[code]), 6) for code in best}, ensure_ascii=False)
        for row, best in zip(shares, order, strict=True)
    ]
    return frame


def count_cut(
    encoding: Any, text: str | tuple[str, str], tokenizer: PreTrainedTokenizerBase
) -> int:
    """Count the tokens that truncation cut off a text, or off a pair of texts."""
    if not (pieces := encoding.overflowing):
        return 0
    kept: int = len(encoding.ids) - sum(encoding.special_tokens_mask)
    if not isinstance(text, str):
        return count_apart(tokenizer, *text) - kept
    # All pieces but the last are as long as what is kept.
    last = len(pieces[-1].ids) - sum(pieces[-1].special_tokens_mask)
    return kept * (len(pieces) - 1) + int(last)


def _join(first: str | None, second: str | None) -> str | None:
    if first is None or second is None or is_blank(first) or is_blank(second):
        return None
    return first + _BETWEEN + second
