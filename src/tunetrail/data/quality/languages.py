"""Texts in another script or another language than the rest of their split."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from tunetrail.data.duplicates import strip_links

# A split has a main script or language if so many of the texts that show one show it.
_MAIN_SHARE = 0.8
_FEWEST_TEXTS = 20
# Of each text so many characters are looked at.
_MOST_READ = 1_000
_FEWEST_LETTERS = 3
# Of 4,770 tweets, 3,154 have as many words and are recognised with this confidence: one of them is
# said not to be English, and is French. At a confidence of 0.5 one in 600 is a false alarm.
_FEWEST_WORDS = 6
_CONFIDENCE = 0.9
# Texts whose language is looked for: 10 to 15 thousand in a second.
MOST_LANGUAGE_TEXTS = 20_000
# Japanese is written in three scripts at once.
_TOGETHER = dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA"), "CHINESE OR JAPANESE")


def find_scripts(texts: Sequence[str]) -> tuple[str | None, dict[int, str]]:
    """Return the main script of texts, if they have one, and the texts that are in another.

    Letters alone count, and the script of most of a text's letters is its script.
    """
    return _find_others([_find_script(text[:_MOST_READ]) for text in texts])


def find_languages(texts: Sequence[str]) -> tuple[str | None, dict[int, str]]:
    """Return the main language of texts, if they have one, and the texts that are in another.

    Languages are ISO 639 codes. A short text, or one that py3langid is not sure of, has none. Of
    very many texts those at even distances are read.
    """
    step = -(-len(texts) // MOST_LANGUAGE_TEXTS) or 1
    stripped = {i: strip_links(texts[i][:_MOST_READ]) for i in range(0, len(texts), step)}
    # Without spaces between words a text is one word, and need not be short.
    asked = {
        i: text
        for i, text in stripped.items()
        if len(text.split()) >= _FEWEST_WORDS or _is_dense(text)
    }
    if len(asked) < _FEWEST_TEXTS:
        return None, {}
    identifier = _load_identifier()
    found: list[str | None] = [None] * len(texts)
    for index, text in asked.items():
        language, confidence = identifier.classify(text)
        if confidence >= _CONFIDENCE:
            found[index] = str(language)
    return _find_others(found)


@cache
def _load_identifier() -> Any:
    """Load what recognises languages: half a second."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _is_dense(text: str) -> bool:
    return len(text) >= 5 * _FEWEST_WORDS and _find_script(text) not in ("LATIN", "CYRILLIC", None)


def _find_others(found: Sequence[str | None]) -> tuple[str | None, dict[int, str]]:
    counts = Counter(name for name in found if name is not None)
    if counts.total() < _FEWEST_TEXTS:
        return None, {}
    main, number = counts.most_common(1)[0]
    if number < _MAIN_SHARE * counts.total():
        return None, {}
    return main, {i: name for i, name in enumerate(found) if name not in (None, main)}


def _find_script(text: str) -> str | None:
    if text.isascii():
        return "LATIN" if sum(map(str.isalpha, text)) >= _FEWEST_LETTERS else None
    scripts = Counter(_script(letter) for letter in text if letter.isalpha())
    if not scripts:
        return None
    (script, number), *_ = scripts.most_common(1)
    # One sign of Chinese is a word.
    fewest = 1 if script in _TOGETHER.values() else _FEWEST_LETTERS
    return script if number >= fewest and 2 * number > scripts.total() else None


@cache
def _script(letter: str) -> str:
    """Return the script of a letter: its name in Unicode begins with it."""
    # Letters of other widths and styles are those of a script.
    name = unicodedata.name(unicodedata.normalize("NFKC", letter)[:1], "UNKNOWN").split()[0]
    name = name.removesuffix("-")
    return _TOGETHER.get(name, name)
