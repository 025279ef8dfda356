"""Labels that look alike."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable

from tunetrail.errors import InputError
from tunetrail.served.blank import is_visible

# Of what is blank and no space, this alone is as wide as one.
_EMPTY_BRAILLE = "\u2800"


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


def _fold(label: str) -> str:
    """Spell a label as it looks, in one way: what has no width is left out."""
    spaced = label.replace(_EMPTY_BRAILLE, " ")
    seen = "".join(one for one in spaced if one.isspace() or is_visible(one))
    return " ".join(unicodedata.normalize("NFKC", seen).casefold().split())
