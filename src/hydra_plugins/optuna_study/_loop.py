"""One process at work on a study: ask for a point, run it, tell how it ended, until the budget."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from hydra_plugins.optuna_study._console.report import format_summary, format_trial, write_results
from hydra_plugins.optuna_study._console.status import StatusLines
from hydra_plugins.optuna_study._errors import SweepError, first_line
from hydra_plugins.optuna_study._jobs.failure import (
    INTERRUPTED,
    TRIED_AGAIN,
    Failure,
    FailureKind,
)
from hydra_plugins.optuna_study._jobs.interruption import Interruption
from hydra_plugins.optuna_study._jobs.outcome import Outcome, failed
from hydra_plugins.optuna_study._jobs.pool import POLL_SECONDS, Finished, Pool
from hydra_plugins.optuna_study._jobs.workers import Worker
from hydra_plugins.optuna_study._redaction import load_redact
from hydra_plugins.optuna_study._spec.points import suggest
from hydra_plugins.optuna_study._spec.space import quoted
from hydra_plugins.optuna_study._spec.sweep_spec import SweepSpec
from hydra_plugins.optuna_study._study.budget import Budget, Left
from hydra_plugins.optuna_study._study.ledger import Ledger
from hydra_plugins.optuna_study._study.sampler import StudySampler
from hydra_plugins.optuna_study._study.storage import absolute_storage
from hydra_plugins.optuna_study._study.study import quiet_optuna
from hydra_plugins.optuna_study.attributes import (
    ENQUEUED,
    FAILURE,
    FAILURE_KIND,
    FINALIST_OF,
    OVERRIDES,
    PLAN_SINCE,
    REPEATS,
    RETRY_OF,
    REUSED_FROM,
    SPREAD,
    WORKER,
)

log = logging.getLogger(__name__)

# In the study's folder: what was found.
RESULTS = "optimization_results.yaml"
# The constraint that a point breaks which the machine cannot hold.
MEMORY_CONSTRAINT = "out_of_memory"


@dataclass(frozen=True)
class Resources:
    """What this process has to work with, on one study after the other."""

    worker: Worker
    pool: Pool
    # Of the whole sweep.
    config: DictConfig
    interruption: Interruption
    continue_command: str


class _Running:
    """A trial that one of this process's workers has."""

    def __init__(self, trial: Trial, identity: Mapping[str, Any]) -> None:
        self.trial = trial
        self.identity = identity
        # Values of the jobs before, where a trial is several.
        self.repeats: list[list[float]] = []


class StudyLoop:
    """One process at work on a study."""

    def __init__(
        self, spec: SweepSpec, *, study: optuna.Study, resources: Resources, budget: Budget
    ) -> None:
        self.spec = spec
        self.settings = settings = spec.settings
        self.space = space = spec.space
        assert isinstance(study.sampler, StudySampler)
        self.sampler = study.sampler
        self.callbacks = spec.callbacks
        self.study = study
        self.worker = resources.worker
        self.pool = resources.pool
        self.config = resources.config
        self.interruption = resources.interruption
        self.continue_command = resources.continue_command
        self.redact = load_redact(settings.redact)
        self.budget = budget
        self.distributions = {p.name: p.distribution for p in space.parameters}
        # What every job is told of its trial, but for the number.
        self.trial_overrides = [
            f"++trial.storage={quoted(absolute_storage(settings.storage))}",
            f"++trial.study={quoted(settings.study_name)}",
        ]
        self.ledger = Ledger(study, plan_since=study.user_attrs.get(PLAN_SINCE, 0))
        self.running: dict[int, _Running] = {}
        self.status = StatusLines(study, self.running)

    def run(self) -> None:
        self._start()
        failure = None
        try:
            with self.status.shown():
                self._work()
        except Exception as error:
            failure = self.redact(first_line(error))
            raise
        finally:
            # What failed may be the storage itself: its error must not be hidden by another.
            with contextlib.suppress(Exception) if failure else contextlib.nullcontext():
                self._finish()
            for name, callback in self.callbacks.items():
                with logged(name):
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

    def _work(self) -> None:
        try:
            while not self.interruption.requested:
                left = self._fill()
                if left is not Left.MORE and not self.running:
                    if left is Left.NOTHING:
                        break
                    self.status.say_once(
                        "the rest of the budget runs in other processes; waiting for them"
                    )
                self._conclude_all(self.pool.wait(POLL_SECONDS))
        finally:
            # Also after an error: what runs is tried again by whoever continues.
            self._conclude_all(self.pool.interrupt(), leaving=True)

    def _fill(self) -> Left:
        """Give every free worker a trial; tell what is left when there is none."""
        for identity in self.pool.free():
            if self.interruption.requested or self.budget.is_pausing():
                return Left.MORE
            trial, left = self._next_trial(identity)
            if trial is None:
                return left
            self.running[trial.number] = _Running(trial, identity)
            self._launch(self.running[trial.number])
        return Left.MORE

    def _next_trial(self, identity: dict[str, Any]) -> tuple[Trial | None, Left]:
        """Ask until a point comes that has not been finished before."""
        while not self.interruption.requested:
            trial = None
            with self.worker.turn():
                abandoned, left = self._look()
                if left is Left.MORE:
                    trial = self._ask(identity)
            for closed in abandoned:
                self._announce(closed)
            if trial is None:
                return None, left
            source = self.ledger.find_same(trial.user_attrs[OVERRIDES])
            if source is None:
                return trial, Left.MORE
            self._reuse(trial, source)
        return None, Left.MORE

    def _look(self) -> tuple[list[FrozenTrial], Left]:
        """Close what dead workers left, and tell whether another trial may begin."""
        trials = self.ledger.update()
        abandoned = self._close_abandoned()
        if abandoned:
            trials = self.ledger.update()
        left = self.budget.left(self.ledger, self.worker)
        if left is Left.MORE and not self.ledger.is_waiting and self.sampler.exhausted(trials):
            left = Left.NOTHING
        return abandoned, left

    def _ask(self, identity: dict[str, Any]) -> Trial | None:
        self.sampler.worker = identity
        with quiet_optuna():
            trial = self.study.ask(self.distributions)
            suggest(self.spec.custom, self.spec.job_config, trial, settings=self.settings)
        # Last: a trial with overrides is one whose point was drawn in full.
        trial.set_user_attr(OVERRIDES, self.space.overrides(trial.params))
        return trial

    def _reuse(self, trial: Trial, source: FrozenTrial) -> None:
        """Tell what is known of the point, reports and constraints included."""
        trial.set_user_attr(REUSED_FROM, source.number)
        for name in (FAILURE, FAILURE_KIND, REPEATS, SPREAD):
            if name in source.user_attrs:
                trial.set_user_attr(name, source.user_attrs[name])
        for name, value in source.constraints.items():
            trial.set_constraint(name, value)
        if len(self.spec.objectives) == 1:
            for step, value in source.intermediate_values.items():
                trial.report(value, step)
        values = source.values if source.state is TrialState.COMPLETE else None
        self._announce(self._tell(trial, source.state, values))

    def _launch(self, running: _Running) -> None:
        trial = running.trial
        repeat, num_seeds = len(running.repeats), self.settings.num_seeds
        overrides = [
            *self.space.fixed,
            *trial.user_attrs[OVERRIDES],
            *self.settings.job_overrides,
            *self.trial_overrides,
            f"++trial.number={trial.number}",
        ]
        if num_seeds > 1:
            overrides += [f"++trial.repeat={repeat}", f"++trial.num_repeats={num_seeds}"]
        overrides += self._repeat_overrides(repeat)
        self.pool.start(trial.number, overrides, running.identity)

    def _repeat_overrides(self, repeat: int) -> list[str]:
        """Give a job the seed and the folder of its repeat; the first has those of the config."""
        if repeat == 0:
            return []
        return [self._seed_override(repeat), self._folder_override(f"{{}}/seed-{repeat}")]

    def _seed_override(self, repeat: int) -> str:
        return f"{self.settings.seed_key}={self.spec.first_seed + repeat}"

    def _folder_override(self, pattern: str) -> str:
        """Name a job's folder after its trial's, which the pattern's braces stand for."""
        sweep = OmegaConf.to_container(self.config.hydra.sweep, resolve=False)
        assert isinstance(sweep, dict)
        return f"hydra.sweep.subdir={quoted(pattern.format(sweep['subdir']))}"

    def _conclude_all(self, ended: Sequence[Finished], *, leaving: bool = False) -> None:
        """Tell every job's end, also where the first of them ends the sweep."""
        errors = []
        for finished in ended:
            try:
                self._conclude(finished, leaving=leaving)
            except SweepError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _conclude(self, finished: Finished, *, leaving: bool) -> None:
        """Answer the end of a job in the way that its cause asks for.

        Raises:
            SweepError: no other point will do better.

        """
        running = self.running[finished.number]
        outcome = finished.outcome.redacted(self.redact)
        if outcome.values is not None:
            running.repeats.append(list(outcome.values))
            if len(running.repeats) < self.settings.num_seeds:
                if not leaving:
                    running.trial.set_user_attr(REPEATS, running.repeats)
                    self._launch(running)
                    return
                outcome = failed(INTERRUPTED)
        del self.running[finished.number]
        try:
            with self.worker.turn():
                frozen = self._write_end(running, outcome)
        except UpdateFinishedTrialError:
            # Its worker died while this process was busy, and another one has seen to it.
            log.info("trial %d was closed by another process", finished.number)
            return
        self._announce(frozen)
        if not leaving:
            self.budget.count(outcome.failure)

    def _write_end(self, running: _Running, outcome: Outcome) -> FrozenTrial:
        """Write how a trial ended, and why.

        Raises:
            UpdateFinishedTrialError: another process has closed the trial.

        """
        trial, state, values = running.trial, outcome.state, outcome.values
        failure = outcome.failure
        if failure and failure.kind in TRIED_AGAIN:
            return self._try_again(self.study.get_trials(deepcopy=False)[trial.number], failure)
        if values is not None and self.settings.num_seeds > 1:
            columns = list(zip(*running.repeats, strict=True))
            values = tuple(fmean(column) for column in columns)
            trial.set_user_attr(REPEATS, running.repeats)
            trial.set_user_attr(SPREAD, [stdev(column) for column in columns])
        if failure:
            self._write_failure(trial.number, failure)
            if failure.kind is FailureKind.OUT_OF_MEMORY:
                # A failed trial tells a sampler nothing; a pruned one that breaks a constraint
                # makes TPE look elsewhere.
                trial.set_constraint(MEMORY_CONSTRAINT, 1.0)
                state = TrialState.PRUNED
        return self._tell(trial, state, values)

    def _tell(
        self, trial: Trial | int, state: TrialState, values: Sequence[float] | None = None
    ) -> FrozenTrial:
        with quiet_optuna():
            frozen = self.study.tell(trial, values, state, skip_if_finished=True)
        self.ledger.note(frozen)
        return frozen

    def _announce(self, trial: FrozenTrial) -> None:
        beside = {other.number for other in self.ledger.running} | self.running.keys()
        num_parallel = 1 + len(beside - {trial.number})
        self.status.say(format_trial(self.ledger, trial, self.spec, num_parallel=num_parallel))
        for name, callback in self.callbacks.items():
            with logged(name):
                callback.on_trial_end(self.study, trial)

    def _write_failure(self, number: int, failure: Failure) -> None:
        # Not through a Trial: of one that is made anew Optuna draws the point anew.
        storage = self.study._storage  # noqa: SLF001 - as above
        trial_id = storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)  # noqa: SLF001 - as above
        storage.set_trial_user_attr(trial_id, FAILURE, failure.text)
        storage.set_trial_user_attr(trial_id, FAILURE_KIND, str(failure.kind))

    def _close_abandoned(self) -> list[FrozenTrial]:
        """Close trials whose process is gone, so that their points are tried again."""
        return [
            self._try_again(trial, INTERRUPTED)
            for trial in self.ledger.running
            if trial.number not in self.running
            and self.worker.has_left(trial.user_attrs.get(WORKER))
        ]

    def _try_again(self, trial: FrozenTrial, failure: Failure) -> FrozenTrial:
        """Queue the trial's point again and tell the trial as failed.

        In this order: killed in between, the next worker finds the trial still running and the
        point already queued. Only one process may do this at a time.
        """
        self.ledger.update()
        self._require_running(trial)
        kept = {k: v for k, v in trial.user_attrs.items() if k in (ENQUEUED, FINALIST_OF)}
        attributes = {RETRY_OF: trial.number, **kept}
        # Some samplers keep their own account of a point here, such as its generation.
        system = {k: v for k, v in trial.system_attrs.items() if not k.startswith("constraints")}
        again = None
        if OVERRIDES in trial.user_attrs:
            again = optuna.create_trial(
                state=TrialState.WAITING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs=attributes,
                system_attrs={**system, "fixed_params": trial.params},
            )
        elif "fixed_params" in system:
            # It was asked for, and the process died before the rest of the point was drawn.
            again = optuna.create_trial(
                state=TrialState.WAITING, user_attrs=attributes, system_attrs=system
            )
        if again is not None and not self.ledger.is_queued_again(trial.number):
            self.study.add_trial(again)
        self._write_failure(trial.number, failure)
        return self._tell(trial.number, TrialState.FAIL)

    def _require_running(self, trial: FrozenTrial) -> None:
        if self.study.get_trials(deepcopy=False)[trial.number].state.is_finished():
            raise UpdateFinishedTrialError(f"trial {trial.number} has ended")

    def _finish(self) -> None:
        if self.budget.reason:
            log.info("stopped: %s", self.budget.reason)
        log.info(format_summary(self.study, self.ledger, self.spec))
        path = Path(self.config.hydra.sweep.dir) / RESULTS
        # Another process may be adding to the file.
        with self.worker.turn():
            write_results(self.ledger.best, path, num_objectives=len(self.spec.objectives))

    def _require_result(self) -> None:
        trials = self.study.get_trials(deepcopy=False)
        complete = any(trial.state is TrialState.COMPLETE for trial in trials)
        running = any(trial.state is TrialState.RUNNING for trial in trials)
        if complete or running:
            return
        pruned = sum(trial.state is TrialState.PRUNED for trial in trials)
        last = self.budget.last_failure
        told = f"; the last failure: {last.line}" if last else ""
        raise SweepError(
            f"no trial of study {self.study.study_name} completed: {pruned} pruned, "
            f"{len(trials) - pruned} failed{told}"
        )


@contextlib.contextmanager
def logged(name: str) -> Iterator[None]:
    """Report a callback's error and go on: the trials are safe in the study."""
    try:
        yield
    except Exception as error:
        log.error("hydra.sweeper.callbacks.%s failed (%s)", name, first_line(error))  # noqa: TRY400 - one line; the next has the traceback
        log.debug("traceback of callbacks.%s", name, exc_info=True)
