"""A comparison of runs as text: what differs between them, and their last metrics."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tunetrail.runs.code_trees import open_trees
from tunetrail.runs.differences import Row, lay_out, show
from tunetrail.runs.records import RunRecord

# Of a line, the mark of equal metrics included.
_WIDTH = 98
_KEY_WIDTH = 38
# A narrower column shows too little of a value.
_MIN_COLUMN = 14
# The order of metrics; all others come after these.
_METRICS = (
    *("validation/", "train/", "gap/", "best/"),
    *("baselines/", "calibration/", "forgetting/", "test/"),
)


def format_comparison(records: Sequence[RunRecord], root: Path, *, with_equal: bool) -> str:
    """Write tables that are at most 100 characters wide, one below the other for many runs.

    Args:
        root: the checkout that has the runs' commits.

    """
    with open_trees(root) as trees:
        code = [
            trees.digest(trees.recorded(record.code.commit, record.code.patch))
            for record in records
        ]
    rows = lay_out(records, code)
    shown = [row for row in rows if with_equal or row.differs]
    metrics = list(_metric_rows(records))
    num_columns = (_WIDTH - _KEY_WIDTH) // (_MIN_COLUMN + 2)
    width = (_WIDTH - _KEY_WIDTH) // min(num_columns, len(records)) - 2
    blocks = [
        _format_block(records, [*shown, *metrics], slice(start, start + num_columns), width)
        for start in range(0, len(records), num_columns)
    ]
    num_equal = sum(not row.differs for row in rows)
    note = "" if with_equal else f"{num_equal} facts are equal or unknown (--all shows them); "
    return "\n\n".join([*blocks, f"{note}= marks metrics that are equal in all runs"])


def _metric_rows(records: Sequence[RunRecord]) -> Iterator[Row]:
    names = {name for record in records for name in record.metrics}

    def order(name: str) -> tuple[int, str]:
        found = [index for index, prefix in enumerate(_METRICS) if name.startswith(prefix)]
        return (found[0] if found else len(_METRICS)), name

    for name in sorted(names, key=order):
        values = []
        for record in records:
            history = record.metrics.get(name)
            values.append(f"{history[max(history)]!r}" if history else "-")
        yield Row("metrics, last value", name, tuple(values))


def _format_block(
    records: Sequence[RunRecord], rows: Sequence[Row], columns: slice, width: int
) -> str:
    head = [record.run_id[:8] for record in records[columns]]
    names = [show(record.name, length=width) for record in records[columns]]
    lines = [_line("run", head, width).rstrip(), _line("", names, width).rstrip()]
    group = None
    for row in rows:
        if row.group != group:
            group = row.group
            lines += ["", group]
        values = [_cell(row, index, width) for index in range(*columns.indices(len(records)))]
        is_metric = row.group.startswith("metrics")
        mark = " =" if is_metric and len(set(row.facts)) == 1 else ""
        lines.append((_line(row.key, values, width) + mark).rstrip())
    return "\n".join(lines)


def _cell(row: Row, index: int, width: int) -> str:
    value = row.facts[index]
    if row.group.startswith("metrics") and isinstance(value, str) and value != "-":
        return f"{float(value):.6g}"
    return show(value, length=width)


def _line(key: str, values: Sequence[str], width: int) -> str:
    columns = "".join(f"  {value:<{width}}" for value in values)
    return f"{show(key, length=_KEY_WIDTH):{_KEY_WIDTH}}{columns}"
