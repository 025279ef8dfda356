"""Judge the tags of words by a linear model that has not seen the text, and by other texts.

Of rare entities such a model knows little: of 2,394 tweets with ten types it differs in 500. So the
other texts that have the word must say the same. Of 45 wrong types and lost entities in 900 texts
that can be learnt all are found and nothing else; of 120 in the tweets 59, among 271 suspects: 254
are suspect without planted ones, too, and of the worst eight of those four are wrong.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt
from datasets import Dataset, DatasetDict
from sklearn.feature_extraction import FeatureHasher
from sklearn.linear_model import SGDClassifier

from tunetrail.data.columns import count_of
from tunetrail.data.quality.suspects import LINEAR, Judgement, SuspectReport
from tunetrail.templates import caption

Floats = npt.NDArray[np.float64]

_NUM_FOLDS = 2
_NUM_FEATURES = 2**18
# Words x tags that are judged: 50,000 words with 21 tags take some seconds.
_MOST_CELLS = 1_500_000
# Other texts that have the word, and shares of them.
_FEWEST_TEXTS, _MOST_SAY, _FEW_SAY = 2, 0.7, 0.2
# Words of a text that are shown with their tags.
_MOST_SHOWN = 10


def find_suspect_tags(dataset: DatasetDict, *, seed: int) -> SuspectReport:
    """Judge the tags of all splits; a text is suspect if one of its words has a suspect tag."""
    names = dataset["train"].features["tags"].feature.names
    order, notes = _choose(dataset, len(names), seed=seed)
    tokens = {split: part["tokens"][:] for split, part in dataset.items()}
    tags = {split: part["tags"][:] for split, part in dataset.items()}
    words = [tokens[split][row] for split, row in order]
    ends = [0, *accumulate(map(len, words))]
    codes = np.array([code for split, row in order for code in tags[split][row]], dtype=np.int64)
    shares = _predict_out_of_sample(words, codes, ends, len(names), seed=seed)
    if shares is None:
        return SuspectReport((), (*notes, "too few texts have tags: there is nothing to judge by"))
    chosen = shares.argmax(axis=1)
    if (chosen == codes).mean() <= np.bincount(codes).max() / len(codes):
        notes.append("the linear model does no better than the most frequent tag: it judges none")
        return SuspectReport((), tuple(notes))
    own = shares[np.arange(len(codes)), codes]
    is_suspect = _agree(words, codes, chosen)
    judgements = []
    for split, part in dataset.items():
        mine = [place for place, (of, _) in enumerate(order) if of == split]
        rows = [order[place][1] for place in mine]
        spans = [slice(ends[place], ends[place + 1]) for place in mine]
        found = [np.flatnonzero(is_suspect[span]) for span in spans]
        judgements.append(
            Judgement(
                model=LINEAR,
                split=split,
                rows=np.asarray(part["row"][:])[rows],
                texts=part.select(rows)["text"][:],
                labels=[
                    _show(words[place], codes[span], places, names)
                    for place, span, places in zip(mine, spans, found, strict=True)
                ],
                suggested=[
                    _show(words[place], chosen[span], places, names)
                    for place, span, places in zip(mine, spans, found, strict=True)
                ],
                # A text is as good as its worst word.
                quality=np.array([own[span].min(initial=1.0) for span in spans]),
                is_suspect=np.array([len(places) > 0 for places in found], dtype=bool),
                num_rows=len(part),
            )
        )
    return SuspectReport(tuple(judgements), tuple(notes))


def _choose(
    dataset: DatasetDict, num_tags: int, *, seed: int
) -> tuple[list[tuple[str, int]], list[str]]:
    """Choose the texts that are judged, in random order, and say how many are left out."""
    rows = [(split, row) for split, part in dataset.items() for row in range(len(part))]
    sizes = [len(tags) for part in dataset.values() for tags in part["tags"][:]]
    order = np.random.default_rng(seed).permutation(len(rows))
    read = np.cumsum([sizes[place] for place in order])
    most = max(_NUM_FOLDS, int(np.searchsorted(read, _MOST_CELLS // num_tags, side="right")))
    chosen = [rows[place] for place in order[:most]]
    if most >= len(rows):
        return chosen, []
    number = f"{most:,} of {count_of(len(rows), 'text')}"
    return chosen, [f"the tags of {number}, drawn at random, are judged: all take too long"]


def _predict_out_of_sample(
    words: Sequence[Sequence[str]],
    codes: npt.NDArray[np.int64],
    ends: Sequence[int],
    num_tags: int,
    *,
    seed: int,
) -> Floats | None:
    """Return the probabilities of each tag, shape (words, tags), by a model that lacks the text."""
    hasher = FeatureHasher(_NUM_FEATURES, input_type="string", alternate_sign=False)
    features = hasher.transform(found for text in words for found in _describe(text))
    fold = np.repeat(np.arange(len(words)) % _NUM_FOLDS, np.diff(ends))
    shares = np.zeros((len(codes), num_tags))
    for left_out in range(_NUM_FOLDS):
        is_kept = fold != left_out
        if len(np.unique(codes[is_kept])) < 2 or is_kept.all():
            return None
        model = SGDClassifier(loss="log_loss", alpha=1e-5, max_iter=10, tol=None, random_state=seed)
        model.fit(features[is_kept], codes[is_kept])
        found = model.predict_proba(features[~is_kept])
        shares[np.ix_(np.flatnonzero(~is_kept), model.classes_)] = found
    return shares


def _agree(
    words: Sequence[Sequence[str]], codes: npt.NDArray[np.int64], chosen: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Whether the other texts with a word have the tag that was chosen for it, and not its own."""
    found = [(row, word.casefold()) for row, text in enumerate(words) for word in text]
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for (_, word), code in {*zip(found, codes.tolist(), strict=True)}:
        counts[word][code] += 1
    is_suspect = np.zeros(len(codes), dtype=bool)
    for place in np.flatnonzero(codes != chosen):
        texts = counts[found[place][1]]
        others = texts.total() - 1
        is_suspect[place] = (
            others >= _FEWEST_TEXTS
            and texts[int(chosen[place])] >= _MOST_SAY * others
            and texts[int(codes[place])] - 1 <= _FEW_SAY * others
        )
    return is_suspect


def _describe(text: Sequence[str]) -> Iterator[list[str]]:
    """Describe each word by itself, its ends, its shape and its neighbours."""
    lower = ["", *(word.casefold()[:50] for word in text), ""]
    for place, word in enumerate(text, start=1):
        before, own, after = lower[place - 1 : place + 2]
        shape = "A" if word.isupper() else "Aa" if word[:1].isupper() else "a"
        yield [
            *(f"word {own}", f"before {before}", f"after {after}", f"shape {shape}"),
            *(f"start {own[:3]}", f"end {own[-3:]}", f"both {before} {own}", f"next {own} {after}"),
            *(["digit"] if any(sign.isdigit() for sign in own) else []),
            *(["first"] if place == 1 else []),
        ]


def _show(
    words: Sequence[str],
    codes: npt.NDArray[np.int64],
    places: npt.NDArray[np.intp],
    names: Sequence[str],
) -> str:
    return ", ".join(f"{caption(words[n], 30)}: {names[codes[n]]}" for n in places[:_MOST_SHOWN])


def has_tags(part: Dataset) -> bool:
    """Whether each word of a row has a tag."""
    return {"tokens", "tags"} <= {*part.features}
