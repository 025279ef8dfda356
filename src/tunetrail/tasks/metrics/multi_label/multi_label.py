"""Scores of sets of labels, as sums over rows and as one evaluate metric.

``evaluate.load(path)`` loads this file; the usual ``evaluate.load("f1", "multilabel")`` fetches a
script from the hub.
"""

import datasets
import evaluate
import numpy as np

from tunetrail.tasks.metrics.labels import Array, divide

_DESCRIPTION = "Micro and macro F1, exact match and Hamming loss of sets of labels."


def statistics(targets: Array, predictions: Array) -> Array:
    """Return what each row adds, shape (rows, 3 x labels + 2).

    For each label whether it is true, predicted, and both; then 1, and whether all labels are
    right.

    Args:
        targets: 1 where a row has a label, else 0; shape (rows, labels).
        predictions: the same of what is predicted, or the probability with which it is.

    """
    if are_whole := np.issubdtype(predictions.dtype, np.integer):
        exact = (targets == predictions).all(axis=1)
    else:
        # Labels are predicted independently of each other where they are predicted at random.
        exact = np.where(targets == 1, predictions, 1 - predictions).prod(axis=1)
    parts = [
        targets,
        predictions,
        targets * predictions,
        np.ones((len(targets), 1)),
        exact[:, None],
    ]
    # A byte for each: of many rows and labels a float takes eight times the memory.
    dtype = np.int8 if are_whole else float
    return np.concatenate(parts, axis=1, dtype=dtype, casting="unsafe")


def split(sums: Array) -> tuple[Array, Array, Array]:
    """Split sums into true, predicted and right labels, each of shape (…, labels)."""
    true, predicted, right = np.split(sums[..., :-2], 3, axis=-1)
    return true, predicted, right


def score(sums: Array) -> dict[str, Array]:
    """Turn sums of :func:`statistics` into metrics.

    A label without rows, or that is never predicted, scores 0 and counts in the mean of macro F1.
    The Hamming loss is the share of wrong decisions, one for each row and label.
    """
    true, predicted, right = split(sums)
    wrong = (true + predicted - 2 * right).sum(axis=-1)
    return {
        "micro_f1": divide(2 * right.sum(axis=-1), (true + predicted).sum(axis=-1)),
        "macro_f1": np.asarray(divide(2 * right, true + predicted).mean(axis=-1)),
        "exact_match": divide(sums[..., -1], sums[..., -2]),
        "hamming_loss": divide(wrong, sums[..., -2] * true.shape[-1]),
    }


class MultiLabel(evaluate.Metric):  # type: ignore[misc]
    """``compute(predictions=, references=)`` with 0 or 1 for each label of each row."""

    def _info(self) -> evaluate.MetricInfo:
        labels = datasets.List(datasets.Value("int64"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions, references: 0 or 1 for each label of each row",
            features=datasets.Features({"predictions": labels, "references": labels}),
        )

    def _compute(
        self, *, predictions: list[list[int]], references: list[list[int]]
    ) -> dict[str, float]:
        rows = statistics(np.asarray(references), np.asarray(predictions))
        return {name: float(value) for name, value in score(rows.sum(axis=0)).items()}
