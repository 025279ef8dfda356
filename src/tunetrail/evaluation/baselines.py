"""Baselines: what simple rules and simple models score on validation, beside the model."""

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from datasets import Dataset

from tunetrail.evaluation.outcome import SplitOutcome, scores_by_row
from tunetrail.evaluation.statistics import (
    Interval,
    PairedTest,
    compare_rows,
    interval_of,
    noise_of_mean,
)
from tunetrail.evaluation.tuning import UNTUNED
from tunetrail.tasks.base import Array, Baseline, Metric, Task
from tunetrail.templates import begin_sentence, table
from tunetrail.templates.sections import Section, Table


@dataclass(frozen=True)
class Reference:
    """What a baseline scores in the main metric.

    ``rows`` is what each row contributes, sorted by ``row``; ``statistics`` are in the order of the
    split.
    """

    key: str
    name: str
    score: float
    rows: Array
    statistics: Array
    note: str = ""


@dataclass(frozen=True)
class Baselines:
    """The baselines of a run that could be scored, and notes on those that were left out."""

    metric: Metric
    scored: tuple[Reference, ...]
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Reference | None:
        """The one that ``best/above_baseline`` is measured against: the task's first."""
        return self.scored[0] if self.scored else None

    @property
    def best(self) -> Reference | None:
        """The one with the best score; of equal ones the first."""
        return max(self.scored, key=lambda one: self.metric.sign * one.score, default=None)


def measure_baselines(
    task: Task,
    train: Dataset,
    rows: Dataset,
    *,
    untuned: Array | None,
    measures_all: bool,
) -> Baselines:
    """Score the baselines of a task, and the untuned model as another.

    Args:
        task: of the run.
        train: its rows, which baselines learn from.
        rows: of validation.
        untuned: statistics of the rows by the model before training; None if it was not measured.
        measures_all: else only the first of them is scored.

    """
    found, notes = _score_all(task, train, rows, measures_all)
    references = [*found]
    if untuned is not None and (measures_all or not references):
        references.append(_score(task, rows, Baseline("untuned", UNTUNED, untuned), untuned))
    if measures_all and not references:
        notes = (*notes, "none was measured: trainer.eval_on_start=true measures the untuned model")
    return Baselines(task.metrics[task.main_metric], tuple(references), notes)


# The trials of a study in one process have the same rows.
@lru_cache(maxsize=1)
def _score_all(
    task: Task, train: Dataset, rows: Dataset, measures_all: bool
) -> tuple[tuple[Reference, ...], tuple[str, ...]]:
    references, notes = [], []
    for one in task.baselines(train, rows):
        if one.statistics is None:
            notes.append(f"{one.name}: {one.note}")
        else:
            references.append(_score(task, rows, one, one.statistics))
        if not measures_all:
            break
    return tuple(references), tuple(notes)


def _score(task: Task, rows: Dataset, one: Baseline, statistics: Array) -> Reference:
    score = float(task.score(statistics.sum(axis=0))[task.main_metric])
    by_row = scores_by_row(task, rows, statistics)
    return Reference(one.key, one.name, score, by_row, statistics, one.note)


@dataclass(frozen=True)
class BaselineComparison:
    """The model against one baseline: ``gain`` is positive where the model is better."""

    key: str
    name: str
    score: float
    interval: Interval
    gain: PairedTest
    note: str


@dataclass(frozen=True)
class BaselinesReport:
    """The model against every baseline, on the same rows, the best baseline first.

    ``beats_best`` tells whether the model is better than the best of them by more than noise.
    """

    main_metric: str
    score: float
    interval: Interval
    num_rows: int
    num_choices: int
    beats_best: bool
    compared: tuple[BaselineComparison, ...]
    notes: tuple[str, ...]

    def line(self) -> str:
        """Say in one line how the model stands against the best baseline."""
        if not self.compared:
            return "; ".join(self.notes) or "there is none"
        best = self.compared[0]
        verdict = "better than" if self.beats_best else "no better than"
        of = f", the best of {len(self.compared)} baselines" if len(self.compared) > 1 else ""
        has = f"which has {_name(self.main_metric)} {best.score:.4f}"
        return f"{verdict} {best.name}{of}, {has}: gain {best.gain}"

    def metrics(self) -> dict[str, float]:
        """Name the numbers as MLflow holds them."""
        found = {f"baselines/{one.key}": one.score for one in self.compared}
        if self.compared:
            gain = self.compared[0].gain
            found["baselines/above_best"] = gain.difference
            found["baselines/above_best_low"] = gain.interval.low
            found["baselines/above_best_high"] = gain.interval.high
        return found

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "line": self.line()}

    def to_markdown(self) -> str:
        """Write the page that a person reads."""
        part = self.section()
        lines = [f"# {part.title}", "", part.sentence, ""]
        for one in part.tables:
            lines += [table(one.header, one.rows), "", one.caption]
        return "\n".join([*lines, *(f"- {note}" for note in self.notes)]).rstrip() + "\n"

    def section(self) -> Section:
        """Return the baselines as a part of a page."""
        header = [_name(self.main_metric), "score", "95 % interval", "the model's gain", "note"]
        rows = [["the model", f"{self.score:.4f}", str(self.interval), "", ""]]
        rows += [
            [one.name, f"{one.score:.4f}", str(one.interval), str(one.gain), one.note]
            for one in self.compared
        ]
        if not any(one.note for one in self.compared):
            header, rows = header[:-1], [row[:-1] for row in rows]
        caption = f"On the same {self.num_rows:,} rows of validation."
        if self.num_choices > 1:
            caption += (
                f" The model is the best of {self.num_choices} evaluations on these rows: "
                "intervals and p values of its gain are corrected for that."
            )
        sentence = f"{begin_sentence(self.line())}."
        return Section("Baselines", sentence, [Table(header, rows, caption)])


def compare_with_baselines(
    validation: SplitOutcome, baselines: Baselines, *, num_choices: int, seed: int
) -> BaselinesReport:
    """Compare a model with its baselines on the same rows.

    Args:
        validation: what the model makes of them.
        baselines: of the same rows.
        num_choices: of how many evaluations on these rows the model is the best.
        seed: of the draws.

    """
    task = validation.task
    sign, metric = baselines.metric.sign, task.main_metric

    def interval(statistics: Array) -> Interval:
        return interval_of(statistics, task.score, metric, seed=seed)

    compared = [
        BaselineComparison(
            key=one.key,
            name=one.name,
            score=one.score,
            interval=interval(one.statistics),
            gain=compare_rows(
                sign * validation.scores, sign * one.rows, seed=seed, num_choices=num_choices
            ),
            note=one.note,
        )
        for one in sorted(baselines.scored, key=lambda one: -sign * one.score)
    ]
    return BaselinesReport(
        main_metric=metric,
        score=float(task.score(validation.statistics.sum(axis=0))[metric]),
        interval=interval(validation.statistics),
        num_rows=len(validation.rows),
        num_choices=num_choices,
        beats_best=beats(validation, baselines, num_choices=num_choices),
        compared=tuple(compared),
        notes=baselines.notes,
    )


def beats(validation: SplitOutcome, baselines: Baselines, *, num_choices: int) -> bool:
    """Tell whether a model beats the best baseline by more than noise; True without one."""
    best, sign = baselines.best, baselines.metric.sign
    if best is None:
        return True
    found = validation.task.score(validation.statistics.sum(axis=0))
    gain = sign * (float(found[validation.task.main_metric]) - best.score)
    noise = noise_of_mean(validation.scores - best.rows, null=0.0, num_choices=num_choices)
    return bool(gain > noise)


def _name(metric: str) -> str:
    return metric.replace("_", " ")
