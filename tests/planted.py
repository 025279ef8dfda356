"""Leaks that are planted: a real text as somebody else might have it, and rows that are none."""

import random
import re
import unicodedata
from collections.abc import Callable, Sequence

from tunetrail.data.duplicates import normalise

Draw = random.Random
# A text, a draw, and the texts that words and sentences are taken from -> the text as it leaks.
Plant = Callable[[str, Draw, Sequence[str]], str]


def _word(draw: Draw, others: Sequence[str]) -> str:
    return draw.choice(
        [word for word in draw.choice(others).split() if word.isalpha()] or ["thing"]
    )


def _change(text: str, places: Sequence[int], draw: Draw, others: Sequence[str]) -> str:
    words = text.split()
    for place in places:
        old = words[place].casefold()
        while words[place].casefold() == old:
            words[place] = _word(draw, others)
    return " ".join(words)


def _change_some(share: int) -> Plant:
    """Change a word in each ten, or more; of less than ten, one."""
