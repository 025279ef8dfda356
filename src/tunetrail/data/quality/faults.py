"""Which rows of a split have which fault."""

from collections import defaultdict
from collections.abc import Sequence

from datasets import Dataset

from tunetrail.data.columns import read_targets
from tunetrail.data.duplicates import normalise, strip_links
from tunetrail.data.near import group_near
from tunetrail.data.quality.encodings import has_hidden, is_broken, repair_text
from tunetrail.data.quality.languages import find_languages, find_scripts
from tunetrail.served.blank import is_blank

EMPTY = "empty texts"
UNLABELLED = "missing labels"
EXACT_DUPLICATE = "exact duplicates"
NORMALISED_DUPLICATE = "normalised duplicates"
CONFLICT = "conflicting labels"
MISREAD = "misread encodings"
BROKEN = "broken characters"
HIDDEN = "zero-width characters"
NEARLY_EMPTY = "nearly empty texts"
NEAR_DUPLICATE = "near duplicates"
OTHER_SCRIPT = "texts in another script"
OTHER_LANGUAGE = "texts in another language"

# Not wrong in every data set: a person must look. They do not count as rows at fault.
REMARKS = (HIDDEN, NEARLY_EMPTY, NEAR_DUPLICATE, OTHER_SCRIPT, OTHER_LANGUAGE)
# Of these the first row of a group is not counted: it stays.
REPEATED = (EXACT_DUPLICATE, NORMALISED_DUPLICATE, NEAR_DUPLICATE)

# Of a longer text so many characters are looked at, and only exact duplicates are found.
MOST_READ = 10_000
# All pairs of so many different texts are compared in three seconds. Of more, the first ones are.
MOST_NEAR_TEXTS = 30_000
_MOST_NEAR_READ = 1_000

Groups = list[list[int]]


def find_faults(part: Dataset) -> dict[str, Groups]:
    """Return groups of indices for each kind that makes a row useless or wrong.

    Of duplicates the first is the one that stays.
    """
    empty, unlabelled, misread, broken = [], [], [], []
    exact, normalised = defaultdict(list), defaultdict(list)
    labels = read_targets(part)
    for index, (text, label) in enumerate(zip(part["text"][:], labels, strict=True)):
        if label is None:
            unlabelled.append([index])
        if is_blank(text):
            empty.append([index])
            continue
        start = text[:MOST_READ]
        if (repaired := repair_text(start)) != start:
            misread.append([index])
        if is_broken(repaired):
            broken.append([index])
        if label is not None:
            # A row that is dropped anyway is no duplicate: the labelled one must stay.
            exact[text].append(index)
            normalised[normalise(text) if len(text) <= MOST_READ else text].append(index)
    duplicates = [group for group in exact.values() if len(group) > 1]
    later = {index for group in duplicates for index in group[1:]}
    others = (
        [group[0], *(i for i in group[1:] if i not in later)] for group in normalised.values()
    )
    return {
        EMPTY: empty,
        UNLABELLED: unlabelled,
        EXACT_DUPLICATE: duplicates,
        NORMALISED_DUPLICATE: [group for group in others if len(group) > 1],
        CONFLICT: [
            group for group in normalised.values() if len({labels[index] for index in group}) > 1
        ],
        MISREAD: misread,
        BROKEN: broken,
    }


def find_remarks(texts: Sequence[str]) -> tuple[dict[str, Groups], dict[int, str]]:
    """Return groups of indices for each kind that a person must look at, and what was found.

    The latter are the scripts and languages of the texts that are not in those of the rest.
    """
    visible = [i for i, text in enumerate(texts) if not is_blank(text)]
    _, scripts = find_scripts(texts)
    _, languages = find_languages(
        [text if i not in scripts else "" for i, text in enumerate(texts)]
    )
    groups = {
        HIDDEN: [[i] for i in visible if has_hidden(texts[i][:MOST_READ])],
        NEARLY_EMPTY: [[i] for i in visible if _is_nearly_empty(texts[i])],
        NEAR_DUPLICATE: _find_near(texts, visible),
        OTHER_SCRIPT: [[i] for i in scripts],
        OTHER_LANGUAGE: [[i] for i in languages],
    }
    return groups, {**scripts, **languages}


def at_fault(kind: str, group: Sequence[int]) -> Sequence[int]:
    """Return the rows of a group that count."""
    return group[1:] if kind in REPEATED else group


def _is_nearly_empty(text: str) -> bool:
    """Whether a text is less than two characters beside links, mentions and punctuation."""
    if len(text) > MOST_READ:
        return False
    bare = strip_links(text)
    # Half of all texts have a word of two letters at their beginning.
    if len(bare) > 1 and bare[:2].isalnum():
        return False
    # A text of nothing but punctuation is only folded by normalise.
    return len(normalise(f"x {bare}").removeprefix("x").strip()) < 2


def _find_near(texts: Sequence[str], visible: Sequence[int]) -> Groups:
    """Group texts that are near each other and not the same; the first of each stays."""
    first: dict[str, int] = {}
    for index in visible:
        if len(first) == MOST_NEAR_TEXTS:
            break
        first.setdefault(normalise(texts[index][:_MOST_NEAR_READ]), index)
    if len(first) < 2:
        return []
    near: dict[int, list[int]] = defaultdict(list)
    for group, index in zip(group_near(list(first)).tolist(), first.values(), strict=True):
        near[group].append(index)
    return [group for group in near.values() if len(group) > 1]
