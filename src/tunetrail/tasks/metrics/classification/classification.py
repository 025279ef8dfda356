"""Accuracy, and macro precision, recall and F1, as sums over rows and as one evaluate metric.

``evaluate.load(path)`` loads this file; the usual ``evaluate.load("accuracy")`` fetches a script
from the hub.
"""

import datasets
import evaluate
import numpy as np

from tunetrail.tasks.metrics.labels import Array, divide

_DESCRIPTION = "Accuracy, and macro-averaged precision, recall and F1."


def statistics(labels: Array, predictions: Array, num_labels: int) -> Array:
    """Return what each row adds, shape (rows, 3 x labels): its label, its prediction, the match.

    Args:
        labels: ids, shape (rows,).
        predictions: ids, shape (rows,), or shares of each label, shape (rows, labels).

    """
    # A byte for each: of many rows and labels a float takes eight times the memory.
    one_hot = np.eye(num_labels, dtype=np.int8)
    true = one_hot[labels]
    predicted = one_hot[predictions] if predictions.ndim == 1 else predictions
    return np.concatenate([true, predicted, true * predicted], axis=1)


def score(sums: Array) -> dict[str, Array]:
    """Turn sums of :func:`statistics`, shape (…, 3 x labels), into metrics of shape (…).

    A label without rows, or that is never predicted, scores 0 and counts in the mean.
    """
    true, predicted, right = np.split(sums, 3, axis=-1)

    def mean_share(part: Array, whole: Array) -> Array:
        return np.asarray(divide(part, whole).mean(axis=-1))

    return {
        "accuracy": divide(right.sum(axis=-1), true.sum(axis=-1)),
        "macro_f1": mean_share(2 * right, true + predicted),
        "macro_precision": mean_share(right, predicted),
        "macro_recall": mean_share(right, true),
    }


class Classification(evaluate.Metric):  # type: ignore[misc]
    """``compute(predictions=, references=, num_labels=)`` with integer class ids."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions, references: class ids; num_labels: how many there are",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(
        self, *, predictions: list[int], references: list[int], num_labels: int
    ) -> dict[str, float]:
        rows = statistics(np.asarray(references), np.asarray(predictions), num_labels)
        return {name: float(value) for name, value in score(rows.sum(axis=0)).items()}
