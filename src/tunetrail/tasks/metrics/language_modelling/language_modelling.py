"""Perplexity, bits per byte and token accuracy, as sums over rows and as one evaluate metric.

``evaluate.load(path)`` loads this file. Perplexity depends on the tokenizer: with longer tokens
there are fewer to predict, and each is harder. Bits per byte compare across tokenizers, because the
bytes of a text are the same for all of them (Gao et al., The Pile, arXiv:2101.00027, section 3.1).
"""

import math
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
import numpy.typing as npt

_DESCRIPTION = "Perplexity, bits per byte, and the share of tokens that come first."
# A larger mean, in nats, is as hopeless; its exponential may be no number.
MOST_NATS = 100.0

Array = npt.NDArray[Any]


def statistics(losses: Sequence[Array], hits: Sequence[Array], texts: Sequence[str]) -> Array:
    """Return what each row adds, shape (rows, 4).

    These are the negative log-likelihood in nats, the tokens that it is of, the bytes of the text
    in UTF-8, and the tokens to which the model gave the highest probability. A row without a
    token adds nothing.

    Args:
        losses: for each row the negative log-likelihood of its tokens, shape (tokens,).
        hits: for each row 1 where the token was the most probable one, else 0.
        texts: of the rows.

    """
    rows = np.zeros((len(texts), 4))
    for row, loss, hit, text in zip(rows, losses, hits, texts, strict=True):
        if len(loss):
            row[:] = loss.sum(), len(loss), len(text.encode()), hit.sum()
    return rows


def score(sums: Array) -> dict[str, Array]:
    """Turn sums of :func:`statistics` into metrics, and ``loss``, the mean over all tokens."""
    losses, tokens, num_bytes, hits = np.moveaxis(np.asarray(sums, dtype=float), -1, 0)
    loss = divide(losses, tokens)
    return {
        "perplexity": np.exp(np.minimum(loss, MOST_NATS)),
        "bits_per_byte": divide(losses / math.log(2), num_bytes),
        "token_accuracy": divide(hits, tokens),
        "loss": loss,
    }


def divide(part: Array, whole: Array) -> Array:
    """Divide, with 0 for 0 / 0."""
    quotient: Array = np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole > 0)
    return quotient


class LanguageModelling(evaluate.Metric):  # type: ignore[misc]
    """``compute(predictions=, references=, hits=)`` with losses of tokens, texts, and hits."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=(
                "predictions: for each text the negative log-likelihood of its tokens in nats; "
                "references: the texts; hits: for each text which tokens came first, 1 or 0"
            ),
            features=datasets.Features(
                {
                    "predictions": datasets.List(datasets.Value("float64")),
                    "references": datasets.Value("string"),
                }
            ),
        )

    def _compute(
        self, *, predictions: list[list[float]], references: list[str], hits: list[list[int]]
    ) -> dict[str, float]:
        losses, found = ([np.asarray(row) for row in rows] for rows in (predictions, hits))
        sums = statistics(losses, found, references).sum(axis=0)
        return {name: float(value) for name, value in score(sums).items()}
