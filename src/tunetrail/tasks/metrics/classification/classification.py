"""Accuracy, macro precision, recall and F1, and the confusion matrix, as one evaluate metric.

A local module for ``evaluate.load(path)``: the usual ``evaluate.load("accuracy")`` fetches a
script from the hub. Computed by scikit-learn.
"""

from typing import Any

import datasets
import evaluate
import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

_DESCRIPTION = "Accuracy, macro-averaged precision, recall and F1, and the confusion matrix."


class Classification(evaluate.Metric):  # type: ignore[misc]
    """``compute(predictions=, references=, labels=)`` with integer class ids."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions, references: class ids; labels: all ids there are",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(
        self, *, predictions: list[int], references: list[int], labels: list[int]
    ) -> dict[str, Any]:
        """Return floats, and ``confusion_matrix`` (label x predicted) as a list of lists.

        A class that is never predicted has precision 0: it counts against the mean.
        """
        precision, recall, f1, _ = precision_recall_fscore_support(
            references, predictions, labels=labels, average="macro", zero_division=0.0
        )
        return {
            "accuracy": float(np.mean(np.asarray(predictions) == np.asarray(references))),
            "macro_f1": float(f1),
            "macro_precision": float(precision),
            "macro_recall": float(recall),
            "confusion_matrix": confusion_matrix(references, predictions, labels=labels).tolist(),
        }
