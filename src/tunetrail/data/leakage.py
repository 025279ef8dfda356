"""Find rows of one split that are in another too, exactly or nearly, and drop them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset, DatasetDict

from tunetrail.data.columns import read_targets, read_two_texts
from tunetrail.data.duplicates import normalise
from tunetrail.data.leaks import NUM_EXAMPLES, Leak, LeakageCleaning, LeakageReport, PairLeakage
from tunetrail.data.near import Compared, Matches, compare_sets, find_near
from tunetrail.errors import InputError

# The last two: rows that stand in a prompt.
_PAIRS = (
    ("train", "validation"), ("train", "test"), ("validation", "test"),
    ("examples", "validation"), ("examples", "test"),
)  # fmt: skip


@dataclass(frozen=True)
class _Texts:
    """One split as it is compared: its different normalised texts, and where they are.

    ``first`` holds for each the index of the first row that has it. ``beside`` is what must be the
    same: of two texts in a row the one with fewer words, such as the question beside a context.
    """

    part: Dataset
    texts: list[str]
    keys: list[str]
    unique: dict[str, int]
    first: list[int]
    beside: npt.NDArray[np.int64]
    compared: Compared


def check_leakage(dataset: DatasetDict) -> LeakageReport:
    """Compare the splits with each other, examples of a prompt too; nothing is changed.

    It takes a second or two for 30,000 tweets, and is bounded whatever the texts: see
    ``PairLeakage.is_complete``. Needs ``require_text``.
    """
    texts = _read_splits(dataset)
    return LeakageReport(
        pairs=tuple(
            _check_pair(source, texts[source], held_out, texts[held_out])
            for source, held_out in _PAIRS
            if source in texts and held_out in texts
        )
    )


def drop_leaks(dataset: DatasetDict) -> tuple[DatasetDict, LeakageCleaning]:
    """Drop what matches a held-out split: from validation against test, from train against both.

    Whether two texts match depends on them alone, so ``check_leakage`` finds nothing in the
    result or in any subset of it.

    Raises:
        InputError: nothing of a split is left.

    """
    texts = _read_splits(dataset)
    dropped = {}
    parts = dict(dataset.items())
    is_complete = True
    for split, against in (("validation", ["test"]), ("train", ["validation", "test"])):
        gone: set[str] = set()
        for held_out in against:
            if split in texts and held_out in texts:
                keys = list(texts[split].unique)
                gone |= texts[split].unique.keys() & texts[held_out].unique.keys()
                for found in _near_matches(texts[split], texts[held_out]):
                    gone |= {keys[i] for i in np.unique(found.source)}
                    is_complete &= found.is_complete
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
    return DatasetDict(parts), LeakageCleaning(dropped=dropped, is_complete=is_complete)


def _read_splits(dataset: DatasetDict) -> dict[str, _Texts]:
    """Normalise the texts of all splits, and prepare them to be compared."""
    names: dict[str, int] = {}
    rows = {split: _read_rows(part, names) for split, part in dataset.items()}
    compared = compare_sets([found for *_, found in rows.values()])
    texts = {}
    for (split, (keys, beside, _)), prepared in zip(rows.items(), compared, strict=True):
        unique: dict[str, int] = {}
        first = []
        for index, key in enumerate(keys):
            if key not in unique:
                unique[key] = len(unique)
                first.append(index)
        part = dataset[split]
        texts[split] = _Texts(part, part["text"][:], keys, unique, first, beside, prepared)
    return texts


def _read_rows(
    part: Dataset, names: dict[str, int]
) -> tuple[list[str], npt.NDArray[np.int64], list[str]]:
    """Return the key of each row; for each different one, what must be the same and may be near.

    The first of these is a number that ``names`` holds.
    """
    keys = [normalise(text) for text in part["text"][:]]
    two = read_two_texts(part)
    if two is None:
        unique = list(dict.fromkeys(keys))
        return keys, np.zeros(len(unique), dtype=np.int64), unique
    ordered = {
        key: sorted((normalise(text) for text in both), key=lambda text: len(text.split()))
        for key, both in zip(keys, two, strict=True)
    }
    beside = [names.setdefault(shorter, len(names)) for shorter, _ in ordered.values()]
    return keys, np.array(beside, dtype=np.int64), [longer for _, longer in ordered.values()]


def _near_matches(source: _Texts, held_out: _Texts) -> Iterator[Matches]:
    """Find what is near of the different texts of both, some pairs at a time."""
    for found in find_near(source.compared, held_out.compared):
        same = source.beside[found.source] == held_out.beside[found.held_out]
        yield Matches(
            found.source[same], found.held_out[same], found.similarity[same], found.is_complete
        )


def _check_pair(
    source_name: str, source: _Texts, held_out_name: str, held_out: _Texts
) -> PairLeakage:
    exact = {text: index for index, text in reversed(list(enumerate(source.texts)))}
    near: dict[int, tuple[float, int]] = {}
    is_complete = True
    for found in _near_matches(source, held_out):
        is_complete &= found.is_complete
        # The most similar of each text; of those the first.
        order = np.lexsort((found.source, -found.similarity, found.held_out))
        texts, firsts = np.unique(found.held_out[order], return_index=True)
        for text, i in zip(texts.tolist(), order[firsts].tolist(), strict=True):
            best = (float(found.similarity[i]), -int(found.source[i]))
            near[text] = max(best, near.get(text, best))
    matches: list[tuple[str, float, int, int]] = []
    for index, (text, key) in enumerate(zip(held_out.texts, held_out.keys, strict=True)):
        if text in exact:
            matches.append(("exact", 1.0, index, exact[text]))
        elif key in source.unique:
            matches.append(("normalised", 1.0, index, source.first[source.unique[key]]))
        elif held_out.unique[key] in near:
            similarity, nearest = near[held_out.unique[key]]
            matches.append(("near", similarity, index, source.first[-nearest]))
    held_targets, targets = read_targets(held_out.part), read_targets(source.part)
    kinds = ("exact", "normalised", "near")
    shown = [
        match
        for kind in kinds
        for match in islice((m for m in matches if m[0] == kind), NUM_EXAMPLES)
    ]
    counts = Counter(kind for kind, *_ in matches)
    return PairLeakage(
        source=source_name,
        held_out=held_out_name,
        num_rows=len(held_out.part),
        num_exact=counts["exact"],
        num_normalised=counts["normalised"],
        num_near=counts["near"],
        num_other_label=sum((held_targets[i] or "") != (targets[j] or "") for *_, i, j in matches),
        examples=tuple(
            _describe(kind, similarity, _pick(held_out, i), _pick(source, j))
            for kind, similarity, i, j in shown
        ),
        is_complete=is_complete,
    )


def _pick(texts: _Texts, index: int) -> Mapping[str, Any]:
    row: Mapping[str, Any] = texts.part[index]
    return row


def _describe(
    kind: str, similarity: float, row: Mapping[str, Any], found_in: Mapping[str, Any]
) -> Leak:
    return Leak(
        kind=kind,
        similarity=similarity,
        held_out_row=row["row"],
        held_out_label=row["target"] or "",
        held_out_text=row["text"],
        source_row=found_in["row"],
        source_label=found_in["target"] or "",
        source_text=found_in["text"],
    )
