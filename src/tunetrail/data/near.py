"""Texts that are nearly the same: what that means, and the pairs of two sets for which it holds.

``NEAR`` says it. A character of a script without spaces counts as a word. Words are those of
``normalise``, and repeats of a word count: the second "the" is another one than the first.

So it depends on the two texts alone whether they are near, never on which others are in the sets.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from scipy.sparse import csgraph

# Of the words of both texts. Two changed words in ten leave eight of ten.
SAME_WORDS = 0.8
# Of the words of the shorter text: a sentence that was added takes no word away.
SAME_INSIDE = 0.9
# Shorter texts may be alike by chance: "google self driving car spotted" stands in four tweets.
TELLING_WORDS, TELLING_CHARACTERS = 8, 45
LONG = 512
# Jaccard index. Two changed words in ten leave 0.47, another second half leaves 0.33.
SAME_NEIGHBOURS = 0.42
NEAR = (
    f"Near are two texts of which at least {SAME_WORDS:.0%} of the words are the same, in whatever "
    f"order, or of which the shorter one stands in the longer one ({SAME_INSIDE:.0%} of its words, "
    f"and of its pairs of neighbouring words), if the shorter one has {TELLING_WORDS} words or "
    f"{TELLING_CHARACTERS} characters: what is shorter people say by chance. Of texts of more than "
    f"{LONG} words pairs of neighbouring words are compared, by a sample: of those that one or the "
    f"other has {SAME_NEIGHBOURS:.0%} are in both."
)
# So many minima sample a long text: the standard error of the index is 0.02.
_NUM_MINIMA = 512
# A candidate shares so many of the rarest words: with one there would be many more to look at.
_HITS = 2
_FEWEST_WORDS = 4
# Hits that are held in memory at once (about 12 bytes each), and that are looked up at most, ten
# times what 60,000 tweets against 20,000 need: else a word is looked up in fewer of its texts.
_CHUNK, _MOST_HITS = 5_000_000, 150_000_000
# Words of candidates that are compared, four times what these need: from then on of the likeliest.
_MOST_CHECKED, _LIKELIEST = 60_000_000, 20
# Scripts that put no space between words: each character counts as one.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
)
# What is no word, such as a sequence of bases: its pieces count.
_OVERLONG = re.compile(r"\S{41,}")
_PIECE = 5
# Texts whose words are hashed, and pairs whose words are compared, at once.
_NUM_TEXTS, _PAIRS = 10_000, 200_000

Codes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
# Odd numbers of 64 bits that mix codes into others.
_MIXERS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))


@dataclass(frozen=True)
class _Sequences:
    """A sequence of codes for each text, one after the other."""

    codes: Codes
    starts: Places

    @property
    def rows(self) -> Places:
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


@dataclass(frozen=True)
class _Sets:
    """A set for each text, as a row of ones; the rarest of all sets have the first columns."""

    matrix: sparse.csr_matrix
    sizes: Places


@dataclass(frozen=True)
class Compared:
    """What of the texts of a set is compared: the words of each, and of long ones a sample."""

    sequences: _Sequences
    words: _Sets
    minima: _Sets
    is_long: npt.NDArray[np.bool_]
    is_telling: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Matches:
    """Pairs of places in two sets that are near, and what they share of their words.

    If it is not ``complete``, so many texts share so many words that not all pairs were compared.
    """

    source: Places
    held_out: Places
    similarity: npt.NDArray[np.float64]
    is_complete: bool


def compare_sets(parts: Sequence[Sequence[str]]) -> list[Compared]:
    """Prepare the normalised texts of each set, so that any two of the sets can be compared."""
    coded = [_code(texts) for texts in parts]
    words = _align([_number_repeats(sequences) for sequences, *_ in coded])
    minima = _align([found for _, found, _ in coded])
    return [
        Compared(sequences, own, sampled, is_long, _is_telling(texts, sequences))
        for texts, (sequences, _, is_long), own, sampled in zip(
            parts, coded, words, minima, strict=True
        )
    ]


def find_near(source: Compared, held_out: Compared) -> Iterator[Matches]:
    """Find all pairs that are near, some at a time; of a set with itself each of them twice."""
    all_compared = True
    for i, j, similarity, is_complete in _find_inside(held_out, source, strictly=False):
        all_compared &= is_complete
        yield Matches(j, i, similarity, is_complete)
    # Else each text of the source looks for itself, also among those that are as long.
    for i, j, similarity, is_complete in _find_inside(source, held_out, strictly=all_compared):
        yield Matches(i, j, similarity, is_complete)


def group_near(texts: Sequence[str]) -> npt.NDArray[np.intp]:
    """Return the group of each normalised text: texts near each other, also over others.

    Short texts count, too: to keep together what need not be costs nothing.
    """
    (compared,) = compare_sets([texts])
    compared = replace(compared, is_telling=np.ones(len(texts), dtype=bool))
    groups: npt.NDArray[np.intp] = np.arange(len(texts))
    for found in find_near(compared, compared):
        ends = (groups[found.source], groups[found.held_out])
        shape = (len(texts), len(texts))
        graph = sparse.coo_matrix((np.ones(len(found.source)), ends), shape=shape)
        groups = csgraph.connected_components(graph, directed=False)[1][groups]
    return groups


def read_words(text: str) -> list[str]:
    """Split a normalised text into what is compared."""
    if not text.isascii():
        text = _UNSPACED.sub(r" \g<0> ", text)
    if len(text) > 40 and _OVERLONG.search(text):
        text = _OVERLONG.sub(_pieces, text)
    return text.split()


def _pieces(found: re.Match[str]) -> str:
    word = found[0]
    return " ".join(word[start : start + _PIECE] for start in range(len(word) - _PIECE + 1))


def _code(texts: Sequence[str]) -> tuple[_Sequences, _Sequences, npt.NDArray[np.bool_]]:
    """Hash the words of short texts, and sample the pairs of neighbouring words of long ones."""
    codes, sizes, minima, num_minima = [], [], [], []
    is_long = np.zeros(len(texts), dtype=bool)
    for start in range(0, len(texts), _NUM_TEXTS):
        words = [read_words(text) for text in texts[start : start + _NUM_TEXTS]]
        flat = np.array([word for found in words for word in found], dtype=object)
        # The same in every process, unlike hash().
        hashed = pd.util.hash_array(flat) if len(flat) else np.empty(0, dtype=np.uint64)
        place = 0
        for row, number in enumerate(map(len, words), start=start):
            found = hashed[place : place + number]
            place += number
            is_long[row] = number > LONG
            codes.append(found[: 0 if is_long[row] else None])
            sizes.append(len(codes[-1]))
            minima.append(_sample(found) if number > LONG // 2 else found[:0])
            num_minima.append(len(minima[-1]))
    return _join(codes, sizes), _join(minima, num_minima), is_long


def _is_telling(texts: Sequence[str], words: _Sequences) -> npt.NDArray[np.bool_]:
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    return (np.diff(words.starts) >= TELLING_WORDS) | (lengths >= TELLING_CHARACTERS)


def _join(codes: Sequence[Codes], sizes: Sequence[int]) -> _Sequences:
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
    return _Sequences(np.concatenate([np.empty(0, dtype=np.uint64), *codes]), starts)


def _sample(words: Codes) -> Codes:
    """Take the smallest of the pairs of neighbouring words in each of as many equal classes."""
    one, other = _MIXERS
    pairs = words[:-1] * one ^ words[1:]
    mixed = np.sort((pairs ^ pairs >> np.uint64(31)) * other)
    classes = mixed >> np.uint64(64 - _NUM_MINIMA.bit_length() + 1)
    return mixed[np.flatnonzero(np.diff(classes, prepend=np.uint64(2**63)))]


def _number_repeats(words: _Sequences) -> _Sequences:
    """Make the words of a text a set: the second of the same word is another, and so on."""
    rows = words.rows
    order = np.lexsort((words.codes, rows))
    codes = words.codes[order]
    is_first = np.ones(len(codes), dtype=bool)
    is_first[1:] = (codes[1:] != codes[:-1]) | (rows[1:] != rows[:-1])
    firsts = np.flatnonzero(is_first)
    repeats = np.arange(len(codes)) - np.repeat(firsts, np.diff(firsts, append=len(codes)))
    return _Sequences(codes + repeats.astype(np.uint64) * _MIXERS[0], words.starts)


def _align(parts: Sequence[_Sequences]) -> list[_Sets]:
    """Give each code of all sets a number, the rarest first."""
    _, columns, counts = np.unique(
        np.concatenate([np.empty(0, dtype=np.uint64), *(part.codes for part in parts)]),
        return_inverse=True,
        return_counts=True,
    )
    ranks = np.empty(len(counts), dtype=np.int32)
    ranks[np.argsort(counts, kind="stable")] = np.arange(len(counts), dtype=np.int32)
    sets, place = [], 0
    for part in parts:
        own = ranks[columns[place : place + len(part.codes)]]
        place += len(part.codes)
        shape = (len(part.starts) - 1, len(counts))
        ones = np.ones(len(own), dtype=np.float32)
        matrix = sparse.csr_matrix((ones, own, part.starts), shape=shape)
        matrix.sort_indices()
        sets.append(_Sets(matrix, np.diff(part.starts)))
    return sets


# Places in both sets, a number for each pair, and whether all pairs were compared.
_Found = tuple[Places, Places, npt.NDArray[np.float64], bool]


def _find_inside(shorter: Compared, longer: Compared, *, strictly: bool) -> Iterator[_Found]:
    """Find pairs of texts that are near, the first of which is the shorter one."""
    for i, j, common, is_complete in _share(shorter.words, longer.words, SAME_WORDS, strictly):
        few, many = shorter.words.sizes[i], longer.words.sizes[j]
        similarity = 2 * common / (few + many)
        is_telling = shorter.is_telling[i]
        is_near = is_telling & (similarity >= SAME_WORDS)
        rest = np.flatnonzero(is_telling & ~is_near & (common >= SAME_INSIDE * few))
        inside = _share_neighbours(shorter.sequences, i[rest], longer.sequences, j[rest])
        is_near[rest] = inside >= SAME_INSIDE
        similarity[rest] = inside
        yield i[is_near], j[is_near], similarity[is_near], is_complete
    for i, j, common, is_complete in _share(
        shorter.minima, longer.minima, SAME_NEIGHBOURS, strictly
    ):
        many = np.maximum(shorter.minima.sizes[i], longer.minima.sizes[j])
        similarity = common / many
        is_near = (similarity >= SAME_NEIGHBOURS) & (shorter.is_long[i] | longer.is_long[j])
        yield i[is_near], j[is_near], similarity[is_near], is_complete


def _share(shorter: _Sets, longer: _Sets, least: float, strictly: bool) -> Iterator[_Found]:
    """Find pairs of sets that have at least that share of the smaller one in common.

    If they have, the larger set holds at least ``_HITS`` of the rarest of the smaller one, of which
    are taken as many as may be missing, and ``_HITS``.
    """
    wanted = np.ceil(shorter.sizes * least - 1e-9).astype(np.int64)
    rarest = np.where(wanted >= _FEWEST_WORDS, shorter.sizes - wanted + _HITS, 0)
    matrix = shorter.matrix
    rare = _first(matrix, rarest)
    texts_of = longer.matrix.T.tocsr()
    numbers = np.diff(texts_of.indptr)
    most = _limit(np.bincount(rare.indices, minlength=len(numbers)), numbers)
    is_complete = most is None
    if most is not None:
        texts_of = _first(texts_of, np.full(len(numbers), most))
        numbers = np.diff(texts_of.indptr)
    products = np.concatenate([[0], np.cumsum(numbers[rare.indices])])[rare.indptr]
    start, checked = 0, 0
    while start < len(wanted):
        end = products[start] + _CHUNK
        stop = max(start + 1, int(np.searchsorted(products, end, side="right")) - 1)
        hits = (rare[start:stop] @ texts_of).tocoo()
        few, many = shorter.sizes[hits.row + start], longer.sizes[hits.col]
        found = (hits.data >= _HITS) & ((many > few) if strictly else (many >= few))
        candidates = sparse.csr_matrix(
            (hits.data[found], (hits.row[found], hits.col[found])), shape=hits.shape
        )
        checked += int(few[found].sum() + many[found].sum())
        if checked > _MOST_CHECKED and np.diff(candidates.indptr).max(initial=0) > _LIKELIEST:
            is_complete = False
            candidates = _likeliest(candidates)
        i, j = candidates.tocoo().row.astype(np.int64) + start, candidates.indices.astype(np.int64)
        common = [
            _count_common(matrix[i[n : n + _PAIRS]], longer.matrix[j[n : n + _PAIRS]])
            for n in range(0, len(i), _PAIRS)
        ]
        counted = np.concatenate([np.empty(0), *common])
        kept = counted >= wanted[i]
        yield i[kept], j[kept], counted[kept], is_complete
        start = stop


def _limit(wanted: Places, numbers: Places) -> int | None:
    """Choose in how many texts each word is looked up; None is all that have it."""
    most = int(numbers.max(initial=0))
    if float(wanted @ numbers) <= _MOST_HITS:
        return None
    while most > 1 and float(wanted @ np.minimum(numbers, most)) > _MOST_HITS:
        most //= 2
    return most


def _first(matrix: sparse.csr_matrix, most: Places) -> sparse.csr_matrix:
    """Keep so many of the first entries of each row."""
    numbers = np.diff(matrix.indptr)
    within = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], numbers)
    kept = np.flatnonzero(within < np.repeat(most, numbers))
    starts = np.concatenate([[0], np.cumsum(np.minimum(numbers, most))])
    return sparse.csr_matrix((matrix.data[kept], matrix.indices[kept], starts), shape=matrix.shape)


def _likeliest(candidates: sparse.csr_matrix) -> sparse.csr_matrix:
    """Keep the entries of each row that share most of the rarest words."""
    numbers = np.diff(candidates.indptr)
    order = np.lexsort((-candidates.data, np.repeat(np.arange(len(numbers)), numbers)))
    ordered = sparse.csr_matrix(
        (candidates.data[order], candidates.indices[order], candidates.indptr),
        shape=candidates.shape,
    )
    return _first(ordered, np.full(len(numbers), _LIKELIEST))


def _count_common(some: sparse.csr_matrix, others: sparse.csr_matrix) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = np.asarray(some.multiply(others).sum(axis=1)).ravel()
    return found


def _share_neighbours(
    shorter: _Sequences, i: Places, longer: _Sequences, j: Places
) -> npt.NDArray[np.float64]:
    """Return the share of the neighbouring words of each shorter text that are so in the longer."""
    shares = np.zeros(len(i))
    for pair in range(len(i)):
        some, others = (
            found.codes[found.starts[row] : found.starts[row + 1]]
            for found, row in ((shorter, i[pair]), (longer, j[pair]))
        )
        neighbours = set(pairwise(others.tolist()))
        held = [both in neighbours for both in pairwise(some.tolist())]
        shares[pair] = sum(held) / len(held)
    return shares
