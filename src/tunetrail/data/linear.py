"""A linear model of texts: what words alone say of a label, learnt in seconds."""

import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

Array = npt.NDArray[Any]
# One text, or the two texts of a pair.
Text: TypeAlias = str | tuple[str, str]

# Weights of the model: with 400 labels it would take minutes to fit more.
_MOST_WEIGHTS = 2_000_000
_MOST_FEATURES = 50_000
# What is read of a text, and of all texts to fit on; and rows x labels, for one model of all labels
# and for one of each label. Each bounds a fit to some ten seconds, whatever the data.
_MOST_READ = 5_000
_MOST_READ_OF_ALL = 3_000_000
_MOST_CELLS = 5_000_000
_MOST_CELLS_OF_SETS = 500_000
# Also words of one character, and of languages that write no spaces, symbols.
_WORD = r"\w+|[^\w\s]"


def fit_linear(texts: Sequence[Text], codes: Sequence[int]) -> Pipeline:
    """Fit a logistic regression on TF-IDF of words and pairs of words.

    1,000 tweets take 0.15 s, 30,000 take 3 s; of more texts, or of longer ones, as many are read as
    fit into some ten seconds. It draws no random number. Of a pair of texts it sees the words of
    each, those of both, and how many they share.

    Args:
        texts: at least one with a word.
        codes: the label of each; at least two different ones.

    """
    places = choose_rows(texts, num_labels=len(set(codes)))
    chosen = np.asarray(codes)[places]
    vectorizer = _vectorizer(texts, num_models=len(np.unique(chosen)))
    model = make_pipeline(vectorizer, _regression())
    with warnings.catch_warnings():
        # Texts that are easy to separate: after 200 steps more would change no label.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit([_cut(texts[place]) for place in places], chosen)


def choose_rows(texts: Sequence[Text], *, num_labels: int, of_sets: bool = False) -> Array:
    """Return the places of the texts that a model is fitted on: all, or some that lie evenly."""
    most = (_MOST_CELLS_OF_SETS if of_sets else _MOST_CELLS) // max(num_labels, 1)
    read = sum(sum(map(len, _parts(_cut(text)))) for text in texts)
    most = min(most, int(len(texts) * _MOST_READ_OF_ALL / max(read, 1)), len(texts))
    return np.unique(np.linspace(0, len(texts) - 1, max(most, 2)).round().astype(int))


def predict_linear(model: Pipeline, texts: Sequence[Text], *, num_labels: int) -> Array:
    """Return the probability of each label, shape (texts, labels); 0 for one it never saw."""
    shares = np.zeros((len(texts), num_labels))
    shares[:, model.classes_] = model.predict_proba([_cut(text) for text in texts])
    return shares


def choose_labels(model: Pipeline, texts: Sequence[Text]) -> Array:
    """Return the most probable label of each text, shape (texts,)."""
    return np.concatenate([model.predict(part) for part in _batches(texts, len(model.classes_))])


def fit_predict_sets(
    texts: Sequence[Text], targets: Array, others: Sequence[Text], *, threshold: float
) -> Array:
    """Fit a logistic regression for each label by itself, and return which labels others have.

    Args:
        texts: at least one with a word.
        targets: 1 for each label that a text has, else 0; shape (texts, labels).
        others: what is predicted.
        threshold: a label is given from this probability on.

    Returns:
        1 or 0, int8, shape (others, labels).

    """
    num_labels = targets.shape[1]
    places = choose_rows(texts, num_labels=num_labels, of_sets=True)
    # All labels share the features, and are fitted one after the other.
    vectorizer = _vectorizer(texts, num_models=1)
    features = vectorizer.fit_transform([_cut(texts[place]) for place in places])
    chosen = targets[places]
    # One that all or none of the texts have has nothing to be learnt from.
    always = chosen.mean(axis=0) >= threshold
    models: dict[Any, LogisticRegression] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for code in np.flatnonzero((chosen.min(axis=0) == 0) & (chosen.max(axis=0) == 1)):
            models[code] = _regression().fit(features, chosen[:, code])
    found = []
    for part in _batches(others, num_labels):
        read = vectorizer.transform(part)
        given = np.tile(always.astype(np.int8), (len(part), 1))
        for code, model in models.items():
            given[:, code] = model.predict_proba(read)[:, 1] >= threshold
        found.append(given)
    return np.concatenate(found)


def _regression() -> LogisticRegression:
    return LogisticRegression(C=3.0, max_iter=200)


def _vectorizer(texts: Sequence[Text], *, num_models: int) -> TfidfVectorizer:
    settings = {
        "sublinear_tf": True,
        "max_features": min(_MOST_FEATURES, _MOST_WEIGHTS // max(num_models, 1)),
        "dtype": np.float32,
    }
    if len(texts) and not isinstance(texts[0], str):
        return TfidfVectorizer(analyzer=_read_pair, **settings)
    return TfidfVectorizer(ngram_range=(1, 2), token_pattern=_WORD, **settings)


def _read_pair(pair: tuple[str, str]) -> list[str]:
    """Return the words of each text, and of both, and how many of the shorter one in tenths."""
    first, second = (re.findall(_WORD, text.lower()) for text in pair)
    shared = {*first} & {*second}
    share = len(shared) / max(min(len({*first}), len({*second})), 1)
    return [
        *(f"1 {word}" for word in first),
        *(f"2 {word}" for word in second),
        *(f"both {word}" for word in shared),
        *(f"shared {tenth}" for tenth in range(1, round(10 * share) + 1)),
    ]


def _parts(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def _cut(text: Text) -> Text:
    if isinstance(text, str):
        return text[:_MOST_READ]
    return text[0][:_MOST_READ], text[1][:_MOST_READ]


def _batches(texts: Sequence[Text], num_labels: int) -> Iterator[list[Text]]:
    size = max(1, _MOST_CELLS // max(num_labels, 1))
    for start in range(0, len(texts), size):
        yield [_cut(text) for text in texts[start : start + size]]
