"""Rows of one split that are in another too, exactly or nearly."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset, DatasetDict
from scipy import sparse
from scipy.sparse import csgraph
from sklearn.feature_extraction.text import HashingVectorizer

from tunetrail.data.duplicates import normalise
from tunetrail.errors import InputError
from tunetrail.templates import quote, render

# Cosine of the sets of 5-grams from which two texts count as near duplicates. On the tweets, pairs
# above it differ by "RT", a comment of a word or two, or "IPhone6" for "iPhone 6"; below 0.75
# most pairs only share a subject.
NEAR_SIMILARITY = 0.8
# Products of rows that are held in memory at once: 32 MB where all of them are similar.
_CHUNK_CELLS = 4_000_000
_NUM_EXAMPLES = 5
_PAIRS = (("train", "validation"), ("train", "test"), ("validation", "test"))


@dataclass(frozen=True)
class Leak:
    """A row of the held-out split and the row of the other split that it matches best.

    ``kind`` is exact, normalised or near; rows are numbered from 0 in their source split.
    """

    kind: str
    similarity: float
    held_out_row: int
    held_out_label: str
    held_out_text: str
    source_row: int
    source_label: str
    source_text: str


@dataclass(frozen=True)
class PairLeakage:
    """Rows of ``held_out`` that are in ``source`` too; each counts once, for its best match."""

    source: str
    held_out: str
    num_rows: int
    num_exact: int
    num_normalised: int
    num_near: int
    num_other_label: int
    examples: tuple[Leak, ...]

    @property
    def num_leaked(self) -> int:
        """Return the number of held-out rows that match any row of the source."""
        return self.num_exact + self.num_normalised + self.num_near

    @property
    def share(self) -> float:
        """Return the share of the held-out split that is leaked."""
        return self.num_leaked / self.num_rows


@dataclass(frozen=True)
class LeakageReport:
    """What ``check_leakage`` found, for each pair of splits."""

    pairs: tuple[PairLeakage, ...]

    @property
    def problems(self) -> int:
        """Held-out rows that leaked, summed over the pairs."""
        return sum(pair.num_leaked for pair in self.pairs)

    def summary(self) -> str:
        """Say in one line how many rows of each held-out split are in another."""
        if not self.problems:
            return "no row is in two splits"
        found = (
            f"{p.num_leaked:,} of {p.num_rows:,} {p.held_out} rows are in {p.source} too "
            f"({p.num_exact:,} exact, {p.num_normalised:,} normalised, {p.num_near:,} near)"
            for p in self.pairs
            if p.num_leaked
        )
        return "; ".join(found)

    def to_dict(self) -> dict[str, Any]:
        pairs = [
            asdict(pair) | {"num_leaked": pair.num_leaked, "share": pair.share}
            for pair in self.pairs
        ]
        return {"problems": self.problems, "summary": self.summary(), "pairs": pairs}

    def to_markdown(self) -> str:
        """Write the page that a person reads."""
        summary = self.summary()
        return render(
            "leakage",
            summary=summary[0].upper() + summary[1:],
            near_similarity=NEAR_SIMILARITY,
            pairs=[
                [
                    pair.held_out,
                    pair.source,
                    f"{pair.num_rows:,}",
                    f"{pair.num_exact:,}",
                    f"{pair.num_normalised:,}",
                    f"{pair.num_near:,}",
                    f"{pair.share:.1%}",
                    f"{pair.num_other_label:,}",
                ]
                for pair in self.pairs
            ],
            examples=[
                (pair.held_out, pair.source, [_example_row(leak) for leak in pair.examples])
                for pair in self.pairs
                if pair.examples
            ],
        )


@dataclass(frozen=True)
class LeakageCleaning:
    """Rows that ``drop_leaks`` dropped from each split."""

    dropped: dict[str, int]

    def summary(self) -> str:
        """Say in one line what was dropped."""
        found = [f"{number:,} from {split}" for split, number in self.dropped.items() if number]
        if not found:
            return "no row was in two splits"
        return f"rows that are in a held-out split too were dropped: {', '.join(found)}"


@dataclass(frozen=True)
class _Texts:
    """One split as it is compared: its different normalised texts, and where they are.

    ``first`` holds for each the index of the first row that has it, ``features`` its set of
    character 5-grams as a unit vector.
    """

    part: Dataset
    texts: list[str]
    keys: list[str]
    unique: dict[str, int]
    first: list[int]
    features: sparse.csr_matrix


def check_leakage(dataset: DatasetDict) -> LeakageReport:
    """Compare each pair of the splits train, validation and test; nothing is changed.

    All pairs of rows are compared, in bounded memory. 1,000 against 1,000 tweets take 0.2 s,
    30,000 against 4,000 about 5 s. Needs ``require_text``.
    """
    texts = {split: _read_texts(part) for split, part in dataset.items()}
    return LeakageReport(
        pairs=tuple(
            _check_pair(source, texts[source], held_out, texts[held_out])
            for source, held_out in _PAIRS
            if source in texts and held_out in texts
        )
    )


def group_near(part: Dataset) -> npt.NDArray[np.intp]:
    """Return the number of each row's group: rows that are near each other, also over others."""
    texts = _read_texts(part)
    pairs = [(found, others) for found, others, _ in _near_matches(texts, texts)]
    ends = [np.concatenate(side) for side in zip(*pairs, strict=True)]
    number = len(texts.unique)
    graph = sparse.coo_matrix((np.ones(len(ends[0])), ends), shape=(number, number))
    _, groups = csgraph.connected_components(graph, directed=False)
    found: npt.NDArray[np.intp] = groups[[texts.unique[key] for key in texts.keys]]
    return found


def drop_leaks(dataset: DatasetDict) -> tuple[DatasetDict, LeakageCleaning]:
    """Drop what matches a held-out split: from validation against test, from train against both.

    Whether two texts match depends on them alone, so ``check_leakage`` finds nothing in the
    result or in any subset of it.

    Raises:
        InputError: nothing of a split is left.

    """
    texts = {split: _read_texts(part) for split, part in dataset.items()}
    dropped = {}
    parts = dict(dataset.items())
    for split, against in (("validation", ["test"]), ("train", ["validation", "test"])):
        gone: set[str] = set()
        for held_out in against:
            if split in texts and held_out in texts:
                gone |= _leaked_keys(texts[split], texts[held_out])
        if not gone:
            continue
        kept = [index for index, key in enumerate(texts[split].keys) if key not in gone]
        if not kept:
            raise InputError(
                f"checks.leakage=clean leaves no rows of {split}: all {len(parts[split]):,} are "
                f"in {' or '.join(against)} too; give other splits, or set checks.leakage=warn"
            )
        dropped[split] = len(parts[split]) - len(kept)
        parts[split] = parts[split].select(kept)
    return DatasetDict(parts), LeakageCleaning(dropped=dropped)


def _read_texts(part: Dataset) -> _Texts:
    texts = part["text"][:]
    keys = [normalise(text) for text in texts]
    unique: dict[str, int] = {}
    first = []
    for index, key in enumerate(keys):
        if key not in unique:
            unique[key] = len(unique)
            first.append(index)
    # Hashed and not weighted by how rare an n-gram is: whether two texts match must not depend on
    # which others are in the set: a subset of a cleaned set must be clean too.
    vectorizer = HashingVectorizer(
        analyzer="char_wb",
        ngram_range=(5, 5),
        lowercase=False,
        binary=True,
        alternate_sign=False,
        dtype=np.float32,
    )
    return _Texts(part, texts, keys, unique, first, vectorizer.transform(unique))


def _near_matches(
    source: _Texts, held_out: _Texts
) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]]:
    """Compare all different texts of both, a block of the held-out ones at a time.

    Gives indices of ``source.unique``, those of ``held_out.unique``, and their similarities.
    """
    transposed = source.features.T.tocsr()
    size = max(1, _CHUNK_CELLS // len(source.unique))
    starts = [*range(0, len(held_out.unique), size), len(held_out.unique)]
    for start, stop in pairwise(starts):
        block = (held_out.features[start:stop] @ transposed).tocoo()
        near = block.data >= NEAR_SIMILARITY
        yield block.col[near], block.row[near] + start, block.data[near]


def _leaked_keys(source: _Texts, held_out: _Texts) -> set[str]:
    keys = list(source.unique)
    near = {keys[i] for found, *_ in _near_matches(source, held_out) for i in np.unique(found)}
    return near | (source.unique.keys() & held_out.unique.keys())


def _check_pair(
    source_name: str, source: _Texts, held_out_name: str, held_out: _Texts
) -> PairLeakage:
    exact = {text: index for index, text in reversed(list(enumerate(source.texts)))}
    near: dict[int, tuple[float, int]] = {}
    for sources, texts, similarities in _near_matches(source, held_out):
        # Ascending, so that the most similar of a text is written last and stays.
        for i in np.argsort(similarities, kind="stable"):
            near[int(texts[i])] = (float(similarities[i]), int(sources[i]))
    leaks = []
    for index, (text, key) in enumerate(zip(held_out.texts, held_out.keys, strict=True)):
        if text in exact:
            kind, similarity, match = "exact", 1.0, exact[text]
        elif key in source.unique:
            kind, similarity, match = "normalised", 1.0, source.first[source.unique[key]]
        elif held_out.unique[key] in near:
            similarity, nearest = near[held_out.unique[key]]
            kind, match = "near", source.first[nearest]
        else:
            continue
        row, found_in = held_out.part[index], source.part[match]
        leaks.append(
            Leak(
                kind=kind,
                similarity=similarity,
                held_out_row=row["row"],
                held_out_label=row["target"] or "",
                held_out_text=row["text"],
                source_row=found_in["row"],
                source_label=found_in["target"] or "",
                source_text=found_in["text"],
            )
        )
    counts = Counter(leak.kind for leak in leaks)
    kinds = ("exact", "normalised", "near")
    return PairLeakage(
        source=source_name,
        held_out=held_out_name,
        num_rows=len(held_out.part),
        num_exact=counts["exact"],
        num_normalised=counts["normalised"],
        num_near=counts["near"],
        num_other_label=sum(leak.held_out_label != leak.source_label for leak in leaks),
        examples=tuple(
            leak
            for kind in kinds
            for leak in [leak for leak in leaks if leak.kind == kind][:_NUM_EXAMPLES]
        ),
    )


def _example_row(leak: Leak) -> list[str]:
    return [
        leak.kind,
        f"{leak.similarity:.2f}",
        quote(f"{leak.held_out_row}: {leak.held_out_text}"),
        quote(leak.held_out_label),
        quote(f"{leak.source_row}: {leak.source_text}"),
        quote(leak.source_label),
    ]
