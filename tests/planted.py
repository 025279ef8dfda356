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

    def change(text: str, draw: Draw, others: Sequence[str]) -> str:
        # Links, mentions and hyphens: what people see is not what is compared.
        places = [n for n, word in enumerate(text.split()) if normalise(word).isalnum()]
        number = len(normalise(text).split()) * share // 10
        return _change(text, draw.sample(places, min(max(1, number), len(places))), draw, others)

    return change


def _sentence(draw: Draw, others: Sequence[str]) -> str:
    words = draw.choice(others).split()
    return " ".join(words[: draw.randint(4, 12)])


def _reorder(text: str, draw: Draw, others: Sequence[str]) -> str:
    """Shuffle the words of a short text, pieces of eight words of a long one."""
    words = text.split()
    step = 1 if len(words) <= 40 else 8
    parts = [" ".join(words[i : i + step]) for i in range(0, len(words), step)]
    return " ".join(draw.sample(parts, len(parts)))


def _typos(text: str, draw: Draw, others: Sequence[str]) -> str:
    """Drop, double or swap a letter, once in 50 characters."""
    letters = list(text)
    for _ in range(max(1, len(text) // 50)):
        place = draw.choice([i for i, letter in enumerate(letters[:-1]) if letter.isalpha()])
        kind = draw.randrange(3)
        if kind == 0:
            del letters[place]
        elif kind == 1:
            letters.insert(place, letters[place])
        else:
            letters[place : place + 2] = letters[place : place + 2][::-1]
    return "".join(letters)


def _wide(text: str, draw: Draw, others: Sequence[str]) -> str:
    """Write some letters in their full width, as East Asian keyboards do."""
    return "".join(
        chr(ord(c) + 0xFEE0) if c.isascii() and c.isalpha() and draw.random() < 0.5 else c
        for c in text
    )


def _mention(text: str, draw: Draw, others: Sequence[str]) -> str:
    name = f"@{_word(draw, others)}"
    return f"{name} {text}" if draw.random() < 0.5 else f"{text} {name}"


def _punctuate(text: str, draw: Draw, others: Sequence[str]) -> str:
    mark = draw.choice([", ", " - ", "... "])
    return re.sub(r"(?<=\w) (?=\w)", mark, text, count=3) + "!!"


def _other_link(text: str, draw: Draw, others: Sequence[str]) -> str:
    return re.sub(r"https?://\S+", f"http://x.y/{draw.random()}", text)


def _half(text: str, draw: Draw, others: Sequence[str]) -> str:
    """Keep half of the text, and go on as other texts do."""
    words = normalise(text).split()
    other = [word for _ in range(40) for word in normalise(draw.choice(others)).split()]
    half = len(words) // 2
    return " ".join(words[:half] + other[: len(words) - half])


NORMALISED: dict[str, Plant] = {
    "case": lambda text, *_: text.swapcase(),
    "URL added": lambda text, draw, _: f"{text} https://t.co/{draw.randrange(10**6)}",
    "URL changed": _other_link,
    "mention": _mention,
    "punctuation": _punctuate,
    "white space": lambda text, *_: "  ".join(text.split()) + "\n",
    "decomposed": lambda text, *_: unicodedata.normalize("NFD", text),
    "full width": _wide,
}
NEAR: dict[str, Plant] = {
    "one word of ten": _change_some(1),
    "first word": lambda text, draw, others: _change(text, [0], draw, others),
    "last word": lambda text, draw, others: _change(text, [-1], draw, others),
    "two words of ten": _change_some(2),
    "sentence before": lambda text, draw, others: f"{_sentence(draw, others)}. {text}",
    "sentence after": lambda text, draw, others: f"{text} {_sentence(draw, others)}.",
    "reordered": _reorder,
    "typos": _typos,
}
# What shares words with a text and is another.
DIFFERENT: dict[str, Plant] = {
    "half of another": _half,
    "four words of ten": _change_some(4),
    "its beginning": lambda text, draw, others: " ".join(
        [*text.split()[:3], *draw.choice(others).split()]
    ),
}
