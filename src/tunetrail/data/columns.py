"""Canonical columns, missing splits carved from train, subsets."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from tunetrail.data.duplicates import normalise
from tunetrail.errors import InputError

_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.0+)?")


def canonical_columns(
    rows: DatasetDict, *, text_column: str, label_column: str, label_names: Sequence[Any] | None
) -> DatasetDict:
    """Reduce every split to ``text`` (string), ``label`` (ClassLabel) and ``row`` (int64).

    ``row`` is the row's number in its source split, from 0: reports point at it. Labels may be
    text, whole numbers, booleans or ClassLabel. Without ``label_names`` they are those of train,
    sorted (numbers by value); with it they are its entries in its order, which a label matches by
    name or, where the labels are numbers that it does not name, by position. Empty texts and
    missing labels pass, for ``clean`` to drop or ``require_text`` to refuse.

    Raises:
        InputError: a split without rows, a missing column, text that is no text, a label outside
            the known set, fewer than two labels.

    """
    if text_column == label_column:
        raise InputError(
            f"data.text_column and data.label_column are both {text_column!r}; set one of them"
        )
    for split, part in rows.items():
        _require_rows(part, split)
        _require_column(part, split, key="text_column", name=text_column)
        _require_column(part, split, key="label_column", name=label_column)
        found = part.features[text_column]
        if found not in (Value("string"), Value("large_string")):
            raise InputError(
                f"data.text_column={text_column} of {split} holds {_type_name(found)}, not text; "
                f"name another column (found: {', '.join(part.column_names)})"
            )
    labels = _same_spelling(
        {split: _label_strings(part, label_column, split) for split, part in rows.items()}
    )
    names = _label_names(rows["train"].features[label_column], labels["train"], label_names)
    by_position = label_names is not None and _are_positions(labels, names)
    codes = {name: code for code, name in enumerate(names)}
    if by_position:
        codes = {str(code): code for code in range(len(names))}
    features = Features(
        {"text": Value("string"), "label": ClassLabel(names=names), "row": Value("int64")}
    )
    dataset = DatasetDict(
        {
            split: Dataset.from_dict(
                {
                    "text": part[text_column][:],
                    "label": _encode(labels[split], codes, split, label_column, names),
                    "row": np.arange(len(part)),
                },
                features=features,
            )
            for split, part in rows.items()
        }
    )
    _require_two_labels(dataset["train"], remedy="set data.label_column, or add rows of another")
    return dataset


def require_text(dataset: DatasetDict) -> DatasetDict:
    """Return ``dataset`` if every row has a text and a label.

    Raises:
        InputError: with the numbers of the rows that lack one, counted from 0 in their source.

    """
    for split, part in dataset.items():
        _require_rows(part, split)
        empty = [not (text and text.strip()) for text in part["text"][:]]
        missing = [label is None for label in part["label"][:]]
        for faults, what in ((empty, "an empty text"), (missing, "no label")):
            if any(faults):
                numbers = [row for row, fault in zip(part["row"][:], faults, strict=True) if fault]
                raise InputError(
                    f"{split}: {_count(len(numbers), 'row')} with {what} ({_listed(numbers)}, "
                    "counted from 0); mend them, or set checks.quality=clean to drop them"
                )
    return dataset


def carve_splits(
    dataset: DatasetDict,
    *,
    validation_fraction: float | None,
    test_fraction: float | None,
    seed: int,
) -> DatasetDict:
    """Carve the splits that are missing out of train: test first, then validation.

    Both fractions are of the rows that train comes with, so 0.2 and 0.2 leave 0.6, and test stays
    the same whatever the validation fraction. Every label keeps its share, and texts that are the
    same after ``normalise`` stay in one split. Rows keep their order. Needs ``require_text``.

    Raises:
        InputError: no validation split and no fraction for one, a fraction out of range, or a
            label with fewer different texts than there are splits to fill.

    """
    given = {"test": test_fraction, "validation": validation_fraction}
    fractions: dict[str, float] = {}
    for split, fraction in given.items():
        if fraction is not None:
            _require_fraction(fraction, split)
            if split not in dataset:
                fractions[split] = fraction
    if "validation" not in dataset and validation_fraction is None:
        raise InputError(
            f"there is no validation split (found: {', '.join(dataset)}); set "
            "data.validation_fraction=0.2 to carve one from train, or give one"
        )
    if sum(fractions.values()) >= 1:
        raise InputError(
            f"data.validation_fraction={validation_fraction} and data.test_fraction={test_fraction}"
            " leave no rows to train on; their sum must be below 1"
        )
    if not fractions:
        return dataset
    train = dataset["train"]
    parts = dict(dataset.items())
    owners = _assign_rows(train, fractions, seed)
    for code, split in enumerate(["train", *fractions]):
        parts[split] = train.select(np.flatnonzero(owners == code))
    order = ("train", "validation", "test")
    return DatasetDict({split: parts[split] for split in order if split in parts})


def take_subsets(
    dataset: DatasetDict,
    *,
    sizes: Mapping[str, int | None],
    method: str,
    seed: int,
) -> DatasetDict:
    """Take ``sizes[split]`` rows of each split, in random order.

    "shuffled" is ``shuffle(seed=seed).select(range(n))``. "stratified" keeps the share of every
    label to the nearest row, with one row at least of each. None leaves the split as it is: all
    rows in their order.

    Raises:
        InputError: a size that is no whole number above zero, that a split cannot fill, or that is
            given for a split that does not exist; an unknown method; train left with one label.

    """
    if method not in ("stratified", "shuffled"):
        raise InputError(f"data.subset={method}: must be stratified or shuffled")
    parts = dict(dataset.items())
    for split, size in sizes.items():
        if size is None:
            continue
        _require_size(size, split, parts.get(split))
        part = parts[split]
        if method == "shuffled":
            parts[split] = part.shuffle(seed=seed).select(range(size))
        else:
            parts[split] = part.select(_stratified_rows(part, size, split, seed))
    _require_two_labels(parts["train"], remedy="raise data.num_train or set data.subset=stratified")
    return DatasetDict(parts)


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
                f"data.label_column={column} of {split} holds {_type_name(feature)}; labels must "
                "be text or whole numbers, one for each row"
            )
        if isinstance(value, float) and not math.isnan(value) and not value.is_integer():
            raise InputError(
                f"data.label_column={column}: {value} in {split} row {number} is no class; labels "
                "must be text or whole numbers"
            )
        strings.append(_spell_label(value))
    return strings


def _spell_label(value: str | bool | float | None) -> str | None:
    if isinstance(value, float):
        return None if math.isnan(value) else str(int(value))
    text = "" if value is None else str(value)
    return text if text.strip() else None


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


def _label_names(
    feature: object, train: list[str | None], label_names: Sequence[Any] | None
) -> list[str]:
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


def _are_positions(labels: dict[str, list[str | None]], names: list[str]) -> bool:
    found = {label for part in labels.values() for label in part if label is not None}
    return not found <= set(names) and all(_WHOLE_NUMBER.fullmatch(label) for label in found)


def _encode(
    labels: list[str | None], codes: dict[str, int], split: str, column: str, names: list[str]
) -> list[int | None]:
    for number, label in enumerate(labels):
        if label is not None and label not in codes:
            raise InputError(
                f"data.label_column={column}: {label!r} in {split} row {number} is not among the "
                f"labels ({_listed(names)}); mend the row, or name every label in data.label_names"
            )
    return [None if label is None else codes[label] for label in labels]


def _assign_rows(train: Dataset, fractions: dict[str, float], seed: int) -> npt.NDArray[np.int64]:
    """Return for each row 0 (it stays in train) or the position of its split, from 1.

    Copies of a text go together, and they may carry different labels. So groups of copies are
    taken in random order wherever every label still has room, which single rows fill to the end.
    """
    labels = np.asarray(train["label"][:])
    texts = np.array([normalise(text) for text in train["text"][:]], dtype=object)
    groups, names = pd.factorize(texts)
    counts = np.zeros((len(names), train.features["label"].num_classes), dtype=np.int64)
    np.add.at(counts, (groups, labels), 1)
    order = np.random.default_rng(seed).permutation(len(counts))
    owners = np.zeros(len(counts), dtype=np.int64)
    totals = counts.sum(axis=0)
    for code, fraction in enumerate(fractions.values(), start=1):
        # The splits that come after, train among them, need a row of each label too.
        most = counts[owners == 0].sum(axis=0) - (len(fractions) - code + 1)
        wanted = np.where(
            totals > 0, np.clip(np.rint(totals * fraction), 1, np.maximum(most, 1)), 0
        )
        room = wanted.copy()
        for group in order[owners[order] == 0]:
            if (counts[group] <= room).all():
                owners[group] = code
                room -= counts[group]
                if not room.any():
                    break
        for label in np.flatnonzero((room == wanted) & (wanted > 0)):
            # Every text of this label has more copies than there is room for: take the fewest.
            having = np.flatnonzero((owners == 0) & (counts[:, label] > 0))
            owners[having[np.argsort(counts[having, label], kind="stable")[:1]]] = code
    for code in range(len(fractions) + 1):
        lacking = np.flatnonzero((counts[owners == code].sum(axis=0) == 0) & (totals > 0))
        if len(lacking):
            name = train.features["label"].int2str(int(lacking[0]))
            num_texts = int(np.count_nonzero(counts[:, lacking[0]]))
            raise InputError(
                f"label {name!r} has {_count(num_texts, 'different text')} in train, and "
                f"{', '.join(['train', *fractions])} need one each; add rows of it, drop it, or "
                "give the splits yourself"
            )
    assigned: npt.NDArray[np.int64] = owners[groups]
    return assigned


def _stratified_rows(part: Dataset, size: int, split: str, seed: int) -> npt.NDArray[np.intp]:
    labels = np.asarray(part["label"][:])
    counts = np.bincount(labels)
    num_labels = np.count_nonzero(counts)
    if size < num_labels:
        raise InputError(
            f"data.num_{split}={size}: {split} has {num_labels} labels and each needs a row; ask "
            f"for {num_labels} or more, or set data.subset=shuffled"
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    # Rank of each row among those of its label, in the random order.
    ranks = pd.Series(labels[order]).groupby(labels[order]).cumcount().to_numpy()
    kept: npt.NDArray[np.intp] = order[ranks < _quotas(counts, size)[labels[order]]]
    return kept


def _quotas(counts: npt.NDArray[np.intp], size: int) -> npt.NDArray[np.intp]:
    """Share ``size`` rows out by largest remainder, at least one to each label that has any."""
    exact = counts * size / counts.sum()
    quotas: npt.NDArray[np.intp] = np.maximum(np.floor(exact), counts > 0).astype(np.intp)
    while (missing := size - int(quotas.sum())) > 0:
        quotas[np.argmax(np.where(quotas < counts, exact - quotas, -np.inf))] += 1
    for _ in range(-missing):
        # The single rows of rare labels overdrew: the label furthest above its share pays.
        quotas[np.argmax(np.where(quotas > 1, quotas - exact, -np.inf))] -= 1
    return quotas


def _require_rows(part: Dataset, split: str) -> None:
    if len(part) == 0:
        raise InputError(f"{split} has no rows; give data that has, or fewer splits")


def _require_column(part: Dataset, split: str, *, key: str, name: str) -> None:
    if name not in part.column_names:
        raise InputError(
            f"no column {name!r} in {split} (found: {', '.join(part.column_names)}); set data.{key}"
        )


def _require_two_labels(train: Dataset, *, remedy: str) -> None:
    feature = train.features["label"]
    found = sorted({label for label in train["label"][:] if label is not None})
    if len(found) < 2:
        what = f"the single label {feature.int2str(found[0])!r}" if found else "no labels"
        raise InputError(f"train has {what}, and there is nothing to tell apart; {remedy}")


def _require_fraction(fraction: Any, split: str) -> None:
    is_number = isinstance(fraction, int | float) and not isinstance(fraction, bool)
    if not is_number or not 0 < fraction < 1:
        raise InputError(
            f"data.{split}_fraction={fraction}: must be a number between 0 and 1, or null for none"
        )


def _require_size(size: Any, split: str, part: Dataset | None) -> None:
    key = f"data.num_{split}={size}"
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InputError(f"{key}: must be a whole number of 1 or more, or null for all rows")
    if part is None:
        raise InputError(
            f"{key}: there is no {split} split; set data.num_{split}=null, or "
            f"data.{split}_fraction=0.2 to carve one from train"
        )
    if size > len(part):
        raise InputError(
            f"{key}: {split} has {_count(len(part), 'row')}; ask for at most that, or null for all"
        )


def _type_name(feature: object) -> str:
    if isinstance(feature, Value):
        return str(feature.dtype)
    return type(feature).__name__.lower()


def _listed(values: Sequence[object], most: int = 10) -> str:
    more = f", … {len(values) - most} more" if len(values) > most else ""
    return ", ".join(str(value) for value in values[:most]) + more


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
