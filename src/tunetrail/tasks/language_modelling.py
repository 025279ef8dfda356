"""What causal and masked language modelling have in common: plain texts, scored token by token."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from matplotlib.figure import Figure
from transformers import (
    DataCollatorForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tunetrail.config.arguments import require_count
from tunetrail.data.columns import canonical_split, read_texts, require_columns
from tunetrail.errors import InputError
from tunetrail.served.language import NOT_COUNTED
from tunetrail.tasks.base import Array, Baseline, Collator, Metric, OnePass, length_for, sum_losses
from tunetrail.tasks.metrics.language_modelling import language_modelling

Encode = Callable[..., list[dict[str, Any]]]


@dataclass(frozen=True)
class LanguageModelling(OnePass):
    """The text of a domain, without labels: the column ``text`` (string).

    Args:
        max_length: how many tokens are read at once; a longer text is read in windows, none is cut.
        num_samples: of how many texts of validation the model shows what it makes, at each
            evaluation; 0 shows none.
        main_metric: chooses the best weights; shown beside the loss on curves and in the summary.

    """

    max_length: int
    num_samples: int
    main_metric: str

    is_language_model: ClassVar[bool] = True
    metrics: ClassVar[Mapping[str, Metric]]
    columns: ClassVar[tuple[str, ...]] = ("text",)

    def __post_init__(self) -> None:
        """Check the values of the config."""
        require_count("task.max_length", self.max_length)
        if self.num_samples != 0:
            require_count("task.num_samples", self.num_samples, remedy=", or 0 for none")

    def canonicalise(
        self, rows: DatasetDict, columns: Mapping[str, str], *, label_names: Sequence[Any] | None
    ) -> DatasetDict:
        del label_names
        key, text = "data.columns.text", columns["text"]
        require_columns(rows, {key: text})
        return DatasetDict(
            {
                split: canonical_split(part, text=read_texts(part, text, split=split, key=key))
                for split, part in rows.items()
            }
        )

    def require_learnable(self, train: Dataset) -> None:
        del train  # any text can be learnt

    def length(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """Return how many tokens are read at once."""
        return length_for(tokenizer, self.max_length)

    def encode_windows(
        self, rows: Dataset, encode: Encode, tokenizer: PreTrainedTokenizerBase
    ) -> Dataset:
        """Encode rows with a function of ``served/``, so that a served model reads the same.

        Raises:
            InputError: the length leaves no room, or no row has a token that is counted.

        """

        def encode_batch(batch: dict[str, list[str]], index: list[int]) -> dict[str, list[Any]]:
            try:
                windows = encode(batch["text"], tokenizer, max_length=self.length(tokenizer))
            except ValueError as error:
                raise InputError(f"task.max_length={self.max_length}: {error}") from error
            columns: dict[str, list[Any]] = {"input_ids": [], "labels": [], "index": []}
            for window in windows:
                columns["input_ids"].append(window["input_ids"])
                columns["labels"].append(window["labels"])
                columns["index"].append(index[window["index"]])
            return columns

        encoded = rows.map(
            encode_batch, batched=True, with_indices=True, remove_columns=rows.column_names
        )
        if not len(encoded):
            raise InputError(
                f"none of {len(rows):,} texts has a token that can be predicted; check "
                f"data.columns.text (the first text is {rows['text'][0]!r})"
            )
        return encoded

    def build_collator(
        self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
    ) -> Collator:
        del model
        # Outputs are read by the position of their tokens, so padding must come after them.
        padding = copy.deepcopy(tokenizer)
        padding.padding_side = "right"
        return DataCollatorForTokenClassification(padding, label_pad_token_id=NOT_COUNTED)

    def losses(
        self, batch: Mapping[str, torch.Tensor], outputs: Any, kept: torch.Tensor
    ) -> torch.Tensor:
        del batch, outputs
        return sum_losses(kept[..., 0], counted=kept[..., 0] != NOT_COUNTED)

    def statistics(self, rows: Dataset, encoded: Dataset, outputs: Array) -> Array:
        found: defaultdict[int, list[Array]] = defaultdict(lambda: [np.empty((0, 2))])
        for index, window in zip(encoded["index"], outputs, strict=True):
            found[index].append(window[window[:, 0] != NOT_COUNTED])
        scored = [np.concatenate(found[index], dtype=float) for index in range(len(rows))]
        losses, hits = zip(*((tokens[:, 0], tokens[:, 1]) for tokens in scored), strict=True)
        return language_modelling.statistics(losses, hits, rows["text"])

    def score(self, sums: Array) -> dict[str, Array]:
        scores = language_modelling.score(sums)
        return {name: scores[name] for name in (*self.metrics, "loss")}

    def break_down(self, rows: Dataset, sums: Array) -> pd.DataFrame:
        """There are no labels."""
        del rows, sums
        return pd.DataFrame()

    def tabulate(self, rows: Dataset, encoded: Dataset, outputs: Array) -> pd.DataFrame:
        """Return one line a text, with the tokens that were counted and their perplexity."""
        statistics = self.statistics(rows, encoded, outputs)
        tokens = statistics[:, 1].astype(int)
        perplexity = self.score(statistics)["perplexity"]
        frame = pd.DataFrame(
            {
                "row": rows["row"],
                "text": rows["text"],
                "target": rows["target"],
                "tokens": tokens,
                "perplexity": np.where(tokens > 0, perplexity, np.nan),
            }
        )
        return frame.sort_values("row", ignore_index=True)

    def inputs(self, table: pd.DataFrame) -> pd.DataFrame:
        return table[["text"]]

    def answers(self, table: pd.DataFrame) -> pd.DataFrame:
        return table[["perplexity"]]

    def baselines(self, train: Dataset, rows: Dataset) -> Iterator[Baseline]:
        """None: the untuned model, which is measured at step 0, is the baseline."""
        del train, rows
        yield from ()

    def plot(
        self, rows: Dataset, table: pd.DataFrame, by_label: pd.DataFrame, *, split: str
    ) -> dict[str, Figure]:
        del rows, table, by_label, split
        return {}

    def serving_config(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        return {"max_length": self.length(tokenizer)}
