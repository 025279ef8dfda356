"""What can be seen of a text: texts that are blank, and labels that look alike."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable

from tunetrail.errors import InputError

# Blank, though Unicode calls them letters, symbols or marks: fillers of Hangul, the empty pattern
# of Braille, variation selectors.
_BLANK = "\u115f\u1160\u3164\uffa0\u2800\ufe0e\ufe0f"

# Controls, characters that only form others, and all kinds of spaces.
_INVISIBLE = ("Cc", "Cf", "Zl", "Zp", "Zs")


def is_blank(text: str | None) -> bool:
    """Whether there is no text, or nothing to see in it: white space, controls, zero width."""
    return not any(_is_visible(character) for character in text or "")


def require_distinct(labels: Iterable[str | None], *, key: str) -> None:
    """Refuse labels that differ in nothing but white space, capitals or Unicode forms.

    Each of them would be a class of its own.

    Args:
        labels: of all rows of all splits.
        key: config key and column.

    Raises:
        InputError: it names the spellings, and how often each is there.

    """
    counts = Counter(label for label in labels if label is not None)
    alike: dict[str, list[str]] = defaultdict(list)
    for label in sorted(counts):
        alike[_fold(label)].append(label)
    for spellings in alike.values():
        if len(spellings) > 1:
            counted = ", ".join(f"{one!r} ({counts[one]:,})" for one in spellings)
            raise InputError(
                f"{key}: {counted} differ only in white space, capitals or form; spell them alike, "
                "or, if they are labels of their own, name every label in data.label_names"
            )


def _is_visible(character: str) -> bool:
    return character not in _BLANK and unicodedata.category(character) not in _INVISIBLE


def _fold(label: str) -> str:
    folded = unicodedata.normalize("NFKC", label).casefold()
    return " ".join("".join(one if _is_visible(one) else " " for one in folded).split())
