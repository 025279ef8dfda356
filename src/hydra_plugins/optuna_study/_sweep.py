"""The sweep, top to bottom: ask for a point, launch it, tell how it ended, until the budget."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import configure_log
from hydra.plugins.launcher import Launcher
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, Trial, TrialState

from hydra_plugins.optuna_study import _workers
from hydra_plugins.optuna_study._errors import SweepError, first_line
from hydra_plugins.optuna_study._interruption import Interruption
from hydra_plugins.optuna_study._outcome import Outcome, failed, read_outcome
from hydra_plugins.optuna_study._report import (
    FINISHED,
    find_best,
    format_continue_command,
    format_summary,
    format_trial,
    write_results,
)
from hydra_plugins.optuna_study._sampler import OVERRIDES, RETRY_OF, StudySampler
from hydra_plugins.optuna_study._settings import Settings, read_settings
from hydra_plugins.optuna_study._space import SearchSpace, build_search_space, quoted
from hydra_plugins.optuna_study._storage import absolute_storage, open_storage, outages
from hydra_plugins.optuna_study._study import open_study, quiet_optuna
from hydra_plugins.optuna_study._workers import Worker
from hydra_plugins.optuna_study.sweeper import StudyCallback

log = logging.getLogger(__name__)

# On a failed trial: "Type: message", or this for one that was stopped from outside.
FAILURE = "failure"
INTERRUPTED = "interrupted"


def run_sweep(
    values: Mapping[str, Any],
    arguments: Sequence[str],
    *,
    config: DictConfig,
    config_loader: ConfigLoader,
    launcher: Launcher,
    require_composable: Callable[[list[str]], None],
) -> None:
    """Check what was asked, open the study, and work on it.

    Args:
        values: the node ``hydra.sweeper``, resolved.
        arguments: overrides as typed.
        config: the whole config of the sweep.
        config_loader: finds the options of config groups.
        launcher: runs a job.
        require_composable: raises if a job's config cannot be composed with these overrides.

    """
    settings = read_settings(values, config)
    space = build_search_space(settings.params, arguments, config_loader=config_loader)
    # A mistyped key is found before there is a study, with Hydra's own words for it.
    require_composable([*space.fixed, *space.sample(), *settings.job_overrides])
    callbacks = _build_callbacks(settings.callbacks)
    sweep_dir = Path(config.hydra.sweep.dir)
    command = format_continue_command(settings)
    remedy = f"what finished is kept; to continue: {command}"
    with outages(settings.storage, remedy=remedy), _worker_of(sweep_dir) as worker:
        OmegaConf.save(config, sweep_dir / "multirun.yaml")
        with worker.turn(), quiet_optuna():
            sampler = StudySampler(
                settings.sampler,
                key=settings.keys["sampler"],
                seed=settings.seed,
                space=space,
                worker=worker.identity,
            )
            study = open_study(open_storage(settings.storage), settings, space, sampler)
        _Sweep(
            settings=settings,
            space=space,
            study=study,
            sampler=sampler,
            worker=worker,
            launcher=launcher,
            config=config,
            callbacks=callbacks,
            continue_command=command,
        ).run()


def _build_callbacks(nodes: Mapping[str, Any]) -> dict[str, StudyCallback]:
    callbacks = {}
    for name, node in nodes.items():
        try:
            callbacks[name] = instantiate(node)
        except Exception as error:
            cause = error.__cause__ or error
            raise SweepError(
                f"hydra.sweeper.callbacks.{name}: it cannot be built ({first_line(cause)})"
            ) from error
    return callbacks


def _worker_of(sweep_dir: Path) -> Worker:
    try:
        return Worker(sweep_dir / ".workers")
    except OSError as error:
        raise SweepError(
            f"hydra.sweep.dir={sweep_dir}: it cannot be written ({first_line(error)})"
        ) from error


class _Sweep:
    """One process at work on a study."""

    def __init__(
        self,
        *,
        settings: Settings,
        space: SearchSpace,
        study: optuna.Study,
        sampler: StudySampler,
        worker: Worker,
        launcher: Launcher,
        config: DictConfig,
        callbacks: Mapping[str, StudyCallback],
        continue_command: str,
    ) -> None:
        self.settings = settings
        self.space = space
        self.study = study
        self.sampler = sampler
        self.worker = worker
        self.launcher = launcher
        self.config = config
        self.callbacks = callbacks
        self.continue_command = continue_command
        self.interruption = Interruption()
        self.distributions = {p.name: p.distribution for p in space.parameters}
        # What every job is told of its trial, but for the number.
        self.trial_overrides = [
            f"++trial.storage={quoted(absolute_storage(settings.storage))}",
            f"++trial.study={quoted(settings.study_name)}",
        ]
        self.failures: list[str] = []
        self.num_repeated = 0

    def run(self) -> None:
        with self.interruption.watched(), _quiet_launcher(self.launcher):
            self._start()
            failure = None
            try:
                while not self.interruption.requested and (trial := self._reserve_trial()):
                    self._run_trial(trial)
            except Exception as error:
                failure = first_line(error)
                raise
            finally:
                # What failed may be the storage itself: its error must not be hidden by another.
                with contextlib.suppress(Exception) if failure else contextlib.nullcontext():
                    self._finish()
                for name, callback in self.callbacks.items():
                    with self._logged(name):
                        callback.on_study_end(self.study, self.interruption.requested, failure)
            if self.interruption.requested:
                log.info("interrupted; to continue: %s", self.continue_command)
                raise SystemExit(130)
        self._require_result()

    def _start(self) -> None:
        for name, callback in self.callbacks.items():
            try:
                callback.on_study_start(self.study, self.config)
            except Exception as error:
                raise SweepError(
                    f"hydra.sweeper.callbacks.{name} could not start ({first_line(error)})"
                ) from error

    def _reserve_trial(self) -> Trial | None:
        """Take the next trial, or None when the trials that finished or run fill the budget."""
        with self.worker.turn():
            self._close_abandoned()
            trials = self.study.get_trials(deepcopy=False)
            taken = sum(trial.state in (*FINISHED, TrialState.RUNNING) for trial in trials)
            if taken >= self.settings.num_trials:
                return None
            waiting = any(trial.state is TrialState.WAITING for trial in trials)
            if not waiting and self.sampler.exhausted(trials):
                return None
            with quiet_optuna():
                trial = self.study.ask(self.distributions)
            trial.set_user_attr(OVERRIDES, self.space.overrides(trial.params))
            return trial

    def _run_trial(self, trial: Trial) -> None:
        overrides = [
            *self.space.fixed,
            *trial.user_attrs[OVERRIDES],
            *self.settings.job_overrides,
            *self.trial_overrides,
            f"++trial.number={trial.number}",
        ]
        try:
            with self.interruption.job():
                (job,) = self.launcher.launch([overrides], initial_job_idx=trial.number)
        except KeyboardInterrupt:
            self._restore_logging()
            # Also when the job itself raised it: that is how a person's Ctrl-C looks from inside.
            self.interruption.requested = True
            self._close_interrupted(self.study.get_trials(deepcopy=False)[trial.number])
            return
        except (Exception, SystemExit) as error:
            self._restore_logging()
            log.debug("trial %d could not be launched", trial.number, exc_info=True)
            outcome = failed(error)
        else:
            outcome = read_outcome(job, list(self.settings.objectives))
        self._tell(trial, outcome)

    def _tell(self, trial: Trial, outcome: Outcome) -> None:
        if outcome.failure:
            trial.set_user_attr(FAILURE, outcome.failure)
        with quiet_optuna():
            frozen = self.study.tell(trial, outcome.values, outcome.state, skip_if_finished=True)
        log.info(format_trial(self.study, frozen, self.settings))
        self._call_trial_end(frozen)
        self._count_failure(outcome.failure)

    def _count_failure(self, failure: str | None) -> None:
        """End the sweep when no other point will do better.

        Raises:
            SweepError: the same failure came several times in a row, or as many trials failed in
                this process as the study was to have.

        """
        if failure is None:
            self.num_repeated = 0
            return
        repeated = bool(self.failures) and self.failures[-1] == failure
        self.num_repeated = self.num_repeated + 1 if repeated else 1
        self.failures.append(failure)
        reason = failure.splitlines()[0]
        if self.num_repeated >= self.settings.max_repeated_failures:
            raise SweepError(f"{self.num_repeated} trials in a row failed with {reason}")
        if len(self.failures) >= self.settings.num_trials:
            raise SweepError(f"{len(self.failures)} trials failed, the last with {reason}")

    def _close_abandoned(self) -> None:
        """Close trials whose process is gone, so that their points are tried again."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self.worker.has_left(trial.user_attrs.get(_workers.ATTRIBUTE)):
                self._close_interrupted(trial)

    def _close_interrupted(self, trial: FrozenTrial) -> None:
        """Queue the trial's point again and tell the trial as failed.

        In this order: killed in between, the next worker finds the trial still running and the
        point already queued.
        """
        trials = self.study.get_trials(deepcopy=False)
        queued = any(other.user_attrs.get(RETRY_OF) == trial.number for other in trials)
        if OVERRIDES in trial.user_attrs and not queued:
            self.study.add_trial(
                optuna.create_trial(
                    state=TrialState.WAITING,
                    params=trial.params,
                    distributions=trial.distributions,
                    user_attrs={RETRY_OF: trial.number},
                    # Some samplers keep their own account of a point here, such as its generation.
                    system_attrs={**trial.system_attrs, "fixed_params": trial.params},
                )
            )
        storage = self.study._storage  # noqa: SLF001 - a Trial made anew would be drawn anew
        storage.set_trial_user_attr(trial._trial_id, FAILURE, INTERRUPTED)  # noqa: SLF001 - as above
        with quiet_optuna():
            frozen = self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        log.info(format_trial(self.study, frozen, self.settings))
        self._call_trial_end(frozen)

    def _call_trial_end(self, trial: FrozenTrial) -> None:
        for name, callback in self.callbacks.items():
            with self._logged(name):
                callback.on_trial_end(self.study, trial)

    def _finish(self) -> None:
        log.info(format_summary(self.study, self.settings, self.space))
        sweep_dir = Path(self.config.hydra.sweep.dir)
        write_results(self.study, sweep_dir / "optimization_results.yaml")

    def _require_result(self) -> None:
        trials = self.study.get_trials(deepcopy=False)
        running = any(trial.state is TrialState.RUNNING for trial in trials)
        if find_best(self.study, trials) or running:
            return
        pruned = sum(trial.state is TrialState.PRUNED for trial in trials)
        last = f"; the last failure: {self.failures[-1].splitlines()[0]}" if self.failures else ""
        raise SweepError(
            f"no trial of study {self.study.study_name} completed: {pruned} pruned, "
            f"{len(trials) - pruned} failed{last}"
        )

    def _restore_logging(self) -> None:
        """Undo what a launcher that was left by an exception could not: the job's logging."""
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)

    @contextlib.contextmanager
    def _logged(self, name: str) -> Iterator[None]:
        """Report a callback's error and go on: the trials are safe in the study."""
        try:
            yield
        except Exception as error:
            log.error("hydra.sweeper.callbacks.%s failed (%s)", name, first_line(error))  # noqa: TRY400 - one line; the next has the traceback
            log.debug("traceback of callbacks.%s", name, exc_info=True)


@contextlib.contextmanager
def _quiet_launcher(launcher: Launcher) -> Iterator[None]:
    """Silence the launcher's announcement of a job: the study has a line for each trial."""
    logger = logging.getLogger(type(launcher).__module__)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
