"""Missing splits are split off train; subsets are taken."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from datasets import ClassLabel, Dataset, DatasetDict

from tunetrail.config.arguments import require_count
from tunetrail.data.columns import count_of, read_groups, read_strata
from tunetrail.data.duplicates import normalise
from tunetrail.data.near import group_near
from tunetrail.errors import InputError


def split_off(
    dataset: DatasetDict,
    *,
    validation_fraction: float | None,
    test_fraction: float | None,
    seed: int,
    keep_near_together: bool = False,
) -> DatasetDict:
    """Split the missing splits off train: test first, then validation.

    Both fractions are of the rows that train comes with, so 0.2 and 0.2 leave 0.6, and test stays
    the same whatever the validation fraction. Every label keeps its share, and duplicates (after
    ``normalise``) stay in one split; with ``keep_near_together`` near duplicates do, too. Rows keep
    their order. Needs ``require_text``.

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
            "data.validation_fraction=0.2 to split one off train, or give one"
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
    together = _group_rows(train, near=keep_near_together)
    owners = _assign_rows(train, together, fractions, seed)
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
            given for a split that does not exist; an unknown method.

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
    return DatasetDict(parts)


def draw_per_label(
    train: Dataset, per_label: object, *, seed: object, trains: bool = True
) -> Dataset:
    """Draw as many rows of each label, in random order.

    With the same seed the rows for a smaller number are among those for a larger one.

    Args:
        train: the rows to draw from.
        per_label: how many of each label.
        seed: of the draw.
        trains: whether a model is trained on them; if not, they may be none.

    Raises:
        InputError: no whole number, one that is too small, a label with fewer rows, or rows that
            have no labels.

    """
    key = f"data.per_label={per_label}"
    least = 1 if trains else 0
    if isinstance(per_label, bool) or not isinstance(per_label, int) or per_label < least:
        none = "; 0 is for method=in_context, which trains nothing" if per_label == 0 else ""
        raise InputError(
            f"{key}: must be a whole number of {least} or more, or null for all rows{none}"
        )
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"data.per_label_seed={seed}: must be a whole number of 0 or more")
    strata = train.features["stratum"]
    if not isinstance(strata, ClassLabel) or strata.num_classes < 2:
        raise InputError(
            f"{key}: the rows of train have no labels to draw from; set data.num_train"
        )
    labels = np.asarray(train["stratum"][:])
    counts = np.bincount(labels, minlength=strata.num_classes)
    for name, count in zip(strata.names, counts, strict=True):
        if count < per_label:
            raise InputError(
                f"{key}: train has {count_of(int(count), 'row')} of {name!r}; ask for fewer, raise "
                "data.num_train, or add rows"
            )
    order = np.random.default_rng(seed).permutation(len(labels))
    return train.select(order[_rank(labels[order]) < per_label])


def _rank(labels: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Return the number of each row among those of its label, from 0."""
    ranks: npt.NDArray[np.intp] = pd.Series(labels).groupby(labels).cumcount().to_numpy()
    return ranks


def _group_rows(train: Dataset, *, near: bool) -> npt.NDArray[np.intp]:
    """Return the number of each row's group: rows that are the same, or near each other."""
    keys = np.array([normalise(text) for text in read_groups(train)], dtype=object)
    groups, texts = pd.factorize(keys)
    found: npt.NDArray[np.intp] = group_near(list(texts))[groups] if near else groups
    return found


def _assign_rows(
    train: Dataset, groups: npt.NDArray[np.intp], fractions: dict[str, float], seed: int
) -> npt.NDArray[np.int64]:
    """Return for each row 0 (it stays in train) or the position of its split, from 1.

    Rows of a group go together, and they may carry different labels. So groups are taken in random
    order wherever every label still has room; single rows fill the rest.
    """
    codes, label_names = read_strata(train)
    labels = np.asarray(codes)
    counts = np.zeros((int(groups.max()) + 1, len(label_names) or 1), dtype=np.int64)
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
            # Every text of this label has more duplicates than there is room for: take the fewest.
            having = np.flatnonzero((owners == 0) & (counts[:, label] > 0))
            owners[having[np.argsort(counts[having, label], kind="stable")[:1]]] = code
    for code in range(len(fractions) + 1):
        lacking = np.flatnonzero((counts[owners == code].sum(axis=0) == 0) & (totals > 0))
        if len(lacking):
            who = f"label {label_names[lacking[0]]!r}" if label_names else "the source"
            num_texts = int(np.count_nonzero(counts[:, lacking[0]]))
            raise InputError(
                f"{who} has {count_of(num_texts, 'different text')} in train, and "
                f"{', '.join(['train', *fractions])} need one each; add rows"
                f"{' of it, drop it,' if label_names else ''} or give the splits yourself"
            )
    assigned: npt.NDArray[np.int64] = owners[groups]
    return assigned


def _stratified_rows(part: Dataset, size: int, split: str, seed: int) -> npt.NDArray[np.intp]:
    labels = np.asarray(read_strata(part)[0])
    counts = np.bincount(labels)
    num_labels = np.count_nonzero(counts)
    if size < num_labels:
        raise InputError(
            f"data.num_{split}={size}: {split} has {num_labels} labels and each needs a row; ask "
            f"for {num_labels} or more, or set data.subset=shuffled"
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    quotas = _quotas(counts, size)[labels[order]]
    kept: npt.NDArray[np.intp] = order[_rank(labels[order]) < quotas]
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


def _require_fraction(fraction: Any, split: str) -> None:
    is_number = isinstance(fraction, int | float) and not isinstance(fraction, bool)
    if not is_number or not 0 < fraction < 1:
        raise InputError(
            f"data.{split}_fraction={fraction}: must be a number between 0 and 1, or null for none"
        )


def _require_size(size: Any, split: str, part: Dataset | None) -> None:
    key = f"data.num_{split}={size}"
    require_count(f"data.num_{split}", size, remedy=", or null for all rows")
    if part is None:
        raise InputError(
            f"{key}: there is no {split} split; set data.num_{split}=null, or "
            f"data.{split}_fraction=0.2 to split one off train"
        )
    if size > len(part):
        raise InputError(
            f"{key}: {split} has {count_of(len(part), 'row')}; ask for fewer, or null for all"
        )
