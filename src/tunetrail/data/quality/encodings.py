"""Characters that are not what was written: misread ones, which ftfy repairs, and lost ones."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import ftfy
from datasets import Dataset, DatasetDict, List, Value

_LOST = "\ufffd"
# Replacement character, private use, and control characters other than tab and line ends.
_BROKEN = re.compile(
    "[\ufffd\ue000-\uf8ff\U000f0000-\U0010ffff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]"
)
# A word in capitals may end in Ã or Â, and what may follow a word then says nothing: AMANHÃ…,
# IRMÃ”. ftfy takes it for É and such, which it may be, too.
_UNCERTAIN = re.compile("[^\\W\\d_a-zß-ÿ][ÂÃ][…\u2013—\u2019”»\u203a™®°ªº\xa0]")
# What is read in a wrong encoding, and nothing else: quotes, ligatures and HTML stay as they are.
# Lossy sequences stay, too: the character that they become is a guess.
_ONLY_ENCODINGS = ftfy.TextFixerConfig(
    unescape_html=False, normalization=None, replace_lossy_sequences=False, explain=False
)
# Characters that do not show, where none belongs: spaces and joiners of no width, soft hyphens,
# overrides of the direction. Joiners of emoji and of scripts that need them are none of these.
_HIDDEN = re.compile("[\xad\u200b\u2060-\u2064\u202d\u202e\ufeff]")
# Texts of a split that are shown before and after.
_NUM_SHOWN = 5


@dataclass(frozen=True)
class Repair:
    """A text before and after; its row is numbered from 0 in its source split."""

    row: int
    before: str
    after: str


@dataclass(frozen=True)
class Repairs:
    """What was repaired of a split: how many rows, and some of them."""

    num_rows: int
    shown: tuple[Repair, ...]


def repair_text(text: str) -> str:
    """Return a text as it was written, where it is certain how: ``Ã©`` is ``é``.

    A replacement character cannot be repaired: what it replaced is lost.
    """
    if text.isascii() or _UNCERTAIN.search(text):
        return text
    # ftfy works with a byte that stands for a replacement character, and would leave it.
    return _LOST.join(ftfy.fix_encoding(part, _ONLY_ENCODINGS) for part in text.split(_LOST))


def is_broken(text: str) -> bool:
    """Whether a text has characters that nobody wrote and that cannot be repaired."""
    return _BROKEN.search(text) is not None


def has_hidden(text: str) -> bool:
    """Whether a text has characters that do not show."""
    return _HIDDEN.search(text) is not None


def repair(rows: DatasetDict, columns: Collection[str]) -> tuple[DatasetDict, dict[str, Repairs]]:
    """Repair the texts, or lists of words, in some columns of rows as they were read."""
    parts, repairs = {}, {}
    for split, part in rows.items():
        found: dict[int, Repair] = {}
        for column in columns:
            part = _repair_column(part, column, found)  # noqa: PLW2901
        parts[split] = part
        repairs[split] = Repairs(len(found), tuple(found.values())[:_NUM_SHOWN])
    return DatasetDict(parts), repairs


def _repair_column(part: Dataset, column: str, found: dict[int, Repair]) -> Dataset:
    feature = part.features.get(column)
    if feature not in (Value("string"), Value("large_string"), List(Value("string"))):
        return part
    values: Sequence[Any] = part[column][:]
    repaired = [_repair_value(value) for value in values]
    changed = [i for i, pair in enumerate(zip(values, repaired, strict=True)) if pair[0] != pair[1]]
    if not changed:
        return part
    for index in changed:
        found.setdefault(index, Repair(index, _show(values[index]), _show(repaired[index])))
    place = part.column_names
    part = part.remove_columns(column).add_column(column, repaired, feature=feature)
    return part.select_columns(place)


def _repair_value(value: Any) -> Any:
    if isinstance(value, list):
        return [None if one is None else repair_text(one) for one in value]
    return None if value is None else repair_text(value)


def _show(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
