"""The winner on the test split: scored once, and read from its run after that."""

import optuna
import pandas as pd

from hydra_plugins.optuna_study import attributes
from tunetrail.config.scratch import scratch
from tunetrail.data.prepare import PreparedData
from tunetrail.evaluation.held_out import score_saved
from tunetrail.evaluation.statistics import Interval
from tunetrail.studies.finals.conclusion import TestRecord
from tunetrail.studies.finals.record import WinnerRecord
from tunetrail.tasks.base import order_metrics
from tunetrail.tracking import models as logged_models
from tunetrail.tracking import recording
from tunetrail.tracking.artifacts import read_table
from tunetrail.tracking.datasets import log_datasets
from tunetrail.tracking.places import load_logged
from tunetrail.tracking.run_log import TEST_SCORED, RunLog, add_to_run, read_run


def score_winner(record: WinnerRecord) -> tuple[TestRecord | None, pd.DataFrame | None]:
    """Score the winner on test if its run has no score yet; return the scores and the rows."""
    if record.data is None:
        return None, None
    if "test" not in record.data.dataset:
        record.notes.append(
            "the test score: there is no test split; set data.test=PATH or data.test_fraction"
        )
        return None, None
    run_log = add_to_run(uri=record.terms.uri, run_id=record.last.run_id)
    if TEST_SCORED not in record.last.tags and not _score_once(record, record.data, run_log):
        return None, None
    metrics = read_run(run_log.client.get_run(run_log.run_id)).metrics
    rows = read_table(uri=record.terms.uri, run_id=run_log.run_id, path="predictions/test.parquet")
    names = order_metrics(record.recorded.task)
    scores = TestRecord(
        metrics={name: metrics[f"test/{name}"] for name in ("loss", *names)},
        intervals={
            name: Interval(metrics[f"test/{name}_low"], metrics[f"test/{name}_high"])
            for name in names
        },
        num_rows=len(rows),
        fingerprint=record.fingerprints["test"].sha256[:16],
        mean_confidence=float(rows["confidence"].mean()) if "confidence" in rows else None,
    )
    return scores, rows


def count_test_scores(study: optuna.Study) -> int:
    """Count the models of a study that were scored on test."""
    return len(study.user_attrs.get(attributes.TEST_LOOKS, ()))


def _score_once(record: WinnerRecord, data: PreparedData, run_log: RunLog) -> bool:
    """Score the winner's weights on test and log the scores; False if there are no weights."""
    model = logged_models.find_model(run_log.client, run_log.run_id)
    if model is None:
        reason = (
            "the winner's weights are no longer in the store"
            if record.terms.keeps_weights
            else "tracking.log_model=false keeps no weights to score"
        )
        record.notes.append(f"the test score: {reason}")
        return False
    # Noted before the test rows are read: an interrupted look is a look.
    looks = record.study.user_attrs.get(attributes.TEST_LOOKS, [])
    if run_log.run_id not in looks:
        record.study.set_user_attr(attributes.TEST_LOOKS, [*looks, run_log.run_id])
    with scratch() as folder:
        tag = record.recorded.method.serve_as(record.recorded.task.pipeline_tag)
        weights, tokenizer = load_logged(run_log.client, model, tag=tag, scratch=folder)
        scores = score_saved(record.recorded, data, weights, tokenizer, scratch_dir=folder)
    recording.log_test(run_log, scores)
    log_datasets(
        run_log,
        data,
        record.fingerprints,
        record.recorded.values,
        splits=("test",),
    )
    return True
