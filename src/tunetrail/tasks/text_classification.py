"""One label for each text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from matplotlib.figure import Figure
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tunetrail.config.arguments import require_count
from tunetrail.data.columns import (
    canonical_split,
    read_labels,
    read_texts,
    require_columns,
    require_two_labels,
)
from tunetrail.errors import InputError
from tunetrail.models.loading import Loader
from tunetrail.served.text_classification import softmax
from tunetrail.tasks.base import (
    Array,
    Collator,
    Metric,
    TrainedAsMeasured,
    begin_table,
    length_for,
)
from tunetrail.tasks.metrics.classification import classification
from tunetrail.tasks.metrics.labels import score_labels
from tunetrail.tasks.plots import plot_confusion_matrix


@dataclass(frozen=True)
class TextClassification(TrainedAsMeasured):
    """A label for each text: the columns ``text`` (string) and ``label`` (ClassLabel).

    Args:
        max_length: longer texts are cut after this many tokens.
        padding: ``longest`` pads each batch, ``max_length`` every text, to the same length.
        main_metric: chooses the best weights; shown beside the loss on curves and in the summary.

    """

    max_length: int
    padding: Literal["longest", "max_length"]
    main_metric: str

    pipeline_tag: ClassVar[str] = "text-classification"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": Metric(),
        "macro_f1": Metric(),
        "macro_precision": Metric(),
        "macro_recall": Metric(),
    }
    columns: ClassVar[tuple[str, ...]] = ("text", "label")

    def __post_init__(self) -> None:
        require_count("task.max_length", self.max_length)
        if self.padding not in ("longest", "max_length"):
            raise InputError(f"task.padding={self.padding}: must be longest or max_length")

    def canonicalise(
        self, rows: DatasetDict, columns: Mapping[str, str], *, label_names: Sequence[Any] | None
    ) -> DatasetDict:
        text, label = columns["text"], columns["label"]
        require_columns(rows, {"data.columns.text": text, "data.columns.label": label})
        texts = {
            split: read_texts(part, text, split=split, key="data.columns.text")
            for split, part in rows.items()
        }
        labels, codes = read_labels(rows, label, label_names=label_names)
        return DatasetDict(
            {
                split: canonical_split(
                    part,
                    text=texts[split],
                    target=[None if c is None else labels.names[c] for c in codes[split]],
                    stratum=codes[split],
                    strata=labels,
                    answers=[[] if c is None else [labels.names[c]] for c in codes[split]],
                    names=labels.names,
                    own={"label": (codes[split], labels)},
                )
                for split, part in rows.items()
            }
        )

    def require_learnable(self, train: Dataset) -> None:
        remedy = "raise data.num_train or set data.subset=stratified"
        require_two_labels(train.features["label"], train["label"][:], remedy=remedy)

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        def encode(batch: dict[str, list[Any]], index: list[int]) -> dict[str, Any]:
            encoded = tokenizer(
                batch["text"],
                truncation=True,
                max_length=length_for(tokenizer, self.max_length),
                padding="max_length" if self.padding == "max_length" else False,
            )
            return {**encoded, "labels": batch["label"], "index": index}

        return rows.map(encode, batched=True, with_indices=True, remove_columns=rows.column_names)

    def load_model(
        self, load: Loader, tokenizer: PreTrainedTokenizerBase, train: Dataset
    ) -> PreTrainedModel:
        return load(
            AutoModelForSequenceClassification,
            label_names=train.features["label"].names,
            pad_token_id=int(tokenizer.pad_token_id),
        )

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

    def statistics(self, rows: Dataset, encoded: Dataset, outputs: Array) -> Array:
        chosen = np.empty(len(rows), dtype=int)
        chosen[encoded["index"]] = outputs.argmax(axis=-1)
        return _count(rows, chosen)

    def score(self, sums: Array) -> dict[str, Array]:
        return classification.score(sums)

    def break_down(self, rows: Dataset, sums: Array) -> pd.DataFrame:
        return score_labels(rows.features["label"].names, *np.split(sums, 3), count="rows")

    def tabulate(self, rows: Dataset, encoded: Dataset, outputs: Array) -> pd.DataFrame:
        """Return one line a text, with confidence and probability_<label> beside it."""
        names = rows.features["label"].names
        probabilities = np.empty((len(rows), len(names)))
        probabilities[encoded["index"]] = softmax(outputs)
        frame = begin_table(rows)
        frame["prediction"] = [names[index] for index in probabilities.argmax(axis=-1)]
        frame["confidence"] = probabilities.max(axis=-1)
        for index, name in enumerate(names):
            frame[f"probability_{name}"] = probabilities[:, index]
        return frame.sort_values("row", ignore_index=True)

    def answers(self, table: pd.DataFrame) -> pd.DataFrame:
        return table[["prediction", "confidence"]].set_axis(["label", "score"], axis=1)

    def baselines(self, train: Dataset, rows: Dataset) -> dict[str, Array]:
        """Predict the majority class of ``train``, and at random by the shares of its labels.

        The random baseline counts as it would on average.
        """
        names = train.features["label"].names
        shares = np.bincount(train["label"], minlength=len(names)) / len(train)
        majority = int(shares.argmax())
        return {
            f"the majority class ({names[majority]})": _count(rows, np.full(len(rows), majority)),
            "chance by the labels' shares": _count(rows, np.tile(shares, (len(rows), 1))),
        }

    def plot(self, rows: Dataset, table: pd.DataFrame, *, split: str) -> dict[str, Figure]:
        names = rows.features["label"].names
        counts = pd.crosstab(table["target"], table["prediction"])
        counts = counts.reindex(index=names, columns=names, fill_value=0)
        figure = plot_confusion_matrix(counts.to_numpy(), names, split=split)
        return {"confusion_matrix": figure}

    def limits(self) -> list[str]:
        return [
            f"Texts are cut after {self.max_length} tokens: what comes later is not read.",
            "Every text gets one of the labels, also a text that none of them fits.",
        ]

    def serving_config(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """Cut longer texts as training did, instead of failing."""
        return {"truncation": True, "max_length": length_for(tokenizer, self.max_length)}


def _count(rows: Dataset, predictions: Array) -> Array:
    labels = np.asarray(rows["label"])
    return classification.statistics(labels, predictions, rows.features["label"].num_classes)
