"""The last lines that a run prints."""

from tunetrail.evaluation.summary import format_summary
from tunetrail.reports.run import RunFindings
from tunetrail.tasks.base import order_metrics
from tunetrail.tracking.recording import SUMMARY


def summarise(found: RunFindings, *, uri: str, has_page: bool) -> str:
    """Format what a run has found, in about a dozen lines.

    Args:
        uri: of the store, as a person gives it.
        has_page: whether the run has a page of its own.

    """
    return format_summary(
        found.result,
        found.judged,
        found.tuning,
        calibration=found.calibration,
        forgetting=found.forgetting,
        run_id=found.run_id,
        uri=uri,
        where=found.where,
        page=SUMMARY if has_page else None,
        names=("loss", *order_metrics(found.task)[:2]),
        test={} if found.test is None else found.test.metrics,
        notes=[one.line() for one in found.missing],
    )
