"""The whole run, top to bottom."""

import contextlib
import errno
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import optuna
import transformers
from datasets import Dataset
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from tunetrail.config.leaves import flatten_params
from tunetrail.config.objectives import read_objectives
from tunetrail.config.secrets import redact
from tunetrail.config.settings import (
    build,
    read_constraints,
    record,
    require_job,
    require_same_settings,
)
from tunetrail.console import quiet_libraries
from tunetrail.data.prepare import PreparedData
from tunetrail.disk import require_space_for_model, weights_size
from tunetrail.errors import DiskFullError, InputError, chain_of
from tunetrail.evaluation.fit import check_fit
from tunetrail.evaluation.scoring import score_test
from tunetrail.evaluation.summary import print_summary
from tunetrail.models.loading import load_tokenizer, read_weights
from tunetrail.studies.trial import Trial
from tunetrail.tasks.base import Task
from tunetrail.tracking import recording as reporting
from tunetrail.tracking.store import (
    RunLog,
    make_folder,
    open_run,
    read_artifact,
    require_interrupted,
)
from tunetrail.training.callbacks import (
    LogToRun,
    OnEvaluation,
    ProgressBar,
    evaluation_metrics,
)
from tunetrail.training.inputs import build_arguments, load_rows, tokenise_rows
from tunetrail.training.isolation import TokenisedRows, by_length, isolated
from tunetrail.training.run_lock import hold_run
from tunetrail.training.trainer import (
    TrainingResult,
    build_trainer,
    collect_evaluations,
    find_checkpoint,
    train,
)

log = logging.getLogger(__name__)

# What checks.*=clean drops; a broken character alone is no reason to lose a row.
_DROPPED = {
    "quality": "empty, repeated and contradictory rows",
    "leakage": "the rows of train that stand in a held-out split",
}


def run(cfg: DictConfig) -> float | list[float]:
    """Carry out the run that ``cfg`` describes and return its objective.

    One objective comes back as a number, several as a list in the order of ``sweep.objectives``.

    Raises:
        InputError: something a person asked for cannot be done.
        optuna.TrialPruned: the run is a trial and its pruner gave it up.

    """
    # A process may run many trials: none may feel the one before.
    with isolated(), _clear_disk_errors():
        return _run(cfg)


def _run(cfg: DictConfig) -> float | list[float]:
    require_job(cfg)
    quiet_libraries()
    objectives = list(read_objectives(cfg))
    trial = _open_trial(cfg, objectives[0])
    make_folder(
        Path(cfg.tracking.checkpoint_dir),
        key=f"tracking.checkpoint_dir={cfg.tracking.checkpoint_dir}",
    )
    with _open_run_log(cfg, trial) as (run_log, resume_from):
        # Config and code first, so that a run that crashes can be run again.
        _log_origin(run_log, cfg)

        data = load_rows(cfg)
        reporting.log_data(run_log, data)
        _obey_checks(data, cfg)

        task: Task = build(cfg.task)
        checkpoint = build(cfg.model.source)
        tokenizer = load_tokenizer(checkpoint)
        rows = tokenise_rows(cfg, task, checkpoint, data.dataset)
        train_sample = _take_sample(rows.train, cfg.diagnostics.num_train_sample, seed=cfg.seed)
        # Only trials share a process: a single run need not hold its first weights to the end.
        weights = None if trial is None else read_weights(checkpoint)
        # What is random from here on depends on the seed alone, not on what came before:
        # a trial in a warm process draws the same head as a run of its own.
        transformers.set_seed(cfg.training_seed)
        model = task.load_model(checkpoint, tokenizer, data.dataset["train"], weights=weights)
        model = build(cfg.method.apply)(model)
        baseline = task.measure_baseline(data.dataset["train"], data.dataset["validation"])

        checkpoint_dir = _checkpoint_dir(cfg, run_log.run_id)
        trainer = build_trainer(
            model=model,
            tokenizer=tokenizer,
            arguments=build_arguments(cfg, checkpoint_dir),
            train=rows.train,
            train_sample=by_length(train_sample),
            validation=rows.held_out["validation"],
            collator=task.build_collator(tokenizer),
            compute_metrics=task.build_metrics(data.dataset["validation"]),
            callbacks=[
                LogToRun(run_log),
                OnEvaluation(run_log, trial),
                *([ProgressBar(task.main_metric)] if trial is None else []),
            ],
        )
        # Only now are all flags as training will have them.
        reporting.log_start(
            run_log,
            model,
            checkpoint=checkpoint.path,
            revision=checkpoint.revision,
            resumed=cfg.resume is not None,
        )
        try:
            result = train(trainer, resume_from=resume_from)
        except optuna.TrialPruned:
            _log_pruned(run_log, trainer, main_metric=task.main_metric)
            raise

        fit = check_fit(
            result.evaluations,
            result.best,
            main_metric=task.main_metric,
            baseline_score=baseline.metrics[task.main_metric],
            num_train=len(train_sample),
            num_validation=len(rows.held_out["validation"]),
        )
        scores, speed = evaluation_metrics(result.best), _speed_metrics(result)
        measured = scores | speed
        values = [measured[name] for name in objectives]
        test = _score_test(run_log, trainer, task, rows, seed=cfg.seed) if cfg.score_test else {}
        # Of a study only the best weights are kept: see TrackStudy, which removes the beaten.
        keep = trial is None or _note_outcome(trial, cfg, measured)

        run_log.metrics(speed)
        run_log.metrics({"best/above_baseline": fit.validation_score - fit.baseline_score})
        run_log.metrics({f"best/{name}": value for name, value in scores.items()})
        run_log.data(fit.to_dict(), "reports/fit.json")
        reporting.log_curves(
            run_log, result.evaluations, main_metric=task.main_metric, best=result.best, page=keep
        )
        logits = trainer.validation_logits(result.best.step)
        reporting.log_predictions(run_log, task, rows.held_out["validation"], logits)
        if keep and cfg.tracking.log_model:
            require_space_for_model(weights_size(model), run_log.artifact_uri)
            example = task.example(data.dataset["validation"])
            reporting.log_model(run_log, trainer, task, example=example, step=result.best.step)
        run_log.tags({"tunetrail.state": "COMPLETE", "tunetrail.verdict": str(fit.verdict)})
    if trial is None:
        names = ("loss", *task.summary_metrics)
        print_summary(result, fit, run_log, uri=cfg.tracking.uri, names=names, test=test)
    return values[0] if len(values) == 1 else values


def _take_sample(dataset: Dataset, num_rows: int, *, seed: int) -> Dataset:
    return dataset.shuffle(seed=seed).select(range(min(num_rows, len(dataset))))


def _open_trial(cfg: DictConfig, objective: str) -> Trial | None:
    if cfg.trial.number is None:
        return None
    return Trial(
        storage=cfg.trial.storage,
        study=cfg.trial.study,
        number=cfg.trial.number,
        pruner=build(cfg.pruner),
        objective=objective,
        repeat=cfg.trial.repeat,
        num_repeats=cfg.trial.num_repeats,
    )


def _require_resumable(cfg: DictConfig, held: contextlib.ExitStack) -> Path:
    """Find the checkpoint to go on from, before anything of the run's record is touched."""
    require_interrupted(uri=cfg.tracking.uri, run_id=cfg.resume)
    held.enter_context(hold_run(_checkpoint_dir(cfg, cfg.resume), run_id=cfg.resume))
    recorded = read_artifact(uri=cfg.tracking.uri, run_id=cfg.resume, path="config.yaml")
    require_same_settings(cfg, recorded, run_id=cfg.resume)
    return find_checkpoint(_checkpoint_dir(cfg, cfg.resume), run_id=cfg.resume)


@contextlib.contextmanager
def _open_run_log(cfg: DictConfig, trial: Trial | None) -> Iterator[tuple[RunLog, Path | None]]:
    """Open the run for this process alone; of one that goes on the checkpoint comes with it."""
    tags, name = {}, cfg.tracking.run_name
    if trial is not None:
        tags = {
            "tunetrail.study": trial.study_name,
            "tunetrail.trial": str(trial.number),
        }
        if trial.parent_run_id is not None:
            tags["mlflow.parentRunId"] = trial.parent_run_id
        if trial.repeat is not None:
            tags["tunetrail.repeat"] = str(trial.repeat)
        name = trial.run_name
    # Let go of last, when the run's record says how it ended.
    with contextlib.ExitStack() as held:
        resume_from = None if cfg.resume is None else _require_resumable(cfg, held)
        with open_run(
            uri=cfg.tracking.uri,
            experiment=cfg.tracking.experiment,
            artifact_dir=cfg.tracking.artifact_dir,
            name=name,
            run_id=cfg.resume,
            tags=tags,
            no_failure=optuna.TrialPruned,
        ) as run_log:
            checkpoint_dir = _checkpoint_dir(cfg, run_log.run_id)
            if resume_from is None:
                held.enter_context(hold_run(checkpoint_dir, run_id=run_log.run_id))
            if trial is not None:
                trial.set_run_id(run_log.run_id)
            try:
                with _clear_disk_errors():
                    yield run_log, resume_from
            except BaseException:
                # A single run can be resumed from its checkpoints. A trial is tried again from its
                # start, and its checkpoints would fill the disk.
                if trial is not None:
                    shutil.rmtree(checkpoint_dir, ignore_errors=True)
                raise
            shutil.rmtree(checkpoint_dir, ignore_errors=True)


def _checkpoint_dir(cfg: DictConfig, run_id: str) -> Path:
    return Path(cfg.tracking.checkpoint_dir) / run_id


@contextlib.contextmanager
def _clear_disk_errors() -> Iterator[None]:
    """Say what a full disk is, in whichever library it is met."""
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        if _is_disk_full(error):
            raise DiskFullError(
                "the disk is full: free space where tracking.checkpoint_dir, "
                f"tracking.artifact_dir and tracking.uri lie ({type(error).__name__})"
            ) from error
        raise


def _is_disk_full(error: BaseException) -> bool:
    """Look through the chain: a library's error, or ours of the store, may be its consequence."""
    # The last is how torch.save says it: its file writer knows no error numbers.
    signs = ("No space left", "disk is full", "inline_container")
    return any(
        getattr(link, "errno", None) == errno.ENOSPC or any(sign in str(link) for sign in signs)
        for link in chain_of(error)
    )


def _log_origin(run_log: RunLog, cfg: DictConfig) -> None:
    """Log what the run is to do and from which code; of a resumed run the first is there."""
    if cfg.resume is None:
        _log_config(run_log, cfg)
    reporting.log_code(run_log, seeds=_seeds(cfg), resumed=cfg.resume is not None)


def _log_config(run_log: RunLog, cfg: DictConfig) -> None:
    recorded = record(cfg)
    run_log.text(OmegaConf.to_yaml(OmegaConf.create(recorded)), "config.yaml")
    run_log.params(flatten_params(recorded))
    if HydraConfig.initialized():
        hydra_cfg = HydraConfig.get()
        typed = redact(list(hydra_cfg.overrides.task))
        run_log.text(OmegaConf.to_yaml(OmegaConf.create(typed)), "overrides.yaml")
        choices = hydra_cfg.runtime.choices
        groups = ("experiment", "task", "data", "model", "method")
        run_log.tags({f"tunetrail.{name}": choices[name] for name in groups if choices.get(name)})


def _seeds(cfg: DictConfig) -> dict[str, int]:
    """Name every generator with its seed; Trainer's own are those of its arguments."""
    batches = cfg.trainer.data_seed if cfg.trainer.data_seed is not None else cfg.trainer.seed
    rows = dict.fromkeys(("splits", "subsets", "train_sample"), cfg.seed)
    training = dict.fromkeys(("python", "numpy", "torch", "torch_cuda"), cfg.trainer.seed)
    return {**rows, "head": cfg.training_seed, **training, "batches": batches}


def _obey_checks(data: PreparedData, cfg: DictConfig) -> None:
    """Say what the checks found and what was dropped, or end the run where asked to."""
    if cfg.score_test and "test" not in data.dataset:
        raise InputError(
            "score_test=true: there is no test split; set data.test=PATH or data.test_fraction"
        )
    for note in data.notes:
        log.info("%s", note)
    for name, report in (("quality", data.quality), ("leakage", data.leakage)):
        if report is None or not report.problems:
            continue
        if cfg.checks[name] == "error":
            raise InputError(
                f"checks.{name}=error: {report.summary()}; mend the data, or set "
                f"checks.{name}=warn to go on, or clean to drop {_DROPPED[name]}"
            )
        log.info("%s: %s", name, report.summary())


def _note_outcome(trial: Trial, cfg: DictConfig, measured: Mapping[str, float]) -> bool:
    """Tell the trial how far its constraints are kept, and find whether to keep its weights."""
    violation = trial.set_constraints(
        {found.metric: found.violation(measured[found.metric]) for found in read_constraints(cfg)}
    )
    return trial.is_kept(
        measured[trial.objective], keep_best=cfg.sweep.keep_best, violation=violation
    )


def _log_pruned(run_log: RunLog, trainer: transformers.Trainer, *, main_metric: str) -> None:
    evaluations = collect_evaluations(trainer.state.log_history)
    best = max(evaluations, key=lambda evaluation: evaluation.validation[main_metric])
    reporting.log_curves(run_log, evaluations, main_metric=main_metric, best=best, page=False)
    run_log.tags({"tunetrail.state": "PRUNED"})


def _speed_metrics(result: TrainingResult) -> dict[str, float]:
    return {
        "speed/seconds": result.seconds,
        "speed/train_samples_per_second": result.train_samples_per_second,
        "speed/validation_samples_per_second": result.best.validation["samples_per_second"],
    }


def _score_test(
    run_log: RunLog, trainer: transformers.Trainer, task: Task, rows: TokenisedRows, *, seed: int
) -> dict[str, float]:
    test = score_test(trainer, task, rows.held_out["test"], seed=seed)
    reporting.log_test(run_log, task, test)
    return test.metrics
