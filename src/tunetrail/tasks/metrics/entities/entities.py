"""Precision, recall and F1 of entities, and accuracy of tags, as sums and as one evaluate metric.

``evaluate.load(path)`` loads this file. seqeval decides which tags make an entity, as the script
conlleval of CoNLL-2000 does: an ``I-`` that continues nothing begins an entity.
"""

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np
from seqeval.metrics.sequence_labeling import get_entities

from tunetrail.tasks.metrics.labels import Array, divide

_DESCRIPTION = "Precision, recall and F1 of entities over all types, and the accuracy of tags."
Tags = Sequence[str]


def list_types(names: Tags) -> list[str]:
    """Return the entity types that IOB2 tags are made of, sorted."""
    return sorted({name[2:] for name in names if name != "O"})


def list_entities(tags: Tags) -> list[str]:
    """Return the type of each entity in the tags of a row, in their order."""
    return [type_ for type_, *_ in get_entities(list(tags))]


def statistics(targets: Sequence[Tags], predictions: Sequence[Tags], types: Sequence[str]) -> Array:
    """Return what each row adds, shape (rows, 3 x types + 2).

    For each type the true entities, the predicted ones, and those that are both (same type, same
    words); then the number of tags, and of right ones.
    """
    codes = {name: code for code, name in enumerate(types)}
    rows = np.zeros((len(targets), 3 * len(types) + 2))
    for row, target, prediction in zip(rows, targets, predictions, strict=True):
        true, predicted = (set(get_entities(list(tags))) for tags in (target, prediction))
        for part, found in enumerate((true, predicted, true & predicted)):
            for type_, *_ in found:
                row[part * len(types) + codes[type_]] += 1
        row[-2:] = len(target), sum(a == b for a, b in zip(target, prediction, strict=True))
    return rows


def split(sums: Array) -> tuple[Array, Array, Array]:
    """Split sums into true, predicted and right entities, each of shape (…, types)."""
    true, predicted, right = np.split(sums[..., :-2], 3, axis=-1)
    return true, predicted, right


def score(sums: Array) -> dict[str, Array]:
    """Turn sums of :func:`statistics` into metrics over all types; 0 if there is no entity."""
    true, predicted, right = (part.sum(axis=-1) for part in split(sums))
    return {
        "f1": divide(2 * right, true + predicted),
        "precision": divide(right, predicted),
        "recall": divide(right, true),
        "token_accuracy": divide(sums[..., -1], sums[..., -2]),
    }


class Entities(evaluate.Metric):  # type: ignore[misc]
    """``compute(predictions=, references=)`` with lists of IOB2 tags."""

    def _info(self) -> evaluate.MetricInfo:
        tags = datasets.List(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions, references: the tags of each row's words",
            features=datasets.Features({"predictions": tags, "references": tags}),
        )

    def _compute(self, *, predictions: list[Tags], references: list[Tags]) -> dict[str, float]:
        types = list_types([tag for row in [*references, *predictions] for tag in row])
        rows = statistics(references, predictions, types)
        return {name: float(value) for name, value in score(rows.sum(axis=0)).items()}
