"""A run and its rerun side by side: report, table and figure."""

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from tunetrail.runs.agreement import Agreement
from tunetrail.runs.differences import Row, show
from tunetrail.runs.plots import plot_rerun
from tunetrail.runs.records import RunRecord
from tunetrail.templates import render

# Rows of the table of the largest differences.
_NUM_SHOWN = 20


@dataclass(frozen=True)
class Rerun:
    """A rerun and its original, how far they agree, and what was recorded of both.

    ``line`` is the verdict in one line.
    """

    original: RunRecord
    repeated: RunRecord
    agreement: Agreement
    rows: list[Row]
    line: str


def tabulate(rerun: Rerun) -> pd.DataFrame:
    """Tabulate every value: metric, step, original, rerun, difference."""
    return pd.DataFrame(
        [
            (found.metric, found.step, found.original, found.rerun, found.difference)
            for found in rerun.agreement.comparisons
        ],
        columns=["metric", "step", "original", "rerun", "difference"],
    )


def plot(rerun: Rerun) -> Figure:
    """Draw the curves of both runs and how far they lie apart."""
    original, repeated = rerun.original, rerun.repeated
    differences: dict[str, dict[int, float]] = {}
    for found in rerun.agreement.comparisons:
        if not found.is_of_the_whole_run:
            differences.setdefault(found.metric, {})[found.step] = min(found.relative, 1.0)
    main = (original.config or {}).get("task.main_metric")
    wanted = ("train/step_loss", "validation/loss", f"validation/{main}")
    return plot_rerun(
        {
            name: (original.metrics[name], repeated.metrics.get(name, {}))
            for name in wanted
            if name in original.metrics
        },
        differences,
        tolerance=rerun.agreement.tolerance,
        title=f"{original.name} and its rerun: {rerun.agreement.verdict}",
    )


def write_report(rerun: Rerun) -> str:
    """Write verdict, recorded differences and the largest differences of values as Markdown."""
    agreement = rerun.agreement
    largest = sorted(agreement.differing, key=lambda found: (-found.relative, found.order))
    return render(
        "rerun",
        name=rerun.original.name,
        verdict=rerun.line,
        original=rerun.original.run_id,
        repeated=rerun.repeated.run_id,
        tolerance=f"{agreement.tolerance:g}",
        records=[
            [row.group, row.key, *(show(fact, length=200) for fact in row.facts)]
            for row in rerun.rows
            if row.differs
        ],
        values=[
            [
                found.metric,
                found.step,
                repr(found.original),
                repr(found.rerun),
                f"{found.relative:.2g}",
            ]
            for found in largest[:_NUM_SHOWN]
        ],
    )
