"""Open a run: its trial, its record in MLflow, and the checkpoint from which it resumes."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from tunetrail.config.build import build
from tunetrail.config.objectives import read_objectives
from tunetrail.config.paths import locate
from tunetrail.config.progress import write_progress_to
from tunetrail.config.record import flatten, flatten_params, record, require_same_settings
from tunetrail.config.secrets import redact
from tunetrail.errors import named_disk_errors
from tunetrail.studies.trial import Trial
from tunetrail.templates.descriptions import (
    escape,
    introduce,
    join_paragraphs,
    link_to_run,
    say_rerun,
    say_start,
    say_trial,
)
from tunetrail.templates.names import is_usual, name_run
from tunetrail.tracking import recording
from tunetrail.tracking.artifacts import read_artifact
from tunetrail.tracking.descriptions import tag_first
from tunetrail.tracking.run_log import (
    CHOICES,
    RunLog,
    close_abandoned,
    open_run,
    require_interrupted,
)
from tunetrail.tracking.store import make_folder
from tunetrail.tracking.system_metrics import sampled
from tunetrail.tracking.tags import (
    FINAL_OF,
    FINALS_TRIAL,
    PARENT,
    REFERENCE,
    REPEAT,
    ROLE,
    STUDY,
    TRIAL,
)
from tunetrail.training.checkpoints import find_checkpoint
from tunetrail.training.run_lock import TrialOf, hold_run, note_trial


def open_trial(cfg: DictConfig) -> Trial | None:
    if cfg.trial.number is None:
        return None
    write_progress_to(cfg.trial.get("progress"))
    return Trial(
        storage=cfg.trial.storage,
        study=cfg.trial.study,
        number=cfg.trial.number,
        pruner=build(cfg.pruner),
        objective=next(iter(read_objectives(cfg))),
        repeat=cfg.trial.repeat,
        num_repeats=cfg.trial.num_repeats,
    )


def _require_resumable(cfg: DictConfig, held: contextlib.ExitStack) -> Path:
    """Find the checkpoint to resume from, before anything of the run's record is changed."""
    require_interrupted(uri=cfg.tracking.uri, run_id=cfg.resume)
    held.enter_context(hold_run(checkpoint_dir(cfg, cfg.resume), run_id=cfg.resume))
    recorded = read_artifact(uri=cfg.tracking.uri, run_id=cfg.resume, path="config.yaml")
    require_same_settings(cfg, recorded, run_id=cfg.resume)
    return find_checkpoint(checkpoint_dir(cfg, cfg.resume), run_id=cfg.resume)


@contextlib.contextmanager
def open_run_log(cfg: DictConfig, trial: Trial | None) -> Iterator[tuple[RunLog, Path | None]]:
    """Open the run for this process alone; the path is the checkpoint of a run that is resumed."""
    make_folder(
        locate(cfg.tracking.checkpoint_dir),
        key=f"tracking.checkpoint_dir={cfg.tracking.checkpoint_dir}",
    )
    tags = {ROLE: "run"} if trial is None else _tags_of(trial)
    # The lock is released last, when the run's record says how it ended.
    with contextlib.ExitStack() as held:
        held.callback(write_progress_to, None)
        resume_from = None if cfg.resume is None else _require_resumable(cfg, held)
        with open_run(
            uri=cfg.tracking.uri,
            experiment=cfg.tracking.experiment,
            artifact_dir=cfg.tracking.artifact_dir,
            name=_name_run(cfg, trial),
            run_id=cfg.resume,
            tags=tags,
            no_failure=optuna.TrialPruned,
        ) as run_log:
            folder = checkpoint_dir(cfg, run_log.run_id)
            if resume_from is None:
                held.enter_context(hold_run(folder, run_id=run_log.run_id))
            if trial is None:
                close_abandoned(run_log, locate(cfg.tracking.checkpoint_dir))
            else:
                if trial.parent_run_id is not None:
                    note_trial(folder, TrialOf(trial.parent_run_id, trial.number))
                trial.set_run_id(run_log.run_id)
            try:
                with named_disk_errors(), sampled(run_log, wanted=cfg.tracking.system_metrics):
                    yield run_log, resume_from
            except BaseException:
                # A single run can be resumed from its checkpoints. A trial is tried again from the
                # beginning, and its checkpoints would fill the disk.
                if trial is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                raise
            shutil.rmtree(folder, ignore_errors=True)


def _tags_of(trial: Trial) -> dict[str, str]:
    tags = {
        STUDY: trial.study_name,
        TRIAL: str(trial.searched),
        ROLE: "trial" if trial.final_of is None else "finalist",
    }
    if trial.final_of is not None:
        tags |= {FINALS_TRIAL: str(trial.number), FINAL_OF: trial.final_of}
    if trial.parent_run_id is not None:
        tags[PARENT] = trial.parent_run_id
    if trial.repeat is not None:
        tags[REPEAT] = str(trial.repeat)
    if trial.reference is not None:
        tags[REFERENCE] = trial.reference
    return tags


def _name_run(cfg: DictConfig, trial: Trial | None) -> str:
    """Name a run: as tracking.run_name says, else by what it is."""
    if trial is not None:
        return trial.name_run(seed=cfg.training_seed, own=cfg.tracking.run_name)
    if cfg.tracking.run_name is not None:
        return str(cfg.tracking.run_name)
    # Values from environment variables stay unread.
    recorded = record(cfg)
    typed = [override.partition("=")[0].lstrip("+") for override in list_overrides()]
    values = flatten(recorded)
    settings = {key: values[key] for key in typed if key in values and is_usual(key)}
    return name_run(recorded, recorded["task"]["_target_"].rpartition(".")[2], settings)


def checkpoint_dir(cfg: DictConfig, run_id: str) -> Path:
    """Return the folder of a run's checkpoints while it trains."""
    return locate(cfg.tracking.checkpoint_dir) / run_id


def log_origin(run_log: RunLog, cfg: DictConfig, trial: Trial | None) -> None:
    """Log config and code of the run; a resumed run has logged its config before."""
    if cfg.resume is None:
        _log_config(run_log, cfg, trial)
    recording.log_code(run_log, seeds=_seeds(cfg), resumed=cfg.resume is not None)


def _log_config(run_log: RunLog, cfg: DictConfig, trial: Trial | None) -> None:
    recorded = record(cfg)
    said = [introduce(recorded), say_neighbours(run_log, recorded, trial)]
    tags = tag_first(join_paragraphs([*said, say_rerun(run_log.run_id)]))
    run_log.text(OmegaConf.to_yaml(OmegaConf.create(recorded)), "config.yaml")
    run_log.params(flatten_params(recorded))
    if HydraConfig.initialized():
        hydra_cfg = HydraConfig.get()
        run_log.text(OmegaConf.to_yaml(OmegaConf.create(list_overrides())), "overrides.yaml")
        choices = hydra_cfg.runtime.choices
        tags |= {f"tunetrail.{name}": choices[name] for name in CHOICES if choices.get(name)}
    run_log.tags(tags)


def say_neighbours(run_log: RunLog, recorded: Mapping[str, Any], trial: Trial | None) -> str:
    """Link to the study that a run belongs to, and to the run whose model it starts from."""
    experiment, said = run_log.experiment_id, [say_start(recorded, run_log.experiment_id)]
    if trial is not None:
        name = trial.study_name if trial.final_of is None else f"finals of {trial.final_of}"
        above = (
            escape(name)
            if trial.parent_run_id is None
            else link_to_run(name, experiment, trial.parent_run_id)
        )
        seed = None if trial.repeat is None else recorded["training_seed"]
        said.insert(0, say_trial(trial.searched, above, trial.params, seed=seed))
    return "\n\n".join(filter(None, said))


def list_overrides() -> list[str]:
    """List what was typed, or set by a sweep, without secrets; empty where Hydra runs no job."""
    if not HydraConfig.initialized():
        return []
    return redact([str(text) for text in HydraConfig.get().overrides.task])


def _seeds(cfg: DictConfig) -> dict[str, int]:
    """Return the seed of every generator; Trainer seeds its own from its arguments."""
    batches = cfg.trainer.data_seed if cfg.trainer.data_seed is not None else cfg.trainer.seed
    rows = dict.fromkeys(("splits", "subsets", "train_sample"), cfg.seed)
    if cfg.data.get("per_label") is not None:
        rows["per_label"] = cfg.data.per_label_seed
    training = dict.fromkeys(("python", "numpy", "torch", "torch_cuda"), cfg.trainer.seed)
    return {**rows, "head": cfg.training_seed, **training, "batches": batches}
