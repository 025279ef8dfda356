"""The sweep, top to bottom: check, open the study, start workers, search, train the best again."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import version
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.optuna_study._console.commands import format_continue_command
from hydra_plugins.optuna_study._errors import SweepError, first_line
from hydra_plugins.optuna_study._finals import run_finals
from hydra_plugins.optuna_study._jobs.interruption import Interruption
from hydra_plugins.optuna_study._jobs.pool import InProcessPool, LauncherPool, Pool
from hydra_plugins.optuna_study._jobs.processes import ProcessPool
from hydra_plugins.optuna_study._jobs.worker_process import Assignment, name_task
from hydra_plugins.optuna_study._jobs.workers import Worker
from hydra_plugins.optuna_study._jobs.yaml_files import plain, save_yaml
from hydra_plugins.optuna_study._loop import Resources, StudyLoop
from hydra_plugins.optuna_study._redaction import load_redact, redacted_errors
from hydra_plugins.optuna_study._spec.sweep_spec import SweepSpec, check_spec
from hydra_plugins.optuna_study._study.budget import Budget
from hydra_plugins.optuna_study._study.sampler import StudySampler
from hydra_plugins.optuna_study._study.storage import open_storage, outages
from hydra_plugins.optuna_study._study.study import open_study, quiet_optuna

log = logging.getLogger(__name__)


def run_sweep(
    values: Mapping[str, Any],
    arguments: Sequence[str],
    *,
    config: DictConfig,
    hydra_context: HydraContext,
    launcher: Launcher,
    task_function: TaskFunction,
) -> None:
    """Check what is asked for, open the study, run it, and train its best points again.

    Args:
        values: the node ``hydra.sweeper``, resolved.
        arguments: overrides as typed.
        config: the whole config of the sweep.
        hydra_context: composes configs, and holds ``hydra.callbacks``.
        launcher: of ``hydra/launcher``.
        task_function: what the app decorated with ``hydra.main``.

    """
    interruption = Interruption()
    redact = load_redact(values["redact"])
    # First of all: a signal while the study is being opened is handled as well.
    with interruption.watched(), redacted_errors(redact):
        spec = check_spec(values, arguments, config, hydra_context.config_loader)
        settings = spec.settings
        sampler = StudySampler(
            settings.sampler, key=settings.keys["sampler"], seed=settings.seed, space=spec.space
        )
        command = format_continue_command(settings)
        remedy = f"finished trials are kept; to continue: {command}"
        sweep_dir = Path(config.hydra.sweep.dir)
        with outages(settings.storage, remedy=remedy), _worker_of(sweep_dir) as worker:
            save_yaml(redact(plain(config)), sweep_dir / "multirun.yaml")
            with worker.turn(), quiet_optuna():
                study = open_study(
                    open_storage(settings.storage),
                    settings,
                    spec.space,
                    sampler,
                    plan=spec.plan,
                    points=spec.points,
                )
            pool = _build_pool(
                spec,
                hydra_context=hydra_context,
                launcher=launcher,
                task_function=task_function,
                config=config,
                interruption=interruption,
                worker=worker,
            )
            resources = Resources(worker, pool, config, interruption, command)
            with contextlib.closing(pool):
                _warn_of_chance(spec)
                StudyLoop(spec, study=study, resources=resources, budget=Budget(settings)).run()
                run_finals(spec, study, resources)


def _warn_of_chance(spec: SweepSpec) -> None:
    if spec.num_workers > 1 and spec.settings.seed is not None:
        log.info(
            "%d workers: the order in which trials end is chance, and so are the points that come "
            "next; one worker draws the same points every time",
            spec.num_workers,
        )


def _build_pool(
    spec: SweepSpec,
    *,
    hydra_context: HydraContext,
    launcher: Launcher,
    task_function: TaskFunction,
    config: DictConfig,
    interruption: Interruption,
    worker: Worker,
) -> Pool:
    """Choose where jobs run.

    Raises:
        SweepError: several workers and a launcher other than Hydra's basic one.

    """
    settings, key = spec.settings, spec.settings.keys["num_workers"]
    is_basic = type(launcher).__name__ == "BasicLauncher"
    if spec.num_workers > 1 and not is_basic:
        raise SweepError(
            f"{key}={spec.num_workers}: workers are processes of their own, and hydra/launcher="
            f"{config.hydra.runtime.choices['hydra/launcher']} would not be used; set {key}=1 or "
            "hydra/launcher=basic"
        )
    if spec.num_workers > 1:
        return ProcessPool(
            composer=spec.composer,
            assignment=_assign(task_function, config, spec, workers_dir=worker.folder),
            interruption=interruption,
            num_workers=spec.num_workers,
            workers_per_gpu=settings.workers_per_gpu,
        )
    here: dict[str, Any] = {
        "composer": spec.composer,
        "task_function": task_function,
        "config": config,
        "hydra_callbacks": hydra_context.callbacks,
        "objectives": list(spec.objectives),
        "interruption": interruption,
        "identity": worker.identity,
    }
    return InProcessPool(**here) if is_basic else LauncherPool(launcher, **here)


def _assign(
    task_function: TaskFunction, config: DictConfig, spec: SweepSpec, *, workers_dir: Path
) -> Assignment:
    base = version.getbase()
    return Assignment(
        task=name_task(task_function, key=spec.settings.keys["num_workers"]),
        objectives=tuple(spec.objectives),
        version_base=None if base is None else str(base),
        job_name=str(config.hydra.job.name),
        workers_dir=workers_dir,
    )


def _worker_of(sweep_dir: Path) -> Worker:
    try:
        return Worker(sweep_dir / ".workers")
    except OSError as error:
        raise SweepError(
            f"hydra.sweep.dir={sweep_dir}: it cannot be written ({first_line(error)})"
        ) from error
