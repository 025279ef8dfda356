"""The story of a run, top to bottom."""

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
import transformers
from omegaconf import DictConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunetrail.config.arguments import autocast_type, build_arguments
from tunetrail.config.build import build
from tunetrail.config.checks import read_constraints
from tunetrail.config.objectives import read_objectives
from tunetrail.config.record import record
from tunetrail.config.secrets import redact
from tunetrail.config.terminal import say
from tunetrail.console import quiet_libraries
from tunetrail.data.prepare import PreparedData
from tunetrail.errors import InputError, named_disk_errors
from tunetrail.evaluation.calibration import calibrate
from tunetrail.evaluation.forgetting.plan import Plan
from tunetrail.evaluation.forgetting.report import ForgettingReport, NotMeasured
from tunetrail.evaluation.forgetting.run import measure_run, plan_forgetting
from tunetrail.evaluation.held_out import HeldOutScores, score_test
from tunetrail.evaluation.judgement import Judgement, judge_run
from tunetrail.evaluation.missing_labels import MissingLabels, find_missing_labels
from tunetrail.evaluation.outcome import choose_examples
from tunetrail.evaluation.tuning import TuningReport, compare_with_untuned
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import Loader, read_weights
from tunetrail.models.methods.base import Method
from tunetrail.models.tokenizers import load_tokenizer
from tunetrail.opening import (
    checkpoint_dir,
    list_overrides,
    log_origin,
    open_run_log,
    open_trial,
    say_neighbours,
)
from tunetrail.reports.console import summarise
from tunetrail.reports.description import log_description
from tunetrail.reports.run import RunFindings, build_run_page
from tunetrail.studies.fits import note_fit
from tunetrail.studies.start import pin_start
from tunetrail.studies.trial import Trial
from tunetrail.tasks.base import Task, TrainingRows
from tunetrail.tracking import recording, row_fingerprints
from tunetrail.tracking.models import log_model
from tunetrail.tracking.run_log import ADAPTER, RunLog
from tunetrail.tracking.tags import STATE, VERDICT
from tunetrail.training.callbacks import LogToRun, OnEvaluation, ProgressBar, ReportSteps
from tunetrail.training.evaluations import collect_evaluations, find_best, name_metrics
from tunetrail.training.inputs import (
    build_method,
    build_task,
    find_examples,
    load_rows,
    require_job,
    require_suited,
)
from tunetrail.training.isolation import isolated
from tunetrail.training.samples import LogSamples
from tunetrail.training.tokens import Split, encode_rows
from tunetrail.training.train import TrainingResult, measure, train
from tunetrail.training.trainer import MeasuringTrainer

log = logging.getLogger(__name__)

# What checks.*=clean drops; a broken character alone is no reason to lose a row.
_DROPPED = {
    "quality": "empty, repeated and contradictory rows",
    "leakage": "the rows of train that are held out, too, and held-out rows of earlier runs",
}


@dataclass(frozen=True)
class Parts:
    """The parts of a run, built from its config.

    ``splits`` hold rows with the model's inputs; ``sample`` is the part of train that is measured,
    ``training`` is what is trained on.
    """

    cfg: DictConfig
    trial: Trial | None
    task: Task
    method: Method
    checkpoint: Checkpoint
    tokenizer: PreTrainedTokenizerBase
    data: PreparedData
    missing: tuple[MissingLabels, ...]
    splits: Mapping[str, Split]
    sample: Split
    training: TrainingRows
    forgetting: Plan | None


def run(cfg: DictConfig) -> float | list[float]:
    """Run what ``cfg`` describes and return its objective.

    One objective is a number; several are a list in the order of ``sweep.objectives``.

    Raises:
        InputError: something that was asked for cannot be done.
        optuna.TrialPruned: the run is a trial and its pruner stopped it.

    """
    # A process may run many trials: none may affect the next.
    with isolated(), named_disk_errors():
        require_job(cfg)
        quiet_libraries()
        trial = open_trial(cfg)
        pin_start(cfg, trial)
        with open_run_log(cfg, trial) as (run_log, resume_from):
            # Config and code first, so that a run that crashes can be run again.
            log_origin(run_log, cfg, trial)
            parts = _prepare(run_log, cfg, trial)
            samples = LogSamples(run_log, parts.task, parts.splits["validation"].rows)
            trainer = _build_trainer(run_log, parts, samples)
            result = _train(run_log, parts, trainer, samples, resume_from=resume_from)
            generating = trainer.seconds_completing
            # With calibrate=true the task says probabilities as the logged model will.
            split, step = parts.splits["validation"], result.best.step
            task, calibration = calibrate(trainer, parts.task, split, step=step, cfg=cfg)
            parts = replace(parts, task=task)
            judged = _judge(run_log, parts, trainer, result)
            tuning = _compare_with_untuned(run_log, judged, seed=cfg.seed)
            test = _score_test(run_log, parts, trainer)
            forgetting = _measure_forgetting(run_log, parts, trainer, result)
            measured = _measured(parts, result) | (forgetting.metrics() if forgetting else {})
            # A study keeps the weights of its best trials only: TrackStudy deletes the others.
            keep = trial is None or _note_outcome(trial, cfg, measured, result, judged)
            run_log.metrics(result.speed)
            figures, suspects = recording.log_result(
                run_log, parts.task, result, judged, parts.data.suspects,
                objectives=read_objectives(cfg), page=keep,
            )  # fmt: skip
            figures |= recording.log_calibration(run_log, calibration)
            recording.log_shares(
                run_log, result.seconds, sampling=samples.seconds, generation=generating
            )
            found = RunFindings(
                run_id=run_log.run_id,
                name=run_log.name,
                where=run_log.artifact_uri,
                uri=redact(cfg.tracking.uri),
                config=record(cfg),
                overrides=list_overrides(),
                task=parts.task,
                data=replace(parts.data, suspects=suspects),
                missing=parts.missing,
                result=result,
                judged=judged,
                tuning=tuning,
                forgetting=forgetting,
                calibration=calibration,
                test=test,
                figures=figures,
            )
            has_page = cfg.diagnostics.summary and recording.log_page(
                run_log, lambda: build_run_page(found)
            )
            if keep and cfg.tracking.log_model:
                _log_model(run_log, parts, trainer, found)
            neighbours = say_neighbours(run_log, found.config, trial)
            log_description(run_log, found, neighbours, has_page=has_page)
            verdict = str(judged.fit.verdict)
            run_log.tags({STATE: "COMPLETE", VERDICT: verdict})
        if trial is None:
            say(summarise(found, uri=cfg.tracking.uri, has_page=has_page))
        values = [measured[name] for name in read_objectives(cfg)]
        return values[0] if len(values) == 1 else values


def _prepare(run_log: RunLog, cfg: DictConfig, trial: Trial | None) -> Parts:
    """Load the rows, apply the checks of the data, and encode them."""
    task, method, checkpoint = build_task(cfg), build_method(cfg), build(cfg.model.source)
    recording.log_checkpoint(run_log, checkpoint)
    require_suited(task, method, checkpoint)
    tokenizer = load_tokenizer(checkpoint)
    data = load_rows(cfg, task, method)
    earlier = row_fingerprints.log_rows(run_log, data, checkpoint, trains=method.trains)
    data = data.with_earlier(earlier, policy=cfg.checks.leakage, in_study=trial is not None)
    missing = find_missing_labels(data.dataset, task.metrics)
    forgetting = plan_forgetting(cfg, task, checkpoint, tokenizer, data)
    references = forgetting.files if forgetting else ()
    recording.log_data(run_log, data, missing, references=references, config=record(cfg))
    _apply_checks(data, cfg)
    for one in missing:
        log.info("%s", one.line())
    encoded = encode_rows(task, checkpoint, data.dataset)
    recording.log_quality(run_log, data.quality, encoded.measure_tokens)
    sample = encoded.splits["train"].sample(cfg.diagnostics.num_train_sample, seed=cfg.seed)
    return Parts(
        cfg=cfg,
        trial=trial,
        task=task,
        method=method,
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        data=data,
        missing=missing,
        splits=encoded.splits,
        sample=sample.by_length(),
        training=encoded.training,
        forgetting=forgetting,
    )


def _build_trainer(run_log: RunLog, parts: Parts, samples: LogSamples) -> MeasuringTrainer:
    """Load the model and put it into a Trainer that measures a sample of train, and validation."""
    cfg, task, trial = parts.cfg, parts.task, parts.trial
    arguments = build_arguments(cfg, task, checkpoint_dir(cfg, run_log.run_id))
    # From here on all random numbers depend on the seed alone, so that a trial in a warm process
    # gets the same head as a run of its own.
    transformers.set_seed(cfg.training_seed)
    model, new = _load_model(parts)
    model = parts.method.prepare(model, new=new)
    if (dtype := autocast_type(arguments)) is not None:
        parts.method.hold(model, dtype)
    for name, text in parts.method.describe(model, parts.tokenizer).items():
        run_log.text(text, name)
    trainer = MeasuringTrainer(
        task=task,
        # Validation last: when its scores arrive, those of train are there to compare with.
        splits={"train": parts.sample, "validation": parts.splits["validation"]},
        model=model,
        args=arguments,
        train_dataset=parts.training,
        processing_class=parts.tokenizer,
        data_collator=task.build_collator(parts.tokenizer, model),
        callbacks=[
            LogToRun(run_log),
            # First of those that see an evaluation: a run that ends at it is not pruned there.
            *filter(None, [build(cfg.early_stopping)]),
            # Before the trial is pruned at this evaluation.
            samples,
            OnEvaluation(run_log, trial, task.metrics),
            ProgressBar(task.main_metric) if trial is None else ReportSteps(),
        ],
    )
    # Only now the flags of the libraries are as training will have them.
    recording.log_start(run_log, model, checkpoint=parts.checkpoint, resumed=cfg.resume is not None)
    return trainer


def _load_model(parts: Parts) -> tuple[PreTrainedModel, Collection[str]]:
    """Load what training starts from, and name the weights of it that are new."""
    # Only trials share a process: a single run need not keep the first weights in memory.
    weights = None if parts.trial is None else read_weights(parts.checkpoint)
    loader = Loader(parts.checkpoint, weights)
    examples = None if parts.method.trains else find_examples(parts.splits, parts.sample)
    load = parts.method.choose_loader(loader, parts.tokenizer, examples)
    return parts.task.load_model(load, parts.tokenizer, parts.splits["train"].rows), loader.new


def _train(
    run_log: RunLog,
    parts: Parts,
    trainer: MeasuringTrainer,
    samples: LogSamples,
    *,
    resume_from: Path | None,
) -> TrainingResult:
    if not parts.method.trains:
        return measure(trainer)
    try:
        return train(trainer, resume_from=resume_from, seconds_aside=lambda: samples.seconds)
    except optuna.TrialPruned:
        task = parts.task
        evaluations = collect_evaluations(trainer.state.log_history)
        best = find_best(evaluations, task.main_metric, task.metrics[task.main_metric])
        recording.log_curves(
            run_log, evaluations, main_metric=task.main_metric, best=best, page=False
        )
        run_log.tags({STATE: "PRUNED"})
        raise


def _judge(
    run_log: RunLog, parts: Parts, trainer: MeasuringTrainer, result: TrainingResult
) -> Judgement:
    """Judge the fit, and compare with the baselines."""
    judged = judge_run(
        parts.cfg,
        parts.task,
        trainer,
        result,
        splits=parts.splits,
        sample=parts.sample,
        available=parts.data.available,
    )
    recording.log_judgement(run_log, judged)
    return judged


def _compare_with_untuned(run_log: RunLog, judged: Judgement, *, seed: int) -> TuningReport | None:
    """Compare with the model before training, if this process has measured it."""
    if judged.untuned is None:
        return None
    tuning = compare_with_untuned(judged.untuned, judged.validation, seed=seed)
    recording.log_tuning(run_log, tuning, judged.untuned)
    return tuning


def _measure_forgetting(
    run_log: RunLog, parts: Parts, trainer: MeasuringTrainer, result: TrainingResult
) -> ForgettingReport | NotMeasured | None:
    """Measure what training has made the model forget, if the config asks for it."""
    if parts.forgetting is None:
        return None
    started, evaluated = time.monotonic(), [parts.sample, parts.splits["validation"]]
    found = measure_run(
        parts.forgetting, parts.cfg, parts.checkpoint, trainer, result,
        train=parts.splits["train"], measured=evaluated,
    )  # fmt: skip
    recording.log_forgetting(run_log, found)
    recording.log_shares(run_log, result.seconds, forgetting=time.monotonic() - started)
    return found


def _score_test(run_log: RunLog, parts: Parts, trainer: MeasuringTrainer) -> HeldOutScores | None:
    """Score the test split if the config asks for it."""
    if not parts.cfg.score_test:
        return None
    test = score_test(trainer, parts.task, parts.splits["test"], seed=parts.cfg.seed)
    recording.log_test(run_log, test)
    return test


def _measured(parts: Parts, result: TrainingResult) -> dict[str, float]:
    """Return all values that an objective or a constraint may name."""
    return name_metrics(result.best, parts.task.metrics) | result.speed


def _log_model(
    run_log: RunLog, parts: Parts, trainer: MeasuringTrainer, found: RunFindings
) -> None:
    """Log the trained model, which must answer a few rows as the run does, and its adapter."""
    example = parts.splits["validation"].take(choose_examples(found.validation))
    task, scratch_dir = parts.task, checkpoint_dir(parts.cfg, run_log.run_id)
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    parts.method.restore(model, lambda: _load_model(parts)[0])
    table = task.tabulate(example.rows, example.encoded, trainer.answer(example))
    adapter = scratch_dir / ADAPTER
    if parts.method.save_adapter(model, adapter, parts.checkpoint):
        run_log.folder(adapter, ADAPTER)
    log_model(
        run_log,
        parts.method.finish(model),
        parts.tokenizer,
        task=task,
        tag=parts.method.serve_as(task.pipeline_tag),
        table=table,
        origin=parts.checkpoint.origin,
        calibration=None if found.calibration is None else found.calibration.line(),
        step=found.result.best.step,
        scratch_dir=scratch_dir,
    )


def _apply_checks(data: PreparedData, cfg: DictConfig) -> None:
    """Log what the checks found and dropped; end the run if a check is ``error``."""
    if cfg.score_test and "test" not in data.dataset:
        raise InputError(
            "score_test=true: there is no test split; set data.test=PATH or data.test_fraction"
        )
    for note in (*data.notes, *data.remarks()):
        log.info("%s", note)
    for name, report in (("quality", data.quality), ("leakage", data.leakage)):
        if report is None or not report.problems:
            continue
        if cfg.checks[name] == "error":
            raise InputError(
                f"checks.{name}=error: {report.summary()}; fix the data, or set "
                f"checks.{name}=warn to continue, or clean to drop {_DROPPED[name]}"
            )
        log.info("%s: %s", name, report.summary())


def _note_outcome(
    trial: Trial,
    cfg: DictConfig,
    measured: Mapping[str, float],
    result: TrainingResult,
    judged: Judgement,
) -> bool:
    """Note on the trial its fit and its constraints; return whether to keep its weights."""
    trial.set_fit(note_fit(result, judged.fit, judged.baselines))
    violation = trial.set_constraints(
        {found.metric: found.violation(measured[found.metric]) for found in read_constraints(cfg)}
    )
    value = measured[next(iter(read_objectives(cfg)))]
    return trial.is_kept(value, keep_best=cfg.sweep.keep_best, violation=violation)
