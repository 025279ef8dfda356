"""Rows as they came -> splits as they are used, with what was found in them."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from datasets import DatasetDict

from tunetrail.data import columns, splits
from tunetrail.data.leakage import check_leakage, drop_leaks
from tunetrail.data.leaks import EarlierRun, LeakageReport
from tunetrail.data.quality.check import check_quality
from tunetrail.data.quality.cleaning import CleaningReport, clean
from tunetrail.data.quality.encodings import repair
from tunetrail.data.quality.judging import find_suspects
from tunetrail.data.quality.report import QualityReport
from tunetrail.data.quality.suspects import SuspectReport
from tunetrail.data.sources import SourceFile, list_files
from tunetrail.errors import InputError

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
    suspects: SuspectReport | None
    notes: tuple[str, ...]
    files: tuple[SourceFile, ...]
    available: Mapping[str, int]

    def with_earlier(
        self, earlier: tuple[EarlierRun, ...], *, policy: str | bool, in_study: bool
    ) -> "PreparedData":
        """Add what earlier runs trained on to the report of leakage.

        What a model was trained on cannot be dropped from it: ``clean`` drops those rows from the
        held-out splits.

        Args:
            earlier: the runs that the model comes from.
            policy: with ``clean`` rows that they trained on are dropped.
            in_study: whether the run is a trial, whose rows must be those of the others.

        Raises:
            InputError: they are to be dropped, and must not be, or nothing would be left.

        """
        if self.leakage is None or not earlier:
            return self
        unknown = tuple(run.line() for run in earlier if run.unknown)
        leaked = [run for run in earlier if run.num_leaked]
        if policy != "clean" or not leaked:
            report = replace(self.leakage, earlier=earlier)
            return replace(self, leakage=report, notes=(*self.notes, *unknown))
        found = "; ".join(run.line() for run in leaked)
        if in_study:
            raise InputError(
                f"checks.leakage=clean: {found}; the trials of a study are compared on the same "
                "rows, so none are dropped here; give other splits, or set checks.leakage=warn"
            )
        parts = dict(self.dataset.items())
        for split in leaked[0].num_rows:
            known = {row for run in leaked for row in run.known.get(split, ())}
            kept = [row for row in range(len(parts[split])) if row not in known]
            if not kept:
                raise InputError(
                    f"checks.leakage=clean leaves no rows of {split}: {found}; give other splits, "
                    "or set checks.leakage=warn"
                )
            parts[split] = parts[split].select(kept)
        compared = {name for pair in self.leakage.pairs for name in (pair.source, pair.held_out)}
        report = replace(
            check_leakage(DatasetDict({name: parts[name] for name in parts if name in compared})),
            earlier=tuple(replace(run, known={}) for run in earlier),
        )
        notes = (*self.notes, *unknown, f"dropped from the held-out splits: {found}")
        return replace(self, dataset=DatasetDict(parts), leakage=report, notes=notes)

    def remarks(self) -> Iterator[str]:
        """Say in a line each what no check refuses."""
        if self.quality is not None and (alike := self.quality.alike_line()) is not None:
            yield f"quality: {alike}"
        if self.suspects is not None and self.suspects.num_suspects:
            yield f"labels: {self.suspects.summary()} (reports/suspects.csv)"


@dataclass(frozen=True)
class WholeSplits:
    """All rows of every split, before any subset is taken; see :class:`PreparedData`."""

    dataset: DatasetDict
    notes: tuple[str, ...]
    files: tuple[SourceFile, ...]
    cleaning: CleaningReport | None = None


def load_splits(
    rows: DatasetDict,
    *,
    canonicalise: Callable[[DatasetDict], DatasetDict],
    text_columns: Collection[str] = (),
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
        text_columns: of ``rows``; where cleaning repairs encodings.
        validation_fraction, test_fraction: of train, where there is no such split.
        seed: of the splits.
        clean_quality, clean_leakage: whether rows that the checks find are dropped.
        keep_near_together: whether near duplicates stay in one split.

    Raises:
        InputError: the rows cannot be used as asked.

    """
    notes = []
    cleaned, files = None, list_files(rows)
    if clean_quality:
        # Before duplicates are looked for: a text and its misread copy are the same.
        rows, repaired = repair(rows, text_columns)
    dataset = canonicalise(rows)
    if clean_quality:
        dataset, cleaned = clean(dataset, repaired)
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
    return WholeSplits(dataset, tuple(notes), files, cleaned)


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
    labels: str | bool = False,
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
        labels: warn or off: whether labels that are probably wrong are looked for.

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
    # What is neither trained on nor shown cannot leak.
    used = dataset if trains else {name: dataset[name] for name in dataset if name != "train"}
    return PreparedData(
        dataset=DatasetDict({**dataset, **shown}),
        quality=None if quality in _OFF else check_quality(dataset, whole.cleaning),
        leakage=None if leakage in _OFF else check_leakage(DatasetDict({**used, **shown})),
        suspects=None if labels in _OFF else find_suspects(dataset, seed=seed),
        notes=whole.notes,
        files=whole.files,
        available={name: len(rows) for name, rows in whole.dataset.items()},
    )
