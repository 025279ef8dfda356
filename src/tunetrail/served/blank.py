"""Texts in which there is nothing to see."""

import unicodedata

# Controls, characters that only form others, and all kinds of spaces.
_INVISIBLE = ("Cc", "Cf", "Zl", "Zp", "Zs")

# Blank, though Unicode calls them letters, symbols or marks: a joiner, vowels of Khmer, fillers of
# Hangul, the empty pattern of Braille, and selectors of variants.
_BLANK = frozenset(
    "\u034f\u17b4\u17b5\u115f\u1160\u3164\uffa0\u2800\u180b\u180c\u180d\u180f"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)


def is_visible(character: str) -> bool:
    """Whether a character leaves a mark; white space does not."""
    return character not in _BLANK and unicodedata.category(character) not in _INVISIBLE


def is_blank(text: str | None) -> bool:
    """Whether there is no text, or nothing to see in it: white space, controls, zero width."""
    # Most of what is not seen is white space, and a long text of it is stripped at once.
    return not any(map(is_visible, (text or "").strip()))
