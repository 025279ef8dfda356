"""Rows as they came -> splits as they are used, with what was found in them."""

from collections.abc import Callable
from dataclasses import dataclass

from datasets import DatasetDict

from tunetrail.data import columns, splits
from tunetrail.data.leakage import LeakageReport, check_leakage, drop_leaks
from tunetrail.data.quality import QualityReport, check_quality, clean
from tunetrail.data.sources import SourceFile, list_files

# YAML reads a bare off as false.
_OFF = ("off", False)


@dataclass(frozen=True)
class PreparedData:
    """Splits as they are used, what was found in them, and what was dropped on the way.

    ``files`` are those that the rows were read from.

    A report is None where its check is off.
    """

    dataset: DatasetDict
    quality: QualityReport | None
    leakage: LeakageReport | None
    notes: tuple[str, ...]
    files: tuple[SourceFile, ...]


def prepare_data(
    rows: DatasetDict,
    *,
    canonicalise: Callable[[DatasetDict], DatasetDict],
    validation_fraction: float | None,
    test_fraction: float | None,
    subset: str,
    sizes: dict[str, int | None],
    seed: int,
    quality: str | bool,
    leakage: str | bool,
) -> PreparedData:
    """Canonical columns, splits, subsets, checks.

    Rows are dropped (``clean``) before splits are split off and subsets taken: subsets have the
    sizes that were asked for.

    Args:
        sizes: rows wanted of each split; None is all of them.
        quality, leakage: off, warn, clean or error. Raising is the caller's: here ``warn`` and
            ``error`` do the same.

    Raises:
        InputError: the rows cannot be used as asked.

    """
    notes = []
    dataset = canonicalise(rows)
    if quality == "clean":
        dataset, cleaned = clean(dataset)
        notes.append(cleaned.summary())
    fractions = {"validation": validation_fraction, "test": test_fraction}
    is_split = any(
        fraction is not None and name not in dataset for name, fraction in fractions.items()
    )
    if is_split or subset == "stratified":
        # Both look at every row. A shuffled subset of given splits need not be refused for a row
        # that it leaves out.
        columns.require_text(dataset)
    dataset = splits.split_off(
        dataset,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        seed=seed,
    )
    if leakage == "clean":
        dataset, dropped = drop_leaks(dataset)
        notes.append(dropped.summary())
    dataset = splits.take_subsets(dataset, sizes=sizes, method=subset, seed=seed)
    columns.require_text(dataset)
    return PreparedData(
        dataset=dataset,
        quality=None if quality in _OFF else check_quality(dataset),
        leakage=None if leakage in _OFF else check_leakage(dataset),
        notes=tuple(notes),
        files=list_files(rows),
    )
