"""One label for each text."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import evaluate
import numpy as np
import pandas as pd
from datasets import Dataset
from matplotlib.figure import Figure
from transformers import (
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tunetrail.errors import InputError
from tunetrail.evaluation.plots import plot_confusion_matrix
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import Weights, load_sequence_classifier
from tunetrail.tasks import metrics
from tunetrail.tasks.base import Baseline

_METRIC = Path(metrics.__path__[0]) / "classification" / "classification.py"


@dataclass(frozen=True)
class TextClassification:
    """Expects the columns ``text`` (string), ``label`` (ClassLabel) and ``row``.

    Args:
        max_length: longer texts are cut after this many tokens.
        padding: ``longest`` pads each batch, ``max_length`` every text, to the same length.
        main_metric: shown beside the loss on curves and in the summary.

    """

    max_length: int
    padding: Literal["longest", "max_length"]
    main_metric: str
    row_metric: str = "accuracy"
    metric_names: tuple[str, ...] = ("accuracy", "macro_f1", "macro_precision", "macro_recall")
    summary_metrics: tuple[str, ...] = ("accuracy", "macro_f1")
    pipeline_name: str = "text-classification"

    def __post_init__(self) -> None:
        """Check what a person may have set.

        Raises:
            InputError: a length below 1 or of the wrong type, or an unknown padding.

        """
        length = self.max_length
        if isinstance(length, bool) or not isinstance(length, int) or length < 1:
            raise InputError(f"task.max_length={length}: must be a whole number of 1 or more")
        if self.padding not in ("longest", "max_length"):
            raise InputError(f"task.padding={self.padding}: must be longest or max_length")

    def tokenise(self, dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """Add ``input_ids``, ``attention_mask`` and ``labels``."""

        def encode(batch: dict[str, list[Any]]) -> dict[str, Any]:
            encoded = tokenizer(
                batch["text"],
                truncation=True,
                max_length=self.length_for(tokenizer),
                padding="max_length" if self.padding == "max_length" else False,
            )
            return {**encoded, "labels": batch["label"]}

        return dataset.map(encode, batched=True)

    def length_for(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """Return ``max_length``, or what the model can read where that is less."""
        return min(self.max_length, tokenizer.model_max_length)

    def load_model(
        self,
        checkpoint: Checkpoint,
        tokenizer: PreTrainedTokenizerBase,
        dataset: Dataset,
        *,
        weights: Weights | None,
    ) -> PreTrainedModel:
        return load_sequence_classifier(
            checkpoint,
            label_names=dataset.features["label"].names,
            pad_token_id=int(tokenizer.pad_token_id),
            weights=weights,
        )

    def build_collator(
        self, tokenizer: PreTrainedTokenizerBase
    ) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        return DataCollatorWithPadding(tokenizer)

    def build_metrics(self, dataset: Dataset) -> Callable[[EvalPrediction], dict[str, float]]:
        """Score the argmax of the logits, shape (rows, labels), against the label ids."""
        metric = evaluate.load(str(_METRIC), keep_in_memory=True)
        labels = list(range(dataset.features["label"].num_classes))

        def compute(outputs: EvalPrediction) -> dict[str, float]:
            scores = metric.compute(
                predictions=np.argmax(outputs.predictions, axis=-1),
                references=outputs.label_ids,
                labels=labels,
            )
            del scores["confusion_matrix"]
            return dict(scores)

        return compute

    def measure_baseline(self, train: Dataset, validation: Dataset) -> Baseline:
        """Score the class that is most frequent in ``train``."""
        majority = int(np.bincount(train["label"]).argmax())
        one_hot = np.eye(train.features["label"].num_classes)[[majority] * len(validation)]
        scores = self.build_metrics(validation)(
            EvalPrediction(predictions=one_hot, label_ids=np.asarray(validation["label"]))
        )
        return Baseline(name=train.features["label"].int2str(majority), metrics=scores)

    def predictions(self, dataset: Dataset, logits: np.ndarray) -> pd.DataFrame:
        """Return one row a text: row, text, label, prediction, confidence, probability_<name>."""
        names = dataset.features["label"].names
        probabilities = _softmax(logits)
        chosen = probabilities.argmax(axis=-1)
        frame = pd.DataFrame(
            {
                "row": dataset["row"],
                "text": dataset["text"],
                "label": [names[index] for index in dataset["label"]],
                "prediction": [names[index] for index in chosen],
                "confidence": probabilities.max(axis=-1),
            }
        )
        for index, name in enumerate(names):
            frame[f"probability_{name}"] = probabilities[:, index]
        return frame.sort_values("row", ignore_index=True)

    def example(self, dataset: Dataset) -> list[str]:
        return list(dataset["text"][:2])

    def row_scores(self, predictions: pd.DataFrame) -> np.ndarray:
        """Score 1 for each row whose label was found, else 0."""
        right = predictions["label"] == predictions["prediction"]
        return np.asarray(right, dtype=float)

    def baseline_scores(self, train: Dataset, predictions: pd.DataFrame) -> dict[str, np.ndarray]:
        """Score the majority class of ``train``, and a draw by the shares of its labels.

        A draw scores what it would on average: the share of the row's label.
        """
        names = train.features["label"].names
        shares = np.bincount(train["label"], minlength=len(names)) / len(train)
        majority = names[int(shares.argmax())]
        by_name = dict(zip(names, shares, strict=True))
        labels = predictions["label"]
        return {
            f"the majority class ({majority})": np.asarray(labels == majority, dtype=float),
            "chance by the labels' shares": np.asarray(labels.map(by_name), dtype=float),
        }

    def resample_metrics(
        self, dataset: Dataset, logits: np.ndarray, *, num_resamples: int, seed: int
    ) -> dict[str, np.ndarray]:
        """Compute the metrics of resampled rows from how many rows fall into each cell.

        Rows of the same label and prediction are interchangeable, so that drawing the counts of
        the confusion matrix is drawing the rows.
        """
        num_labels = dataset.features["label"].num_classes
        labels, chosen = np.asarray(dataset["label"]), np.argmax(logits, axis=-1)
        cells = np.bincount(labels * num_labels + chosen, minlength=num_labels**2)
        drawn = np.random.default_rng(seed).multinomial(
            len(labels), cells / len(labels), size=num_resamples
        )
        return _score_counts(drawn.reshape(num_resamples, num_labels, num_labels))

    def plot_predictions(
        self, dataset: Dataset, logits: np.ndarray, *, split: str
    ) -> dict[str, Figure]:
        metric = evaluate.load(str(_METRIC), keep_in_memory=True)
        names = dataset.features["label"].names
        scores = metric.compute(
            predictions=np.argmax(logits, axis=-1),
            references=dataset["label"],
            labels=list(range(len(names))),
        )
        figure = plot_confusion_matrix(scores["confusion_matrix"], names, split=split)
        return {"confusion_matrix": figure}


def _score_counts(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Score many confusion matrices at once, shape (many, label, prediction), as the metric does.

    What has no rows scores 0.
    """
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    of_label, predicted = counts.sum(axis=-1), counts.sum(axis=-2)

    def mean_share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        shares = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
        return np.asarray(shares.mean(axis=-1))

    return {
        "accuracy": right.sum(axis=-1) / counts.sum(axis=(-2, -1)),
        "macro_f1": mean_share(2 * right, of_label + predicted),
        "macro_precision": mean_share(right, predicted),
        "macro_recall": mean_share(right, of_label),
    }


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
