"""Rows with columns of any name -> the columns that everything else reads."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Json, List, Value

from tunetrail.data.appearance import require_distinct
from tunetrail.errors import InputError
from tunetrail.served.blank import is_blank

# The roles that columns have for the tasks of this package. A data set may name columns for tasks
# other than the one at hand.
ROLES = (
    "text", "text_pair", "label", "labels", "tokens", "tags", "prompt", "completion", "messages",
    "question", "context", "answers",
)  # fmt: skip
# Own columns of tasks that read two texts: of a pair, of a question and its context.
_TWO_TEXTS = (("first", "second"), ("question", "context"))
# Those of texts that may be repaired. Answers point into a context by the number of a character.
TEXT_ROLES = ("text", "text_pair", "tokens", "prompt", "completion", "question")
_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.0+)?")


def canonical_split(
    part: Dataset,
    *,
    text: list[str | None],
    target: list[str | None] | None = None,
    stratum: list[int | None] | None = None,
    strata: ClassLabel | None = None,
    answers: list[list[str]] | None = None,
    group: list[str | None] | None = None,
    names: Sequence[str] = (),
    own: Mapping[str, tuple[Any, Any]] | None = None,
) -> Dataset:
    """Build one split of canonical rows: a task's own columns, and those that all tasks share.

    Args:
        part: as it was read; its rows are numbered from 0, so that reports can point at them.
        text: what goes in, as a person reads it.
        target: what should come out, as a person reads it; None where it is missing. Without it the
            task has no labels, and the type of the column is null.
        stratum: code of the group of which each split should have its share.
        strata: names of the groups; without it all rows are of one group, and the type is null.
        answers: the labels in each row's answer, one, several or none: reports show their balance.
        group: rows of one group stay in one split, as duplicates of a text do; without it the type
            is null.
        names: of all labels.
        own: column of the task -> its values and its feature.

    """
    nothing, no_value = [None] * len(part), Value("null")
    feature = ClassLabel(names=list(names))
    codes = {name: code for code, name in enumerate(names)}
    columns = {
        "text": (text, Value("string")),
        "target": (nothing, no_value) if target is None else (target, Value("string")),
        "stratum": (nothing, no_value) if strata is None else (stratum, strata),
        "answers": (
            [[codes[name] for name in found] for found in answers or [[]] * len(part)],
            List(feature),
        ),
        "group": (nothing, no_value) if group is None else (group, Value("string")),
        "row": (np.arange(len(part)), Value("int64")),
        **(own or {}),
    }
    return Dataset.from_dict(
        {name: values for name, (values, _) in columns.items()},
        features=Features({name: feature for name, (_, feature) in columns.items()}),
    )


def read_targets(part: Dataset) -> list[str | None]:
    """Return the target of each row; of a task without labels they are all the same and empty."""
    if part.features["target"] == Value("null"):
        return [""] * len(part)
    targets: list[str | None] = part["target"][:]
    return targets


def read_groups(part: Dataset) -> list[str]:
    """Return what rows must share to stay in one split: their group, else their text."""
    has_groups = part.features["group"] != Value("null")
    found: list[str] = part["group" if has_groups else "text"][:]
    return found


def read_two_texts(part: Dataset) -> list[tuple[str, str]] | None:
    """Return both texts of each row, of which ``text`` is made; None where there is one."""
    for names in _TWO_TEXTS:
        if {*names} <= {*part.column_names}:
            return list(zip(*(part[name][:] for name in names), strict=True))
    return None


def read_strata(part: Dataset) -> tuple[list[int | None], list[str]]:
    """Return the group of each row and the names of the groups; no names if there is only one."""
    feature = part.features["stratum"]
    if feature == Value("null"):
        return [0] * len(part), []
    return part["stratum"][:], list(feature.names)


def require_columns(rows: DatasetDict, keys: Mapping[str, str]) -> None:
    """Check that every split has rows and the columns that were asked for.

    Args:
        keys: config key -> name of the column.

    Raises:
        InputError: a column is missing, or one is asked for twice.

    """
    names = list(keys.values())
    for key, name in keys.items():
        if names.count(name) > 1:
            twice = " and ".join(other for other, found in keys.items() if found == name)
            raise InputError(f"{twice} are both {name!r}; set {key} to another column")
    for split, part in rows.items():
        _require_rows(part, split)
        for key, name in keys.items():
            if name not in part.column_names:
                raise InputError(
                    f"no column {name!r} in {split} (found: {', '.join(part.column_names)}); "
                    f"name one in {key}, or give rows that have it"
                )


def read_texts(part: Dataset, column: str, *, split: str, key: str) -> list[str | None]:
    """Read a column of texts.

    Raises:
        InputError: it holds something else.

    """
    found = part.features[column]
    if found not in (Value("string"), Value("large_string")):
        others = enumerate(part[column][:])
        other = next((pair for pair in others if not isinstance(pair[1], str | None)), None)
        if isinstance(found, Json) and other is not None:
            raise _odd_one(*other, others="text", split=split, key=f"{key}={column}")
        raise InputError(
            f"{key}={column} of {split} holds {_type_name(found)}, not text; "
            f"name another column (found: {', '.join(part.column_names)})"
        )
    texts: list[str | None] = part[column][:]
    return texts


def read_labels(
    rows: DatasetDict, column: str, *, label_names: Sequence[Any] | None
) -> tuple[ClassLabel, dict[str, list[int | None]]]:
    """Read a column of labels: their names, and for each split the code of each row's label.

    Labels may be text, whole numbers, booleans or ClassLabel. Without ``label_names`` they are
    those of train, sorted (numbers by value); with it they are its entries in its order, which a
    label matches by name or, where the labels are numbers that it does not name, by position.

    Raises:
        InputError: a label outside the known set, fewer than two labels.

    """
    if label_names is None:
        require_one_type(rows, column, key="data.columns.label")
    labels = _same_spelling(
        {split: _label_strings(part, column, split) for split, part in rows.items()}
    )
    if label_names is None and not isinstance(rows["train"].features[column], ClassLabel):
        found_labels = (label for part in labels.values() for label in part)
        require_distinct(found_labels, key=f"data.columns.label={column}")
    names = order_labels(rows["train"].features[column], labels["train"], label_names)
    codes = code_labels(labels, names)
    feature = ClassLabel(names=names)
    found = {
        split: _encode(strings, codes, split, column, names) for split, strings in labels.items()
    }
    require_two_labels(
        feature, found["train"], remedy="set data.columns.label, or add rows of another"
    )
    return feature, found


def require_text(dataset: DatasetDict) -> DatasetDict:
    """Return ``dataset`` if every row has a text and, where the task has labels, a label.

    Raises:
        InputError: with the numbers of the rows that lack one, counted from 0 in their source.

    """
    for split, part in dataset.items():
        _require_rows(part, split)
        empty = [is_blank(text) for text in part["text"][:]]
        missing = [found is None for found in read_targets(part)]
        # Without groups of labels a target is a text.
        is_text = part.features["stratum"] == Value("null")
        target = "no completion or answer" if is_text else "no label"
        for faults, what in ((empty, "an empty text"), (missing, target)):
            if any(faults):
                numbers = [row for row, fault in zip(part["row"][:], faults, strict=True) if fault]
                raise InputError(
                    f"{split}: {count_of(len(numbers), 'row')} with {what} ({listed(numbers)}, "
                    "counted from 0); fix them, or set checks.quality=clean to drop them"
                )
    return dataset


def require_two_labels(labels: ClassLabel, train: Sequence[int | None], *, remedy: str) -> None:
    """Raise InputError, with ``remedy``, unless train has two labels or more."""
    found = sorted({label for label in train if label is not None})
    if len(found) < 2:
        what = f"the single label {labels.int2str(found[0])!r}" if found else "no labels"
        raise InputError(f"train has {what}, and a classifier needs two or more; {remedy}")


def require_one_type(rows: DatasetDict, column: str, *, key: str) -> None:
    """Refuse labels of several types: the odd one would be a class of its own.

    Args:
        rows: of all splits.
        column: of labels, or of lists of labels.
        key: its config key.

    Raises:
        InputError: it names the first label of the rarest type.

    """
    for split, part in rows.items():
        if not isinstance(part.features[column], Json):
            continue
        kinds: dict[str, list[tuple[int, Any]]] = {}
        for number, found in enumerate(part[column][:]):
            for label in found if isinstance(found, list) else [found]:
                kinds.setdefault(_kind(label), []).append((number, label))
        kinds.pop("", None)
        every = (str(label) for found in kinds.values() for _, label in found)
        # A whole number in quotes and without are spelled alike.
        if len(kinds) > 1 and not all(map(_WHOLE_NUMBER.fullmatch, every)):
            rarest, *_, others = sorted(kinds, key=lambda kind: (len(kinds[kind]), kind == "text"))
            raise _odd_one(*kinds[rarest][0], others=others, split=split, key=f"{key}={column}")


def _kind(label: Any) -> str:
    """Name the type of a label; "" where there is none, or one that is refused anyway."""
    # NaN is not equal to itself.
    if label is None or label != label or is_blank(str(label)):  # noqa: PLR0124
        return ""
    kinds = {str: "text", bool: "boolean", int: "number", float: "number"}
    return kinds.get(type(label), "")


def _odd_one(number: int, value: Any, *, others: str, split: str, key: str) -> InputError:
    remedy = (
        "write quotes around it" if others == "text" else "name every label in data.label_names"
    )
    return InputError(
        f"{key}: {split} row {number} (counted from 0) holds {value!r}, no {others} as others do; "
        f"fix the row, or {remedy}"
    )


def count_of(number: int, what: str) -> str:
    """Spell a number of things: "1 row", "1,200 rows"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _label_strings(part: Dataset, column: str, split: str) -> list[str | None]:
    """Spell labels of any type as text; None where there is none."""
    feature, values = part.features[column], part[column][:]
    if isinstance(feature, ClassLabel):
        # -1 is what data sets of the hub put where a label is withheld.
        return [None if v is None or v < 0 else feature.names[v] for v in values]
    strings = []
    for number, value in enumerate(values):
        if not isinstance(value, str | bool | int | float | None):
            raise InputError(
                f"data.columns.label={column} of {split} holds {_type_name(feature)}; labels must "
                "be text or whole numbers, one for each row"
            )
        if isinstance(value, float) and not math.isnan(value) and not value.is_integer():
            raise InputError(
                f"data.columns.label={column}: {value} in {split} row {number} is no class; labels "
                "must be text or whole numbers"
            )
        strings.append(_spell_label(value))
    return strings


def _spell_label(value: str | bool | float | None) -> str | None:
    if isinstance(value, float):
        return None if math.isnan(value) else str(int(value))
    text = "" if value is None else str(value)
    return None if is_blank(text) else text


def _same_spelling(labels: dict[str, list[str | None]]) -> dict[str, list[str | None]]:
    """Spell 1 and 1.0 alike where all labels are numbers: a CSV with a gap writes the latter."""
    known = {label for part in labels.values() for label in part if label is not None}
    if not all(_WHOLE_NUMBER.fullmatch(label) for label in known):
        return labels
    spelling = {label: label.partition(".")[0] for label in known}
    return {
        split: [None if label is None else spelling[label] for label in part]
        for split, part in labels.items()
    }


def order_labels(
    feature: object, train: Sequence[str | None], label_names: Sequence[Any] | None
) -> list[str]:
    """Return the names of labels in the order of their codes.

    Args:
        feature: of the labels in train; a ClassLabel has an order of its own.
        train: every label in train.
        label_names: as the config has them.

    Raises:
        InputError: ``label_names`` are fewer than two, or not all different.

    """
    if label_names is not None:
        names = [str(name) for name in label_names]
        if len(set(names)) != len(names) or len(names) < 2:
            raise InputError(
                f"data.label_names={names}: must be two or more names, each of them once"
            )
        return names
    if isinstance(feature, ClassLabel):
        return list(feature.names)
    found = {label for label in train if label is not None}
    if all(_WHOLE_NUMBER.fullmatch(label) for label in found):
        return sorted(found, key=int)
    return sorted(found)


def code_labels(labels: Mapping[str, Sequence[str | None]], names: Sequence[str]) -> dict[str, int]:
    """Return what stands for each code: its name or, where labels are other numbers, its place.

    Args:
        labels: every label of each split.
        names: in the order of their codes.

    """
    found = {label for part in labels.values() for label in part if label is not None}
    if not found <= set(names) and all(_WHOLE_NUMBER.fullmatch(label) for label in found):
        return {str(code): code for code in range(len(names))}
    return {name: code for code, name in enumerate(names)}


def say_places(codes: Mapping[str, int], names: Sequence[str]) -> str:
    """Say, where labels stand for places among the names, how these are counted."""
    return "" if {*codes} == {*names} else "; numbers are their places, counted from 0"


def _encode(
    labels: list[str | None], codes: dict[str, int], split: str, column: str, names: list[str]
) -> list[int | None]:
    for number, label in enumerate(labels):
        if label is not None and label not in codes:
            raise InputError(
                f"data.columns.label={column}: {label!r} in {split} row {number} is not among the "
                f"labels ({listed(names)}{say_places(codes, names)}); fix the row, or name every "
                "label in data.label_names"
            )
    return [None if label is None else codes[label] for label in labels]


def _require_rows(part: Dataset, split: str) -> None:
    if len(part) == 0:
        raise InputError(f"{split} has no rows; give data that has, or fewer splits")


def _type_name(feature: object) -> str:
    if isinstance(feature, Value):
        return str(feature.dtype)
    return type(feature).__name__.lower()


def listed(values: Sequence[object], most: int = 10) -> str:
    """List values, with a count of those beyond the first."""
    more = f", … {len(values) - most} more" if len(values) > most else ""
    return ", ".join(str(value) for value in values[:most]) + more
