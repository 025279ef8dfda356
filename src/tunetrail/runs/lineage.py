"""The chain of runs that a run's weights went through, as text."""

from collections.abc import Iterator

from tunetrail.errors import InputError
from tunetrail.runs.differences import show
from tunetrail.runs.records import RunRecord, load_record
from tunetrail.tracking.starts import list_ancestors
from tunetrail.tracking.store import connect_existing, store_errors
from tunetrail.tracking.tags import REUSED_FROM

_WIDTH = 14


def format_lineage(run_id: str, *, uri: str) -> str:
    """Describe a run, the run that it started from, and so on, the oldest last.

    Raises:
        InputError: there is no such run, or the chain leads in a circle.

    """
    record = load_record(run_id, uri=uri)
    source = record.tags.get(REUSED_FROM)
    if source is not None:
        record = load_record(source, uri=uri)
    blocks = ["\n".join(_describe(record))]
    client = connect_existing(uri)
    with store_errors(uri):
        try:
            ancestors = list(list_ancestors(client, client.get_run(record.run_id)))
        except InputError as error:
            raise InputError(f"run {record.run_id}: {error}") from error
    for ancestor in ancestors:
        if isinstance(ancestor, str):
            blocks.append(_line("run", f"{ancestor} is not in this store"))
        elif ancestor.info.lifecycle_stage == "deleted":
            found = ancestor.info
            blocks.append(_line("run", f"{found.run_id} ({found.run_name}) was deleted"))
        else:
            blocks.append("\n".join(_describe(load_record(ancestor.info.run_id, uri=uri))))
    return "\n\n".join(blocks)


def _describe(record: RunRecord) -> Iterator[str]:
    config, model = record.config or {}, record.model or {}
    yield _line("run", f"{record.run_id} ({record.name})")
    yield _line("task", record.tags.get("tunetrail.task"))
    yield _line("method", config.get("method.name"))
    yield _line("data", config.get("data.name"))
    yield _line("started from", model.get("origin"))
    name = f"validation/{config.get('task.main_metric')}"
    scores = record.metrics.get(f"best/{name}")
    yield _line("best", None if scores is None else f"{name} {scores[max(scores)]:.4f}")


def _line(key: str, value: object) -> str:
    return f"{key:<{_WIDTH}}{show('not recorded' if value is None else str(value), length=100)}"
