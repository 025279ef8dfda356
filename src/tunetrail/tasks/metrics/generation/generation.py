"""Scores of generated texts against the right ones, as sums over rows and as one evaluate metric.

``evaluate.load(path)`` loads this file. What a row adds, and what becomes of the sums:

- ``exact_match``, ``f1``: equal after SQuAD's normalisation, and F1 of the words that both have,
  means over rows (Rajpurkar et al., SQuAD, arXiv:1606.05250). It drops case, punctuation and
  articles, so that -1 equals 1; ``verbatim_match`` folds white space alone.
- ``rouge1``, ``rouge2``, ``rougeL``: F-measures, means over rows (Lin, ROUGE, ACL 2004), as
  ``rouge-score`` computes them, without stemming. It knows only Latin letters without accents.
- ``bleu``, ``chrf``: of all rows together, from 0 to 100, as ``sacrebleu`` computes them (Papineni
  et al., ACL 2002; Popović, chrF, WMT 2015).
"""

import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import datasets
import evaluate
import numpy as np

from tunetrail.tasks.metrics.labels import Array, divide
from tunetrail.tasks.metrics.squad.squad import exact_match, token_f1

_DESCRIPTION = "Exact match and F1 of answers, ROUGE of summaries, BLEU and chrF of translations."
_ROUGES = ("rouge1", "rouge2", "rougeL")
_MEANS = ("verbatim_match", "exact_match", "f1", *_ROUGES)
# Lengths, and n-grams of 1 to 4 words; three counts for each of 1 to 6 characters.
_NUM_BLEU, _NUM_CHRF = 10, 18
NUM_STATISTICS = 1 + len(_MEANS) + _NUM_BLEU + _NUM_CHRF


def statistics(predictions: Sequence[str], references: Sequence[str]) -> Array:
    """Return what each row adds, shape (rows, 35): 1, parts of the means, of BLEU and of chrF."""
    bleu, chrf = _sacrebleu()
    rows = np.zeros((len(predictions), NUM_STATISTICS))
    for row, found, right in zip(rows, predictions, references, strict=True):
        rouge = _rouge().score(right, found)
        means = (
            found.split() == right.split(),
            exact_match(found, [right]),
            token_f1(found, [right]),
            *(rouge[name].fmeasure for name in _ROUGES),
        )
        row[:] = [1, *means, *_count(bleu, found, right), *_count(chrf, found, right)]
    return rows


def score(sums: Array) -> dict[str, Array]:
    """Turn sums of :func:`statistics`, shape (…, 35), into metrics of shape (…)."""
    bleu, chrf = _sacrebleu()
    number, means, rest = np.split(sums, [1, 1 + len(_MEANS)], axis=-1)
    return {
        **dict(zip(_MEANS, np.moveaxis(divide(means, number), -1, 0), strict=True)),
        "bleu": _score_each(bleu, rest[..., :_NUM_BLEU]),
        "chrf": _score_each(chrf, rest[..., _NUM_BLEU:]),
    }


def _count(metric: Any, found: str, right: str) -> list[int]:
    """Return what sacrebleu itself sums over rows where it resamples them."""
    (counts,) = metric._extract_corpus_statistics([found], [[right]])  # noqa: SLF001
    return list(counts)


def _score_each(metric: Any, sums: Array) -> Array:
    def score_one(one: Array) -> float:
        return float(metric._compute_score_from_stats(one.tolist()).score)  # noqa: SLF001

    scores: Array = np.apply_along_axis(score_one, -1, np.rint(sums).astype(int))
    return scores


@cache
def _sacrebleu() -> tuple[Any, Any]:
    from sacrebleu import BLEU, CHRF

    return BLEU(), CHRF()


@cache
def _rouge() -> Any:
    # It imports nltk, which takes seconds.
    from absl import logging
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer

    # absl notes what sys.stderr is when it is imported. Whoever configures logging later, as Hydra
    # does for each job, closes that stream unless it is the process's own.
    logging.get_absl_handler().python_handler.setStream(sys.__stderr__)
    return RougeScorer([*_ROUGES], tokenizer=DefaultTokenizer(use_stemmer=False))


class Generation(evaluate.Metric):  # type: ignore[misc]
    """``compute(predictions=, references=)`` with texts."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions: generated texts; references: the right ones",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, *, predictions: list[str], references: list[str]) -> dict[str, float]:
        sums = statistics(predictions, references).sum(axis=0)
        return {name: float(value) for name, value in score(sums).items()}
