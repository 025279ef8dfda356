"""Labels of a data set: how often each is there, and which differ in their spelling only."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from tunetrail.templates import caption

# Shorter labels that differ in a letter are often different words: cat and car.
_FEWEST_LETTERS = 5
_MOST_LETTERS = _MOST_SHOWN = 100
# Names that are compared, and pairs that are reported.
_MOST_COMPARED = 10_000
_MOST_PAIRS = 50
_NO_LETTER = re.compile(r"[\W_]+")
_DIGITS = re.compile(r"\d+")
# A label with fewer rows than that can hardly be learnt, nor its score be believed.
FEW_ROWS = 10


@dataclass(frozen=True)
class Balance:
    """How even the labels of a split are: the shares of its most and its least frequent label.

    ``ratio`` is how many times as often the most frequent one is there as the rarest; labels that
    are not there at all are left out. ``num_few`` have fewer than ``FEW_ROWS`` rows.
    """

    num_labels: int
    num_present: int
    most: float
    least: float
    ratio: float
    num_few: int


@dataclass(frozen=True)
class AlikeLabels:
    """Two labels that are spelled alike, with their numbers over all splits, the rarer first."""

    label: str
    number: int
    other: str
    other_number: int


def measure_balance(counts: Sequence[int]) -> Balance | None:
    """Measure how even labels are; None where there are none."""
    present = [number for number in counts if number]
    if not present:
        return None
    return Balance(
        num_labels=len(counts),
        num_present=len(present),
        most=max(present) / sum(present),
        least=min(present) / sum(present),
        ratio=max(present) / min(present),
        num_few=sum(number < FEW_ROWS for number in present),
    )


def find_alike(counts: Mapping[str, int]) -> tuple[AlikeLabels, ...]:
    """Find labels that differ in punctuation, accents and spaces only, or in one letter.

    Digits are no spelling: ``level 1`` and ``level 2`` are two labels. Nor is a first letter, which
    may be a prefix: typical and atypical.
    """
    names = sorted(counts, key=lambda name: -counts[name])[:_MOST_COMPARED]
    near: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in names:
        plain = _fold(name)
        digits = "".join(_DIGITS.findall(plain))
        for variant in _variants(plain):
            near[digits, variant].append(name)
    pairs: dict[tuple[str, str], None] = {}
    for alike in near.values():
        # Very many labels of one spelling would be very many pairs.
        for one, other in combinations(alike[:20], 2):
            if one != other and _is_near(_fold(one), _fold(other)):
                rarer, commoner = sorted((one, other), key=lambda name: (counts[name], name))
                pairs[rarer, commoner] = None
    ordered = sorted(pairs, key=lambda pair: (counts[pair[0]], pair))[:_MOST_PAIRS]
    return tuple(
        AlikeLabels(caption(a, _MOST_SHOWN), counts[a], caption(b, _MOST_SHOWN), counts[b])
        for a, b in ordered
    )


def _fold(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name[:_MOST_LETTERS]).casefold()
    bare = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    # A label of signs alone, such as + and -, is what it is.
    return _NO_LETTER.sub("", bare) or name


def _variants(plain: str) -> set[str]:
    """Return a spelling, and those without one letter: two that are near each other share one."""
    if len(plain) < _FEWEST_LETTERS or plain.isdecimal():
        return {plain}
    letters = range(1, len(plain))
    return {plain, *(plain[:i] + plain[i + 1 :] for i in letters if not plain[i].isdecimal())}


def _is_near(one: str, other: str) -> bool:
    """Whether a letter is another, one more, or two neighbours are swapped."""
    shorter, longer = sorted((one, other), key=len)
    if len(shorter) < len(longer):
        return any(longer[:i] + longer[i + 1 :] == shorter for i in range(len(longer)))
    places = [i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    if len(places) < 2:
        return True
    first, last = places[0], places[-1]
    return last == first + 1 and one[first] == other[last] and one[last] == other[first]
