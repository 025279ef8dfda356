"""Exact match and token F1 of answers, as sums over rows and as one evaluate metric.

As the evaluation script of SQuAD 2.0 counts them (Rajpurkar et al., ACL 2018): normalised texts,
the best over the right answers, and for a question without an answer 1 for saying so.
``evaluate.load(path)`` loads this file; ``evaluate.load("squad_v2")`` fetches a script from the
hub.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

from tunetrail.tasks.metrics.labels import Array, divide

_DESCRIPTION = "Exact match and token F1 of answers, normalised as SQuAD does."
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# Columns of the sums: rows, exact match and F1; of rows without an answer their number and score.
_ROWS, _EXACT, _F1, _NONE, _RIGHT_NONE = range(5)


def normalise_answer(text: str) -> str:
    """Lower case, without punctuation, articles and repeated white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 if the prediction is one of the answers; where there is none, if it is empty."""
    found = normalise_answer(prediction)
    return float(any(found == normalise_answer(answer) for answer in answers or [""]))


def token_f1(prediction: str, answers: Sequence[str]) -> float:
    """Return the F1 of the prediction's words against the answer that it is closest to."""
    found = normalise_answer(prediction).split()
    return max(_f1(found, normalise_answer(answer).split()) for answer in answers or [""])


def _f1(found: list[str], wanted: list[str]) -> float:
    if not found or not wanted:
        return float(found == wanted)
    num_same = (Counter(found) & Counter(wanted)).total()
    return 2 * num_same / (len(found) + len(wanted))


def statistics(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> Array:
    """Return what each row adds, shape (rows, 5).

    1, exact match and F1; then whether it has no answer, and whether the prediction says so.

    Args:
        predictions: an empty text says that there is no answer.
        answers: the right ones of each row; none where the context has none.

    """
    rows = np.zeros((len(predictions), 5))
    for row, prediction, right in zip(rows, predictions, answers, strict=True):
        exact, none = exact_match(prediction, right), float(not right)
        row[:] = 1, exact, token_f1(prediction, right), none, none * exact
    return rows


def score(sums: Array) -> dict[str, Array]:
    """Turn sums of :func:`statistics` into metrics: means over rows."""
    return {
        "f1": divide(sums[..., _F1], sums[..., _ROWS]),
        "exact_match": divide(sums[..., _EXACT], sums[..., _ROWS]),
    }


def split(sums: Array) -> tuple[Array, Array]:
    """Split sums into those of the rows that have an answer, and of those that have none."""
    none = np.stack([sums[..., _NONE], *[sums[..., _RIGHT_NONE]] * 2], axis=-1)
    return sums[..., :_NONE] - none, none


class Squad(evaluate.Metric):  # type: ignore[misc]
    """``compute(predictions=, references=)`` with a text, and a list of right ones, of each row."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions: an answer of each row; references: the right ones",
            features=datasets.Features({"predictions": text, "references": datasets.List(text)}),
        )

    def _compute(self, *, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        sums = statistics(predictions, references).sum(axis=0)
        return {name: float(value) for name, value in score(sums).items()}
