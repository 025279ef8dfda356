"""One label for each text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from matplotlib.figure import Figure
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tunetrail.data import linear
from tunetrail.data.columns import (
    canonical_split,
    read_labels,
    require_columns,
    require_two_labels,
)
from tunetrail.models.loading import Loader
from tunetrail.served.text_classification import softmax
from tunetrail.tasks.base import MOST_CELLS, Array, Baseline, Decisions, Metric, one_loss_each
from tunetrail.tasks.metrics.classification import classification
from tunetrail.tasks.metrics.labels import list_confusions, score_labels
from tunetrail.tasks.plots import plot_confusion_matrix
from tunetrail.tasks.sequence_classification import (
    SequenceClassification,
    add_probabilities,
    begin_sequences,
    learn_words,
    name_columns,
    note_inputs,
    read_sequences,
    texts_for_words,
)
from tunetrail.templates import caption


@dataclass(frozen=True)
class TextClassification(SequenceClassification):
    """A label for each text: the columns ``text`` (string) and ``label`` (ClassLabel).

    With data.columns.text_pair it is a label for each pair of texts.
    """

    metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": Metric(),
        "macro_f1": Metric(is_mean_of_labels=True),
        "macro_precision": Metric(is_mean_of_labels=True),
        "macro_recall": Metric(is_mean_of_labels=True),
    }
    columns: ClassVar[tuple[str, ...]] = ("text", "label")

    def canonicalise(
        self, rows: DatasetDict, columns: Mapping[str, str], *, label_names: Sequence[Any] | None
    ) -> DatasetDict:
        label = columns["label"]
        require_columns(rows, name_columns(columns, {"data.columns.label": label}))
        texts = {split: read_sequences(part, columns, split=split) for split, part in rows.items()}
        labels, codes = read_labels(rows, label, label_names=label_names)
        return DatasetDict(
            {
                split: canonical_split(
                    part,
                    text=texts[split].text,
                    target=[None if c is None else labels.names[c] for c in codes[split]],
                    stratum=codes[split],
                    strata=labels,
                    answers=[[] if c is None else [labels.names[c]] for c in codes[split]],
                    names=labels.names,
                    own={**texts[split].own, "label": (codes[split], labels)},
                )
                for split, part in rows.items()
            }
        )

    def require_learnable(self, train: Dataset) -> None:
        remedy = "raise data.num_train or set data.subset=stratified"
        require_two_labels(train.features["label"], train["label"][:], remedy=remedy)

    def list_targets(self, rows: Dataset) -> list[Any]:
        return list(rows["label"])

    def load_model(
        self, load: Loader, tokenizer: PreTrainedTokenizerBase, train: Dataset
    ) -> PreTrainedModel:
        model = load(
            AutoModelForSequenceClassification,
            label_names=train.features["label"].names,
            pad_token_id=int(tokenizer.pad_token_id),
            problem_type="single_label_classification",
        )
        return note_inputs(model, train)

    def losses(
        self, batch: Mapping[str, torch.Tensor], outputs: Any, kept: torch.Tensor
    ) -> torch.Tensor:
        del outputs
        return one_loss_each(cross_entropy(kept.float(), batch["labels"], reduction="none"))

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
        probabilities[encoded["index"]] = softmax(outputs / self.temperature)
        frame = begin_sequences(rows)
        frame["prediction"] = [names[index] for index in probabilities.argmax(axis=-1)]
        frame["confidence"] = probabilities.max(axis=-1)
        frame = add_probabilities(frame, probabilities, names)
        return frame.sort_values("row", ignore_index=True)

    def decisions(self, rows: Dataset, encoded: Dataset, outputs: Array) -> Decisions | None:
        logits = np.empty_like(outputs)
        logits[encoded["index"]] = outputs
        return Decisions.of_rows(logits, np.asarray(rows["label"]), decided="rows")

    def answers(self, table: pd.DataFrame) -> pd.DataFrame:
        return table[["prediction", "confidence"]].set_axis(["label", "score"], axis=1)

    def baselines(self, train: Dataset, rows: Dataset) -> Iterator[Baseline]:
        """Predict the majority class of ``train``, at random by its shares, and by words alone.

        The random baseline counts as it would on average; with very many labels it is left out.
        """
        names, codes = train.features["label"].names, train["label"][:]
        shares = np.bincount(codes, minlength=len(names)) / len(train)
        majority = int(shares.argmax())
        name = f"the majority class ({caption(names[majority])})"
        yield Baseline("majority", name, _count(rows, np.full(len(rows), majority)))
        if len(rows) * len(names) <= MOST_CELLS:
            chance = _count(rows, np.tile(shares, (len(rows), 1)))
            yield Baseline("chance", "chance by the labels' shares", chance)
        texts = texts_for_words(train)

        def learn() -> Array:
            model = linear.fit_linear(texts, codes)
            return _count(rows, linear.choose_labels(model, texts_for_words(rows)))

        yield learn_words(learn, linear.choose_rows(texts, num_labels=len({*codes})), len(texts))

    def confusions(self, table: pd.DataFrame) -> pd.DataFrame:
        return list_confusions(table["target"], table["prediction"], count="rows")

    def plot(
        self, rows: Dataset, table: pd.DataFrame, by_label: pd.DataFrame, *, split: str
    ) -> dict[str, Figure]:
        del rows
        figure = plot_confusion_matrix(
            table["target"], table["prediction"], by_label["label"].tolist(), split=split
        )
        return {"confusion_matrix": figure}

    def limits(self) -> list[str]:
        return [
            *super().limits(),
            "Every text gets one of the labels, also a text that none of them fits.",
        ]


def _count(rows: Dataset, predictions: Array) -> Array:
    labels = np.asarray(rows["label"])
    return classification.statistics(labels, predictions, rows.features["label"].num_classes)
