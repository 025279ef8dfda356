"""The sweep, top to bottom: check, open the study, start workers, search, train the best again."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import version

from hydra_plugins.optuna_study._configs import plain, save_yaml
from hydra_plugins.optuna_study._console.commands import format_continue_command
from hydra_plugins.optuna_study._console.screen import Screen
from hydra_plugins.optuna_study._errors import SweepError, first_line
from hydra_plugins.optuna_study._finals import run_finals
from hydra_plugins.optuna_study._functions import (
    find_passwords,
    load_redact,
    redact_command,
    redacted_errors,
)
from hydra_plugins.optuna_study._jobs.devices import count_workers
from hydra_plugins.optuna_study._jobs.interruption import Interruption
from hydra_plugins.optuna_study._jobs.pool import App, InProcessPool, LauncherPool, Pool
from hydra_plugins.optuna_study._jobs.processes import ProcessPool
from hydra_plugins.optuna_study._jobs.worker_process import Assignment, name_task
from hydra_plugins.optuna_study._jobs.workers import Worker
from hydra_plugins.optuna_study._loop import PROGRESS, Resources, StudyLoop
from hydra_plugins.optuna_study._spec.sweep_spec import SweepSpec, check_spec
from hydra_plugins.optuna_study._study.budget import Budget
from hydra_plugins.optuna_study._study.heartbeat import build_worker
from hydra_plugins.optuna_study._study.sampler import StudySampler
from hydra_plugins.optuna_study._study.stopping import StopRequest
from hydra_plugins.optuna_study._study.storage import open_storage, outages
from hydra_plugins.optuna_study._study.study import build_pruner, open_study, quiet_optuna

log = logging.getLogger(__name__)


def run_sweep(app: App, values: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Check what is asked for, open the study, run it, and train its best points again.

    Args:
        app: what Hydra gives the sweeper.
        values: the node ``hydra.sweeper``, resolved.
        arguments: overrides as typed.

    """
    interruption = Interruption()
    redact = load_redact(values["redact"], values["storage"])
    screen = Screen(app.config, redact)
    # First of all: a signal while the study is being opened is handled as well.
    with interruption.watched(), redacted_errors(redact), screen.shown():
        with _starting(interruption), screen.doing("checking the config"):
            spec = check_spec(values, arguments, app.config, app.hydra_context.config_loader)
            settings = spec.settings
            places = count_workers(
                settings.num_workers, workers_per_gpu=settings.workers_per_gpu, keys=settings.keys
            )
            num_workers = min(places, settings.num_trials)
            with quiet_optuna():
                pruner = build_pruner(spec)
                sampler = StudySampler(
                    settings.sampler,
                    key=settings.keys["sampler"],
                    seed=settings.seed,
                    space=spec.space,
                )
        command = redact_command(redact, format_continue_command(settings))
        remedy = f"finished trials are kept; to continue: {command}"
        sweep_dir = Path(app.config.hydra.sweep.dir)
        with contextlib.ExitStack() as stack:
            stack.callback(_remove_empty, sweep_dir / PROGRESS)
            stack.enter_context(outages(settings.storage, remedy=remedy))
            with _starting(interruption), screen.doing("opening the study"):
                _save_config(redact(plain(app.config)), sweep_dir)
                storage = open_storage(settings.storage)
                worker = stack.enter_context(
                    build_worker(
                        settings.storage,
                        settings.study_name,
                        sweep_dir / ".workers",
                        grace_period=settings.grace_period,
                    )
                )
                with worker.turn(), quiet_optuna():
                    study = open_study(storage, spec, sampler, pruner)
            pool = _build_pool(spec, app, interruption, worker, num_workers)
            stop = StopRequest(study, interruption)
            resources = Resources(worker, pool, app.config, interruption, command, screen, stop)
            with contextlib.closing(pool), stop.watched():
                StudyLoop(spec, study=study, resources=resources, budget=Budget(settings)).run()
                run_finals(spec, study, resources)
            if resources.undone:
                # Last: all that could be done is done, and the exit code says that not all was.
                raise SweepError(
                    f"{'; '.join(resources.undone)}; finished trials are kept; once that is fixed, "
                    f"to continue: {command}"
                )


@contextlib.contextmanager
def _starting(interruption: Interruption) -> Iterator[None]:
    """End at once at a signal: no trial runs yet, and what was opened may be opened again.

    Raises:
        SystemExit: with code 130.

    """
    try:
        with interruption.job():
            yield
    except KeyboardInterrupt:
        log.info("interrupted")
        # A library that was imported in part may log what it does at exit.
        logging.getLogger().setLevel(logging.WARNING)
        raise SystemExit(130) from None


def _build_pool(
    spec: SweepSpec, app: App, interruption: Interruption, worker: Worker, num_workers: int
) -> Pool:
    """Choose where jobs run.

    Raises:
        SweepError: several workers and a launcher other than Hydra's basic one.

    """
    key = spec.settings.keys["num_workers"]
    is_basic = type(app.launcher).__name__ == "BasicLauncher"
    if num_workers == 1:
        kind = InProcessPool if is_basic else LauncherPool
        written = plain(app.config.hydra)
        if not is_basic and find_passwords(str(written["sweeper"]["storage"])):
            log.warning(
                "hydra.sweeper.storage: Hydra writes its password into the folder of every job "
                "that this launcher runs; give it as '${oc.env:NAME}'"
            )
        return kind(app, spec.composer, list(spec.objectives), interruption, worker.identity)
    if not is_basic:
        raise SweepError(
            f"{key}={num_workers}: workers are processes of their own, and hydra/launcher="
            f"{app.config.hydra.runtime.choices['hydra/launcher']} would not be used; set {key}=1 "
            "or hydra/launcher=basic"
        )
    if spec.settings.seed is not None:
        log.info(
            "%d workers: the order in which trials end is chance, and so are the points that come "
            "next; one worker draws the same points every time",
            num_workers,
        )
    base = version.getbase()
    assignment = Assignment(
        task=name_task(app.task_function, key=key),
        objectives=tuple(spec.objectives),
        version_base=None if base is None else str(base),
        job_name=str(app.config.hydra.job.name),
        workers_dir=worker.folder,
    )
    return ProcessPool(
        composer=spec.composer,
        assignment=assignment,
        interruption=interruption,
        num_workers=num_workers,
        workers_per_gpu=spec.settings.workers_per_gpu,
    )


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another process still writes there
        folder.rmdir()


def _save_config(config: Any, sweep_dir: Path) -> None:
    try:
        sweep_dir.mkdir(parents=True, exist_ok=True)
        save_yaml(config, sweep_dir / "multirun.yaml")
    except OSError as error:
        raise SweepError(
            f"hydra.sweep.dir={sweep_dir}: it cannot be written ({first_line(error)})"
        ) from error
