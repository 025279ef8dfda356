"""Judge the labels of rows by models that have not seen them.

Confident learning (Northcutt, Jiang and Chuang 2021, arXiv:1911.00068), as cleanlab has it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import ClassLabel, Dataset, DatasetDict
from sklearn.model_selection import StratifiedKFold

from tunetrail.data.columns import count_of
from tunetrail.data.linear import fit_linear, predict_linear
from tunetrail.data.quality.suspects import LINEAR, Judgement, SuspectReport
from tunetrail.data.quality.tags import find_suspect_tags, has_tags

Array = npt.NDArray[Any]

# Three folds take twice as long and find as many planted errors; the model is right 1.5 % more
# often.
_NUM_FOLDS = 2
# Rows and characters that the linear model learns from: 10,000 tweets take some seconds. It judges
# more: the rest has no part in it.
_MOST_FITTED, _MOST_FITTED_CHARACTERS = 10_000, 3_000_000
_MOST_JUDGED_CHARACTERS = 15_000_000
_MOST_READ = 2_000
# Probabilities, rows x labels, that are held at once.
_MOST_CELLS = 5_000_000
# A model that says another label of so few rows is believed. Else confident learning chooses among
# them: of rows that are easy to learn it would miss a fifth of the wrong labels.
_FEW = 0.15
_DOES_NOT_APPLY = (
    "before training, labels are judged where each text has exactly one, or each word a tag; these "
    "rows have none, or several"
)


def find_suspects(dataset: DatasetDict, *, seed: int) -> SuspectReport:
    """Judge the labels of all splits by a linear model that has not seen the row.

    3,000 tweets take 1 to 2 s; of very many, or very long ones, a part is learnt from.
    """
    if all(has_tags(part) for part in dataset.values()):
        return find_suspect_tags(dataset, seed=seed)
    if not all(_has_one_label(part) for part in dataset.values()):
        return SuspectReport((), (_DOES_NOT_APPLY,))
    names = dataset["train"].features["stratum"].names
    texts = [text[:_MOST_READ] for part in dataset.values() for text in part["text"][:]]
    codes = np.concatenate([np.asarray(part["stratum"][:]) for part in dataset.values()])
    order, notes = _choose(texts, len(names), seed=seed)
    shares = _predict_out_of_sample([texts[i] for i in order], codes[order], len(names), seed=seed)
    is_judged = ~np.isnan(shares).any(axis=1)
    if not is_judged.any():
        notes.append(f"no two labels have {_NUM_FOLDS} rows each: there is nothing to judge by")
        return SuspectReport((), tuple(notes))
    if rare := int(np.count_nonzero(~is_judged)):
        notes.append(f"not judged, as too few rows have the same label: {count_of(rare, 'row')}")
    order, shares = order[is_judged], shares[is_judged]
    found = judge(codes[order], shares)
    if found is None:
        notes.append("the linear model does no better than the most frequent label: it judges none")
        return SuspectReport((), tuple(notes))
    judgements, start = [], 0
    for split, part in dataset.items():
        (mine,) = np.nonzero((start <= order) & (order < start + len(part)))
        index = order[mine] - start
        start += len(part)
        if not len(mine):
            continue
        judgements.append(
            Judgement(
                model=LINEAR,
                split=split,
                rows=np.asarray(part["row"][:])[index],
                texts=part.select(index)["text"][:],
                labels=[names[code] for code in codes[order[mine]]],
                suggested=[names[code] for code in shares[mine].argmax(axis=1)],
                quality=found[0][mine],
                is_suspect=found[1][mine],
                num_rows=len(part),
            )
        )
    return SuspectReport(tuple(judgements), tuple(notes))


def judge(codes: Array, shares: Array) -> tuple[Array, Array] | None:
    """Return the quality of each label and whether it is suspect; None if the model knows nothing.

    A model knows nothing if it is right no more often, beyond noise, than the most frequent label.

    Args:
        codes: the labels that rows have, shape (rows,).
        shares: their probabilities by a model that has not seen the row, shape (rows, labels).

    """
    # Its import takes 0.2 s.
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    chosen = shares.argmax(axis=1)
    right = float((chosen == codes).mean())
    noise = np.sqrt(right * (1 - right) / len(codes))
    # Labels that none of these rows has are no alternatives that could be counted.
    present, dense = np.unique(codes, return_inverse=True)
    if len(present) < 2 or right - np.bincount(dense).max() / len(codes) <= 2 * noise:
        return None
    kept = shares[:, present] + 1e-12
    kept = kept / kept.sum(axis=1, keepdims=True)
    quality = get_label_quality_scores(dense, kept, method="self_confidence")
    differs = chosen != codes
    if differs.mean() <= _FEW:
        return quality, differs
    # On tweets with 10 % of wrong labels it has the best precision of cleanlab's filters.
    is_suspect = find_label_issues(dense, kept, filter_by="low_self_confidence", n_jobs=1)
    return quality, is_suspect & differs


def judge_sets(codes: Sequence[Sequence[int]], shares: Array) -> tuple[Array, Array]:
    """Return the same for rows that have several labels or none.

    Args:
        codes: the labels of each row.
        shares: the probability of each label by itself, shape (rows, labels).

    """
    from cleanlab.multilabel_classification import get_label_quality_scores
    from cleanlab.multilabel_classification.filter import find_label_issues

    labels = [list(row) for row in codes]
    quality = get_label_quality_scores(labels, shares)
    suspects = find_label_issues(labels, shares, filter_by="confident_learning", n_jobs=1)
    return quality, suspects


def _has_one_label(part: Dataset) -> bool:
    strata, answers = part.features["stratum"], part.features["answers"].feature
    if not isinstance(strata, ClassLabel) or strata.names != answers.names:
        return False
    return all(
        codes == [code] for codes, code in zip(part["answers"][:], part["stratum"][:], strict=True)
    )


def _choose(texts: Sequence[str], num_labels: int, *, seed: int) -> tuple[Array, list[str]]:
    """Choose the rows that are judged, in random order, and say how many are left out."""
    order = np.random.default_rng(seed).permutation(len(texts))
    most = min(_count_within(texts, order, _MOST_JUDGED_CHARACTERS), _MOST_CELLS // num_labels)
    if most >= len(texts):
        return order, []
    return order[:most], [
        f"{most:,} of {len(texts):,} labels, drawn at random, are judged: all take too long"
    ]


def _count_within(texts: Sequence[str], order: Sequence[int] | Array, num_characters: int) -> int:
    """Return how many texts have so many characters together."""
    read = np.cumsum([len(texts[place]) for place in order])
    return max(1, int(np.searchsorted(read, num_characters, side="right")))


def _predict_out_of_sample(
    texts: Sequence[str], codes: Array, num_labels: int, *, seed: int
) -> Array:
    """Return the probabilities of each label, shape (texts, labels), NaN where there are none.

    The linear model learns from the first texts, in folds; all others have no part in it.
    """
    shares = np.full((len(texts), num_labels), np.nan)
    most = min(_count_within(texts, range(len(texts)), _MOST_FITTED_CHARACTERS), _MOST_FITTED)
    is_known = np.bincount(codes[:most], minlength=num_labels)[codes] >= _NUM_FOLDS
    (places,) = np.nonzero(is_known[:most])
    if len(np.unique(codes[places])) < 2:
        return shares
    folds = StratifiedKFold(_NUM_FOLDS, shuffle=True, random_state=seed)
    for learnt, left_out in folds.split(places, codes[places]):
        kept, asked = places[learnt], places[left_out]
        model = fit_linear([texts[i] for i in kept], codes[kept].tolist())
        shares[asked] = predict_linear(model, [texts[i] for i in asked], num_labels=num_labels)
    rest = (np.flatnonzero(is_known[most:]) + most).tolist()
    if len(rest):
        asked_texts = [texts[i] for i in rest]
        shares[rest] = predict_linear(model, asked_texts, num_labels=num_labels)
    return shares
