"""Rows as they came -> splits as they are used, with what was found in them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from datasets import DatasetDict

from tunetrail.data import columns, splits
from tunetrail.data.leakage import LeakageReport, check_leakage, drop_leaks
from tunetrail.data.quality import QualityReport, check_quality, clean
from tunetrail.data.sources import SourceFile, list_files

# YAML reads a bare off as false.
_OFF = ("off", False)
# The split of rows that are shown to a model, not trained on.
EXAMPLES = "examples"


@dataclass(frozen=True)
class PreparedData:
    """Splits as they are used, what was found in them, and what was dropped on the way.

    ``files`` are those that the rows were read from; ``available`` is how many rows there are of
    each split, of which subsets were taken.

    A report is None where its check is off.
    """

    dataset: DatasetDict
    quality: QualityReport | None
    leakage: LeakageReport | None
    notes: tuple[str, ...]
    files: tuple[SourceFile, ...]
    available: Mapping[str, int]


@dataclass(frozen=True)
class WholeSplits:
    """All rows of every split, before any subset is taken; see :class:`PreparedData`."""

    dataset: DatasetDict
    notes: tuple[str, ...]
    files: tuple[SourceFile, ...]


def load_splits(
    rows: DatasetDict,
    *,
    canonicalise: Callable[[DatasetDict], DatasetDict],
    validation_fraction: float | None,
    test_fraction: float | None,
    seed: int,
    clean_quality: bool,
    clean_leakage: bool,
    keep_near_together: bool = False,
) -> WholeSplits:
    """Canonical columns, and every split; what is to be cleaned is dropped.

    Args:
        rows: as they were read.
        canonicalise: what the task makes of them.
        validation_fraction, test_fraction: of train, where there is no such split.
        seed: of the splits.
        clean_quality, clean_leakage: whether rows that the checks find are dropped.
        keep_near_together: whether near duplicates stay in one split.

    Raises:
        InputError: the rows cannot be used as asked.

    """
    notes = []
    dataset = canonicalise(rows)
    if clean_quality:
        dataset, cleaned = clean(dataset)
        notes.append(cleaned.summary())
    fractions = {"validation": validation_fraction, "test": test_fraction}
    is_split = any(
        fraction is not None and name not in dataset for name, fraction in fractions.items()
    )
    if is_split or clean_leakage:
        # Both look at every row.
        columns.require_text(dataset)
    dataset = splits.split_off(
        dataset,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        seed=seed,
        keep_near_together=keep_near_together,
    )
    if clean_leakage:
        dataset, dropped = drop_leaks(dataset)
        notes.append(dropped.summary())
    return WholeSplits(dataset, tuple(notes), list_files(rows))


def prepare_data(
    whole: WholeSplits,
    *,
    subset: str,
    sizes: dict[str, int | None],
    per_label: int | None,
    per_label_seed: int | None,
    trains: bool,
    seed: int,
    quality: str | bool,
    leakage: str | bool,
) -> PreparedData:
    """Subsets and checks.

    Rows were dropped before: subsets have the sizes that were asked for.

    Args:
        whole: the splits.
        subset: how rows are chosen.
        sizes: rows wanted of each split; None is all of them.
        per_label: then so many rows of each label are drawn from those of train.
        per_label_seed: of this draw.
        trains: whether they are trained on. Else they, or all rows of train, become a split
            ``examples`` of their own if there are any, and train stays as it is.
        seed: of the subsets.
        quality, leakage: off, warn, clean or error. Raising is the caller's: here all but ``off``
            do the same.

    Raises:
        InputError: the rows cannot be used as asked.

    """
    dataset = whole.dataset
    if subset == "stratified":
        # It looks at every row. A shuffled subset of given splits need not be refused for a row
        # that it leaves out.
        columns.require_text(dataset)
    dataset = splits.take_subsets(dataset, sizes=sizes, method=subset, seed=seed)
    columns.require_text(dataset)
    drawn = dataset["train"]
    if per_label is not None:
        drawn = splits.draw_per_label(drawn, per_label, seed=per_label_seed, trains=trains)
    if trains:
        dataset = DatasetDict({**dataset, "train": drawn})
    shown = {} if trains or not len(drawn) else {EXAMPLES: drawn}
    return PreparedData(
        dataset=DatasetDict({**dataset, **shown}),
        quality=None if quality in _OFF else check_quality(dataset),
        leakage=None if leakage in _OFF else check_leakage(dataset),
        notes=whole.notes,
        files=whole.files,
        available={name: len(rows) for name, rows in whole.dataset.items()},
    )
