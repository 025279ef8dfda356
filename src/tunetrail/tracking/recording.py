"""What each step of a run logs: code, data, curves, predictions, test scores."""

import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from transformers import PreTrainedModel

from tunetrail.config.secrets import redact
from tunetrail.data.prepare import PreparedData
from tunetrail.data.quality.lengths import TokenLengths
from tunetrail.data.quality.report import QualityReport
from tunetrail.data.quality.suspects import SuspectReport, write_suspects
from tunetrail.data.sources import SourceFile
from tunetrail.evaluation.calibration import CalibrationReport
from tunetrail.evaluation.forgetting.report import ForgettingReport, NotMeasured
from tunetrail.evaluation.held_out import HeldOutScores
from tunetrail.evaluation.judgement import Judgement
from tunetrail.evaluation.label_errors import find_label_errors
from tunetrail.evaluation.missing_labels import MissingLabels
from tunetrail.evaluation.outcome import SplitOutcome
from tunetrail.evaluation.plots import (
    plot_interactive_curves,
    plot_learning_curves,
    plot_reliability,
)
from tunetrail.evaluation.tuning import TuningReport
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.fingerprint import fingerprint_weights
from tunetrail.tasks.base import Task
from tunetrail.templates.pages import write_html, write_markdown
from tunetrail.templates.sections import Page
from tunetrail.tracking.datasets import log_datasets
from tunetrail.tracking.provenance.code import Code, describe_code
from tunetrail.tracking.provenance.fingerprints import (
    combine_fingerprints,
    fingerprint_data,
    shorten,
)
from tunetrail.tracking.provenance.machine import describe_machine, list_packages
from tunetrail.tracking.run_log import KEPT, SUSPECTS, TEST_SCORED, UNTUNED_ROWS, RunLog
from tunetrail.tracking.starts import INITIALIZED_FROM
from tunetrail.training.evaluations import Evaluation, name_metrics
from tunetrail.training.train import TrainingResult

log = logging.getLogger(__name__)

# Artifacts: the page of a run, and figures that stand in it.
SUMMARY = "reports/summary.html"
# Rows of a table in the page of a run, and of a study, as in its report.
_MOST_ROWS, _MOST_TRIALS = 50, 200
_CURVES, _CALIBRATION = "figures/learning_curves.png", "figures/calibration.png"


def log_code(run_log: RunLog, *, seeds: dict[str, int], resumed: bool) -> None:
    """Log commit, uncommitted changes, packages and seeds, before anything can go wrong.

    Args:
        seeds: name of a generator -> its seed.
        resumed: whether another process began the run.

    """
    code, folder = _code_of_process(), _folder(resumed=resumed)
    if not resumed and code.commit is not None:
        run_log.tags(
            {
                "tunetrail.commit": code.commit,
                "tunetrail.branch": code.branch,
                "tunetrail.dirty": code.dirty,
            }
        )
    described = {
        "commit": code.commit,
        "branch": code.branch,
        "dirty": code.dirty,
        "patched": [_printable(path) for path in code.patched],
        "left_out": [asdict(file) | {"path": _printable(file.path)} for file in code.left_out],
    }
    run_log.data(described, f"{folder}/code.json")
    if code.diff:
        run_log.content(code.diff, f"{folder}/diff.patch")
    run_log.text("\n".join(list_packages()) + "\n", f"{folder}/requirements.txt")
    run_log.data(seeds, f"{folder}/seeds.json")


@lru_cache(maxsize=1)
def _code_of_process() -> Code:
    """Describe the code once: this process does not import what is edited later."""
    return describe_code(Path(__file__).parents[1])


def _printable(path: str) -> str:
    # A file's name may be bytes that are no UTF-8.
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _folder(*, resumed: bool) -> str:
    """Choose the folder for code, machine and weights.

    A rerun needs those with which the run began. So a process that resumes it writes its own into
    another folder.
    """
    return "environment/resumed" if resumed else "environment"


def log_checkpoint(run_log: RunLog, checkpoint: Checkpoint) -> None:
    """Log the run that the weights come from, if they come from one."""
    if checkpoint.run_id is not None:
        run_log.tags({INITIALIZED_FROM: checkpoint.run_id})


def log_start(
    run_log: RunLog, model: PreTrainedModel, *, checkpoint: Checkpoint, resumed: bool
) -> None:
    """Log machine and weights as training starts from them, with the flags that its arguments set.

    Args:
        model: as it is trained, a new head included.
        resumed: whether another process began the run.

    """
    folder = _folder(resumed=resumed)
    run_log.data(describe_machine(), f"{folder}/machine.json")
    sha256 = fingerprint_weights(model)
    num_parameters = model.num_parameters()
    num_trainable = model.num_parameters(only_trainable=True)
    described = {
        "checkpoint": checkpoint.path,
        "revision": checkpoint.revision,
        "origin": checkpoint.origin,
        "run_id": checkpoint.run_id,
        "num_parameters": num_parameters,
        "num_trainable_parameters": num_trainable,
        "sha256": sha256,
    }
    run_log.data(described, f"{folder}/model.json")
    if not resumed:
        run_log.tags({"tunetrail.model_fingerprint": shorten(sha256)})
        run_log.metrics(
            {"model/parameters": num_parameters, "model/trainable_parameters": num_trainable}
        )


def log_data(
    run_log: RunLog,
    data: PreparedData,
    missing: Sequence[MissingLabels],
    *,
    references: Iterable[SourceFile] = (),
    config: Mapping[str, Any],
) -> None:
    """Log the fingerprints of splits and files, missing labels, and what the checks found.

    Args:
        references: files that are measured, and not trained on.
        config: as it is recorded.

    """
    splits = fingerprint_data(data.dataset)
    tags = {"tunetrail.data_fingerprint": combine_fingerprints(splits)}
    if "test" in splits:
        tags["tunetrail.test_fingerprint"] = shorten(splits["test"].sha256)
    run_log.tags(tags)
    used = [name for name in splits if name != "test" or config["score_test"]]
    log_datasets(run_log, data, splits, config, splits=used)
    described = {name: asdict(split) for name, split in splits.items()}
    files = [asdict(file) for file in (*data.files, *references)]
    lacking = {one.split: one.to_dict() for one in missing}
    report = {"splits": described, "files": files, "missing_labels": lacking}
    run_log.data(report, "reports/data.json")
    log_quality(run_log, data.quality)
    if data.suspects is not None:
        log_suspects(run_log, data.suspects)
    if data.leakage is not None:
        run_log.text(data.leakage.to_markdown(), "reports/leakage.md")
        run_log.data(data.leakage.to_dict(), "reports/leakage.json")


def log_quality(
    run_log: RunLog,
    report: QualityReport | None,
    measure_tokens: Callable[[], Mapping[str, TokenLengths]] | None = None,
) -> None:
    """Log what is wrong with the rows; once more when their tokens can be counted."""
    if report is None:
        return
    if measure_tokens is not None:
        report = report.with_tokens(measure_tokens())
    run_log.text(report.to_markdown(), "reports/data_quality.md")
    run_log.data(report.to_dict(), "reports/data_quality.json")


def log_suspects(run_log: RunLog, report: SuspectReport) -> None:
    """Log the labels that are probably wrong; once more when the trained model has judged, too."""
    run_log.text(write_suspects(report.tabulate()), SUSPECTS)
    run_log.data(report.to_dict(), "reports/suspects.json")


def log_shares(run_log: RunLog, whole: float, **seconds: float) -> None:
    """Log what of a training's seconds other work took, where there was any."""
    for name, value in seconds.items():
        if value:
            shares = {f"speed/{name}_seconds": value, f"speed/{name}_share": value / whole}
            run_log.metrics(shares)


def log_curves(
    run_log: RunLog,
    evaluations: list[Evaluation],
    *,
    main_metric: str,
    best: Evaluation,
    page: bool,
) -> dict[str, Figure]:
    """Log the curves of train and validation as a figure and, with ``page``, as a page, too.

    Like the others that draw, it returns the figures by the names of their artifacts.
    """
    epochs = [evaluation.epoch for evaluation in evaluations]
    curves = {
        name: ([e.train[name] for e in evaluations], [e.validation[name] for e in evaluations])
        for name in ("loss", main_metric)
    }
    title = f"Learning curves of {run_log.name}"
    figure = plot_learning_curves(epochs, curves, best_epoch=best.epoch, title=title)
    run_log.figure(figure, _CURVES)
    if page:
        # Before the page: it is deleted with the weights when better trials come.
        run_log.tags({KEPT: "true"})
        interactive = plot_interactive_curves(epochs, curves, best_epoch=best.epoch, title=title)
        run_log.page([interactive], "figures/learning_curves.html")
    return {_CURVES: figure}


def log_result(
    run_log: RunLog,
    task: Task,
    result: TrainingResult,
    judged: Judgement,
    suspects: SuspectReport | None,
    *,
    objectives: Collection[str],
    page: bool,
) -> tuple[dict[str, Figure], SuspectReport | None]:
    """Log the scores of the best weights, the curves, and every validation row.

    Returns the figures, and ``suspects`` with the labels of validation that are probably wrong by
    the trained model.
    """
    if judged.above_baseline is not None:
        run_log.metrics({"best/above_baseline": judged.above_baseline})
    best = name_metrics(result.best, task.metrics)
    # Of train and the gap what nobody compares by is in the curves, at the step of the best.
    known = [f"{group}/{name}" for group in ("train", "gap") for name in ("loss", task.main_metric)]
    known += objectives
    run_log.metrics(
        {
            f"best/{name}": value
            for name, value in best.items()
            if name.startswith("validation/") or "/" not in name or name in known
        }
        | {"best/standard_error": judged.validation.noise}
    )
    figures = {}
    if result.is_trained:
        figures = log_curves(
            run_log, result.evaluations, main_metric=task.main_metric, best=result.best, page=page
        )
    figures |= log_outcome(run_log, judged.validation, split="validation")
    if suspects is not None:
        suspects = suspects.add(find_label_errors(judged.validation, split="validation"))
        log_suspects(run_log, suspects)
    return figures, suspects


def log_outcome(run_log: RunLog, outcome: SplitOutcome, *, split: str) -> dict[str, Figure]:
    """Log every row of a split with its prediction, the scores of each label, and figures."""
    run_log.table(outcome.table, f"predictions/{split}.parquet")
    task, rows = outcome.task, outcome.rows
    by_label = task.break_down(rows, outcome.statistics.sum(axis=0))
    if len(by_label):
        run_log.text(by_label.to_csv(index=False), f"tables/by_label_{split}.csv")
    confusions = task.confusions(outcome.table)
    if len(confusions):
        run_log.text(confusions.to_csv(index=False), f"tables/confusions_{split}.csv")
    suffix = "" if split == "validation" else f"_{split}"
    drawn = task.plot(rows, outcome.table, by_label, split=split)
    figures = {f"figures/{name}{suffix}.png": figure for name, figure in drawn.items()}
    for path, figure in figures.items():
        run_log.figure(figure, path)
    return figures


def log_calibration(run_log: RunLog, found: CalibrationReport | None) -> dict[str, Figure]:
    """Log how far confidence is from accuracy, and draw it, where it was measured."""
    if found is None:
        return {}
    run_log.metrics(found.metrics())
    run_log.data(found.to_dict(), "reports/calibration.json")
    title = "Validation: right as often as it is sure?"
    figure = plot_reliability(found.before, found.after, decided=found.decided, title=title)
    run_log.figure(figure, _CALIBRATION)
    return {_CALIBRATION: figure}


def log_page(run_log: RunLog, build: Callable[[], Page]) -> bool:
    """Log the page of a run for a browser, and as Markdown; return whether it could be written."""

    def write() -> dict[str, str]:
        page = build()
        return {
            SUMMARY: write_html(page, clean=redact, most_rows=_MOST_ROWS),
            str(Path(SUMMARY).with_suffix(".md")): write_markdown(page, clean=redact),
        }

    return _log_pages(run_log, write)


def log_study_page(run_log: RunLog, build: Callable[[], Page]) -> None:
    """Log the page of a study for a browser; its report in Markdown is there."""
    _log_pages(
        run_log,
        lambda: {"reports/study.html": write_html(build(), clean=redact, most_rows=_MOST_TRIALS)},
    )


def _log_pages(run_log: RunLog, write: Callable[[], Mapping[str, str]]) -> bool:
    try:
        pages = {path: text.encode() for path, text in write().items()}
    except Exception:
        # What took hours must not end with its own report.
        log.exception("the page of %s could not be written", run_log.name)
        return False
    for path, content in pages.items():
        # Texts were cleaned before figures were put in: base64 is no text.
        run_log.content(content, path)
    return True


def log_judgement(run_log: RunLog, judged: Judgement) -> None:
    """Log the fit, and the model against its baselines."""
    run_log.data(judged.fit.to_dict(), "reports/fit.json")
    if (found := judged.baselines) is not None:
        run_log.metrics(found.metrics())
        run_log.data(found.to_dict(), "reports/baselines.json")
        run_log.text(found.to_markdown(), "reports/baselines.md")


def log_tuning(run_log: RunLog, tuning: TuningReport, untuned: SplitOutcome) -> None:
    """Log what tuning has changed, and every validation row as the untuned model sees it."""
    run_log.data(tuning.to_dict(), "reports/tuning.json")
    run_log.table(untuned.table, UNTUNED_ROWS)


def log_forgetting(run_log: RunLog, found: ForgettingReport | NotMeasured) -> None:
    """Log what the model has forgotten, or why that was not measured."""
    run_log.metrics(found.metrics())
    run_log.data(found.to_dict(), "reports/forgetting.json")


def log_test(run_log: RunLog, test: HeldOutScores) -> None:
    """Log the scores on test with their intervals, every row, and the figures.

    The tag comes last: if it is set, everything is there, and test need not be scored again.
    """
    run_log.metrics({f"test/{name}": value for name, value in test.metrics.items()})
    for name, interval in test.intervals.items():
        run_log.metrics({f"test/{name}_low": interval.low, f"test/{name}_high": interval.high})
    log_outcome(run_log, test.outcome, split="test")
    run_log.tags({TEST_SCORED: "true"})
