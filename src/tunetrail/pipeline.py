"""The whole run, top to bottom."""

import contextlib
import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import datasets
import optuna
import transformers
from datasets import Dataset
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from tunetrail import reporting
from tunetrail.callbacks import (
    LogToRun,
    OnEvaluation,
    ProgressBar,
    evaluation_metrics,
    score_metrics,
)
from tunetrail.data.preparation import PreparedData, prepare_data
from tunetrail.diagnostics.fit import check_fit
from tunetrail.errors import InputError
from tunetrail.models.loading import load_tokenizer
from tunetrail.settings import (
    params,
    plain,
    require_metrics,
    require_same_settings,
    require_settings,
)
from tunetrail.summary import print_summary
from tunetrail.tasks.base import Task
from tunetrail.tracking import (
    RunLog,
    make_folder,
    open_run,
    read_artifact,
    redact,
    require_interrupted,
)
from tunetrail.training import (
    TrainingResult,
    build_trainer,
    collect_evaluations,
    find_checkpoint,
    precision_flags,
    train,
)
from tunetrail.trial import Trial

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
    require_settings(cfg)
    _quiet_libraries()
    objectives = list(cfg.sweep.objectives)
    trial = _open_trial(cfg, objectives[0])
    make_folder(
        Path(cfg.tracking.checkpoint_dir),
        key=f"tracking.checkpoint_dir={cfg.tracking.checkpoint_dir}",
    )
    resume_from = None if cfg.resume is None else _require_resumable(cfg)
    with _open_run_log(cfg, trial) as run_log:
        # Config and code first, so that a run that crashes can be run again.
        _log_config(run_log, cfg)
        reporting.log_environment(run_log)

        data = _load_data(
            json.dumps(plain(cfg.data)), cfg.seed, cfg.checks.quality, cfg.checks.leakage
        )
        reporting.log_data(run_log, data)
        _obey_checks(data, cfg)

        # What is random from here on depends on the seed alone, not on what came before:
        # a trial in a warm process draws the same head as a run of its own.
        transformers.set_seed(cfg.seed)
        task: Task = _instantiate(cfg.task)
        checkpoint = _instantiate(cfg.model.source)
        tokenizer = load_tokenizer(checkpoint)
        rows = {name: task.tokenise(split, tokenizer) for name, split in data.dataset.items()}
        train_sample = _take_sample(rows["train"], cfg.diagnostics.num_train_sample, seed=cfg.seed)
        held_out = {name: by_length(split) for name, split in rows.items() if name != "train"}
        model = task.load_model(checkpoint, tokenizer, data.dataset["train"])
        model = _instantiate(cfg.method.apply)(model)
        baseline = task.measure_baseline(data.dataset["train"], data.dataset["validation"])
        require_metrics(cfg, baseline.metrics)

        checkpoint_dir = _checkpoint_dir(cfg, run_log)
        trainer = build_trainer(
            model=model,
            tokenizer=tokenizer,
            arguments=_build_arguments(cfg, checkpoint_dir),
            train=rows["train"],
            train_sample=by_length(train_sample),
            validation=held_out["validation"],
            collator=task.build_collator(tokenizer),
            compute_metrics=task.build_metrics(data.dataset["validation"]),
            callbacks=[
                LogToRun(run_log),
                OnEvaluation(run_log, trial),
                *([ProgressBar(task.main_metric)] if trial is None else []),
            ],
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
            num_validation=len(held_out["validation"]),
        )
        scores, speed = evaluation_metrics(result.best), _speed_metrics(result)
        values = [(scores | speed)[name] for name in objectives]
        test = _score_test(trainer, held_out["test"]) if cfg.score_test else {}
        # Of a study only the best weights are kept: see TrackStudy, which removes the beaten.
        keep = trial is None or trial.is_best(values[0])

        run_log.metrics(speed)
        run_log.metrics({"best/above_baseline": fit.validation_score - fit.baseline_score})
        for group, values_of in (("best", scores), ("test", test)):
            run_log.metrics({f"{group}/{name}": value for name, value in values_of.items()})
        run_log.data(fit.to_dict(), "reports/fit.json")
        reporting.log_curves(
            run_log, result.evaluations, main_metric=task.main_metric, best=result.best, page=keep
        )
        logits = trainer.validation_logits(result.best.step)
        reporting.log_predictions(run_log, task, held_out["validation"], logits)
        if keep and cfg.tracking.log_model:
            example = task.example(data.dataset["validation"])
            reporting.log_model(run_log, trainer, task, example=example, step=result.best.step)
        run_log.tags({"tunetrail.state": "COMPLETE", "tunetrail.verdict": str(fit.verdict)})
    if trial is None:
        names = ("loss", *task.summary_metrics)
        print_summary(result, fit, run_log, uri=cfg.tracking.uri, names=names, test=test)
    return values[0] if len(values) == 1 else values


@lru_cache(maxsize=1)
def _load_data(config: str, seed: int, quality: str | bool, leakage: str | bool) -> PreparedData:
    """Load and prepare the rows; the trials of a study in one process share the result."""
    cfg = OmegaConf.create(json.loads(config))
    return prepare_data(
        _instantiate(cfg.source),
        text_column=cfg.text_column,
        label_column=cfg.label_column,
        label_names=None if cfg.label_names is None else list(cfg.label_names),
        validation_fraction=cfg.validation_fraction,
        test_fraction=cfg.test_fraction,
        subset=cfg.subset,
        sizes={"train": cfg.num_train, "validation": cfg.num_validation, "test": cfg.num_test},
        seed=seed,
        quality=quality,
        leakage=leakage,
    )


def by_length(dataset: Dataset) -> Dataset:
    """Sort by number of tokens, longest first: little padding, and memory runs out at once."""
    lengths = [len(ids) for ids in dataset["input_ids"]]
    return dataset.select(sorted(range(len(lengths)), key=lambda index: -lengths[index]))


def _take_sample(dataset: Dataset, num_rows: int, *, seed: int) -> Dataset:
    return dataset.shuffle(seed=seed).select(range(min(num_rows, len(dataset))))


def _instantiate(node: DictConfig, **values: Any) -> Any:
    """Instantiate, and let an InputError through as itself, not wrapped in Hydra's."""
    try:
        return instantiate(node, **values)
    except InstantiationException as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise


def _quiet_libraries() -> None:
    """Leave the screen to the run: one bar, one summary, and what the checks have to say.

    transformers would print a table of the weights of a new head, for which there is one line in
    :mod:`tunetrail.models.loading`, and a bar for each of its steps.
    """
    datasets.disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # A pruner that the config chooses by name may be one that Optuna marks as experimental.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def _open_trial(cfg: DictConfig, objective: str) -> Trial | None:
    if cfg.trial.number is None:
        return None
    return Trial(
        storage=cfg.trial.storage,
        study=cfg.trial.study,
        number=cfg.trial.number,
        pruner=_instantiate(cfg.pruner),
        objective=objective,
    )


def _require_resumable(cfg: DictConfig) -> Path:
    """Find the checkpoint to go on from, before anything of the run's record is touched."""
    require_interrupted(uri=cfg.tracking.uri, run_id=cfg.resume)
    recorded = read_artifact(uri=cfg.tracking.uri, run_id=cfg.resume, path="config.yaml")
    require_same_settings(cfg, recorded, run_id=cfg.resume)
    return find_checkpoint(Path(cfg.tracking.checkpoint_dir) / cfg.resume, run_id=cfg.resume)


@contextlib.contextmanager
def _open_run_log(cfg: DictConfig, trial: Trial | None) -> Iterator[RunLog]:
    tags, name = {}, cfg.tracking.run_name
    if trial is not None:
        tags = {"tunetrail.study": trial.study_name, "tunetrail.trial": str(trial.number)}
        if trial.parent_run_id is not None:
            tags["mlflow.parentRunId"] = trial.parent_run_id
        name = f"trial-{trial.number}"
    with open_run(
        uri=cfg.tracking.uri,
        experiment=cfg.tracking.experiment,
        artifact_dir=cfg.tracking.artifact_dir,
        name=name,
        run_id=cfg.resume,
        tags=tags,
        no_failure=optuna.TrialPruned,
    ) as run_log:
        if trial is not None:
            trial.set_run_id(run_log.run_id)
        try:
            with _clear_disk_errors():
                yield run_log
        except BaseException:
            # A single run can be resumed from its checkpoints. A trial is tried again from its
            # start, and its checkpoints would fill the disk.
            if trial is not None:
                shutil.rmtree(_checkpoint_dir(cfg, run_log), ignore_errors=True)
            raise
        shutil.rmtree(_checkpoint_dir(cfg, run_log), ignore_errors=True)


def _checkpoint_dir(cfg: DictConfig, run_log: RunLog) -> Path:
    return Path(cfg.tracking.checkpoint_dir) / run_log.run_id


@contextlib.contextmanager
def _clear_disk_errors() -> Iterator[None]:
    """Say what a full disk is, in whichever library it is met."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        # The last is how torch.save says it: its file writer knows no error numbers.
        signs = ("No space left", "disk is full", "inline_container")
        if any(sign in str(error) for sign in signs):
            raise InputError(
                "the disk is full: free space where tracking.checkpoint_dir, "
                f"tracking.artifact_dir and tracking.uri lie ({type(error).__name__})"
            ) from error
        raise


def _log_config(run_log: RunLog, cfg: DictConfig) -> None:
    run_log.text(redact(OmegaConf.to_yaml(cfg, resolve=True)), "config.yaml")
    if cfg.resume is None:
        run_log.params(params(cfg))
    if HydraConfig.initialized():
        hydra_cfg = HydraConfig.get()
        typed = [redact(override) for override in hydra_cfg.overrides.task]
        run_log.text(OmegaConf.to_yaml(OmegaConf.create(typed)), "overrides.yaml")
        choices = hydra_cfg.runtime.choices
        groups = ("experiment", "task", "data", "model", "method")
        run_log.tags({f"tunetrail.{name}": choices[name] for name in groups if choices.get(name)})


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


def _build_arguments(cfg: DictConfig, checkpoint_dir: Path) -> transformers.TrainingArguments:
    try:
        arguments: transformers.TrainingArguments = _instantiate(
            cfg.trainer,
            output_dir=str(checkpoint_dir),
            disable_tqdm=True,
            report_to="none",
            **precision_flags(cfg.precision),
        )
    except InstantiationException as error:
        # TrainingArguments checks its own values; Hydra wraps what it says.
        cause = error.__cause__
        raise InputError(f"trainer: {str(cause).strip().splitlines()[0]}") from error
    return arguments


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


def _score_test(trainer: transformers.Trainer, test: Dataset) -> dict[str, float]:
    scores = trainer.predict(test, metric_key_prefix="test").metrics or {}
    return score_metrics({name.removeprefix("test_"): value for name, value in scores.items()})
