"""The winner of a study's finals: scored on test once, compared, registered, reported.

Each step finds what it did before: the tag on the run says that test was scored, the registry
holds the version. So the same command concludes a study whose end was killed.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import optuna

from tunetrail.console import quiet_libraries
from tunetrail.studies.finals.comparisons import compare_winner, measure_worth
from tunetrail.studies.finals.conclusion import Conclusion
from tunetrail.studies.finals.finalists import Finalist, FinalsResult, collect_result
from tunetrail.studies.finals.record import Terms, WinnerRecord, load_data, load_winner
from tunetrail.studies.finals.registration import log_card, register_version
from tunetrail.studies.finals.report import (
    summarise_no_winner,
    summarise_winner,
    write_no_winner,
    write_winner,
)
from tunetrail.studies.finals.scoring import count_test_scores, score_winner
from tunetrail.tracking.artifacts import Artifacts
from tunetrail.tracking.run_log import RunLog
from tunetrail.tracking.tags import WINNER_RUN
from tunetrail.training.isolation import isolated

# Artifacts of the study's run: the section of its report, and whether all was done for it.
SECTION, _DONE = "winner.md", "reports/winner.json"


def register_winner(
    study: optuna.Study,
    finals: optuna.Study,
    finalists: Mapping[int, int],
    *,
    parent: RunLog,
    terms: Terms,
) -> list[str]:
    """Score, compare and register the winner, log the result, and return a summary in lines.

    Called again for the same finals, it returns the same lines and does nothing.

    Args:
        finalists: number of a trial of the study -> number of its trial in the finals.
        parent: the run of the study.

    """
    result = collect_result(study, finals, finalists, objectives=terms.objectives)
    key = {
        "finals": finals.study_name,
        "finalists": [[one.number, one.final, *one.scores] for one in result.finalists],
        "registry": terms.registry_name,
    }
    if (lines := _read_lines(key, parent)) is not None:
        return lines
    if result.winner is None:
        complete, lines = True, summarise_no_winner(result)
        parent.text(write_no_winner(result), SECTION)
    else:
        quiet_libraries()
        record = load_winner(study, finals, result.winner, terms)
        with isolated():
            conclusion = _conclude(record, result, result.winner)
        complete, lines = not record.undone, summarise_winner(conclusion)
        _log_conclusion(conclusion, parent)
    # Last, because its presence means that all of it is there.
    parent.data({"key": key, "complete": complete, "said": lines}, _DONE)
    return lines


def read_section(parent: RunLog) -> str:
    """Read the section on the winner that a study's run holds; empty before its first finals."""
    return _artifacts_of(parent).text(SECTION) or ""


def read_said(parent: RunLog) -> list[str]:
    """Read what was said of the winner on the console; nothing before the first finals."""
    before = _artifacts_of(parent).mapping(_DONE) or {}
    said = before.get("said")
    return [line for line in said if isinstance(line, str)] if isinstance(said, list) else []


def _read_lines(key: Mapping[str, Any], parent: RunLog) -> list[str] | None:
    """Read the summary of the same finals if nothing was left undone."""
    before = _artifacts_of(parent).mapping(_DONE)
    if before is None or before.get("key") != json.loads(json.dumps(key)):
        return None
    said = before.get("said")
    is_said = isinstance(said, list) and said and all(isinstance(line, str) for line in said)
    return said if is_said and before.get("complete") is True else None


def _artifacts_of(parent: RunLog) -> Artifacts:
    return Artifacts(parent.client, parent.client.get_run(parent.run_id))


def _conclude(record: WinnerRecord, result: FinalsResult, winner: Finalist) -> Conclusion:
    load_data(record)
    test, rows = score_winner(record)
    worths = tuple(measure_worth(record, result))
    conclusion = Conclusion(
        result=result,
        winner=winner,
        run_id=record.last.run_id,
        main_metric=record.recorded.task.main_metric,
        greater_is_better=record.metric.greater_is_better,
        comparisons=tuple(compare_winner(record, result, worths, rows)),
        worths=worths,
        test=test,
        num_looks=count_test_scores(record.study),
        all_scored_test=record.terms.scores_all,
        registered=None,
        notes=(),
    )
    registered = register_version(record, conclusion, rows)
    conclusion = replace(conclusion, registered=registered, notes=(*record.notes, *record.undone))
    log_card(record, conclusion)
    return conclusion


def _log_conclusion(conclusion: Conclusion, parent: RunLog) -> None:
    """Log the winner, its test scores and its version to the study's run."""
    winner, test, registered = conclusion.winner, conclusion.test, conclusion.registered
    parent.text(write_winner(conclusion), SECTION)
    if test is not None:
        # The other scores are those of the winner's run.
        name = conclusion.main_metric
        values, interval = {f"test/{name}": test.metrics[name]}, test.intervals[name]
        values |= {f"test/{name}_low": interval.low, f"test/{name}_high": interval.high}
        # A study that went on and has another winner shows the scores of both, in their order. The
        # first one is at step 0: MLflow draws one number at any other step as a curve of a point.
        parent.metrics(values, step=max(conclusion.num_looks - 1, 0))
    tags = {"tunetrail.winner_trial": winner.number, WINNER_RUN: conclusion.run_id}
    if registered is not None:
        tags["tunetrail.registered"] = f"{registered.name}/{registered.version}"
    parent.tags(tags)
