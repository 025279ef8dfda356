"""One process at work on a study: draw a point, run it, report how it ended, up to the budget."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from hydra_plugins.optuna_study._configs import plain, quoted
from hydra_plugins.optuna_study._console.report import format_summary, format_trial, write_results
from hydra_plugins.optuna_study._console.screen import Screen
from hydra_plugins.optuna_study._console.status import Around, Status
from hydra_plugins.optuna_study._errors import ForeignPointError, SweepError, first_line
from hydra_plugins.optuna_study._functions import load_redact, redact_command
from hydra_plugins.optuna_study._jobs.failure import INTERRUPTED, Failure, FailureKind
from hydra_plugins.optuna_study._jobs.interruption import Interruption
from hydra_plugins.optuna_study._jobs.outcome import failed
from hydra_plugins.optuna_study._jobs.pool import POLL_SECONDS, Finished, Pool
from hydra_plugins.optuna_study._jobs.workers import Worker
from hydra_plugins.optuna_study._spec.references import identify
from hydra_plugins.optuna_study._spec.sweep_spec import SweepSpec
from hydra_plugins.optuna_study._study.budget import Budget, Left
from hydra_plugins.optuna_study._study.drawing import draw_point
from hydra_plugins.optuna_study._study.endings import abandon, fail, retry, reuse, write_ending
from hydra_plugins.optuna_study._study.ledger import Ledger
from hydra_plugins.optuna_study._study.sampler import StudySampler
from hydra_plugins.optuna_study._study.stopping import StopRequest
from hydra_plugins.optuna_study._study.storage import absolute_storage
from hydra_plugins.optuna_study._study.study import quiet_optuna, sign_next
from hydra_plugins.optuna_study.attributes import CARRIED, DEFAULT, OVERRIDES, REPEATS

log = logging.getLogger(__name__)

# In the folder of the study: the files in which jobs write how far they are.
PROGRESS = ".progress"


@dataclass(frozen=True)
class Resources:
    """What this process has to work with, on one study after the other."""

    worker: Worker
    pool: Pool
    # Of the whole sweep.
    config: DictConfig
    interruption: Interruption
    continue_command: str
    screen: Screen
    stop: StopRequest
    # What callbacks left undone at the end of a study or its finals.
    undone: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """The folder of the study."""
        return Path(self.config.hydra.sweep.dir)


@dataclass
class Running:
    """A trial that a worker of this process runs."""

    trial: Trial
    identity: dict[str, Any]
    # Of its point. Kept here: whoever can write to the storage could change them there.
    overrides: list[str]
    # Of the reference that it runs; empty for a point of the search.
    reference: tuple[str, ...] = ()
    # The values of the jobs before, where a trial is several.
    repeats: list[list[float]] = field(default_factory=list)


class StudyLoop:
    """One process at work on a study."""

    # Of the trials, in the folder of the study; empty: that folder itself.
    folder = ""

    def __init__(
        self, spec: SweepSpec, *, study: optuna.Study, resources: Resources, budget: Budget
    ) -> None:
        assert isinstance(study.sampler, StudySampler)
        self.spec = spec
        self.settings = spec.settings
        self.study = study
        self.sampler = study.sampler
        self.resources = resources
        self.worker = resources.worker
        self.pool = resources.pool
        self.interruption = resources.interruption
        self.redact = load_redact(spec.settings.redact, spec.settings.storage)
        self.budget = budget
        self.ledger = Ledger(study)
        self.running: dict[int, Running] = {}
        self.screen = resources.screen
        self.status = Status(
            study,
            self.running,
            spec.settings,
            folder=resources.folder / PROGRESS,
            around=self._count_around(),
            num_workers=resources.pool.num_workers,
        )
        self._said: set[str] = set()

    def _count_around(self) -> Around:
        seeds = self.settings.final_seeds
        if seeds == 0:
            return Around()
        is_tried = any(origin == DEFAULT for origin, _ in self.spec.points)
        beside = is_tried + len(self.spec.references)
        # As many points as the search can find.
        finalists = min(self.settings.finalists, max(0, self.settings.num_trials - beside))
        # The runs of these in the search count.
        fresh = max(seeds - self.settings.num_seeds, 1)
        return Around(
            trials_after=finalists + beside, jobs_after=finalists * seeds + beside * fresh
        )

    def run(self) -> None:
        with self.screen.doing("opening the run of the study"):
            self._start()
        failure = None
        try:
            with self.screen.describing(self.status.lines):
                self._work()
        except Exception as error:
            failure = self.redact(first_line(error))
            raise
        finally:
            # The storage itself may have failed: its error must not be hidden by a second one.
            with contextlib.suppress(Exception) if failure else contextlib.nullcontext():
                self._finish()
            with self.screen.doing("writing the report of the study"):
                for name, callback in self.spec.callbacks.items():
                    with logged(name, self.resources.undone):
                        callback.on_study_end(self.study, self.interruption.requested, failure)
        if self.interruption.requested:
            log.info("interrupted; to continue: %s", self.resources.continue_command)
            raise SystemExit(130)
        self._require_result()

    def _start(self) -> None:
        for name, callback in self.spec.callbacks.items():
            try:
                callback.on_study_start(self.study, self.resources.config)
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
                    self._say_once(
                        "the rest of the budget runs in other processes; waiting for them"
                    )
                self._conclude_all(self.pool.wait(POLL_SECONDS))
        finally:
            # After an error too: whoever continues runs these trials again.
            self._conclude_all(self.pool.interrupt(), leaving=True)

    def _fill(self) -> Left:
        """Give every free worker a trial; returns what is left if there are too few."""
        for identity in self.pool.free():
            if self.interruption.requested or self.budget.is_pausing():
                return Left.MORE
            running, left = self._next_trial(identity)
            if running is None:
                return left
            self.running[running.trial.number] = running
            self._launch(running)
        return Left.MORE

    def _next_trial(self, identity: dict[str, Any]) -> tuple[Running | None, Left]:
        """Draw points until one comes that was not finished before."""
        while not self.interruption.requested:
            running, ended = None, None
            with self.worker.turn():
                abandoned, left = self._look()
                if left is Left.MORE and self.worker.has_turn():
                    running, ended = self._take(identity)
            for trial in abandoned:
                self._announce(trial)
            if ended is None:
                return running, left
            self._announce(ended)
        return None, Left.MORE

    def _look(self) -> tuple[list[FrozenTrial], Left]:
        """Close the trials of dead workers, and find whether another trial may start.

        The point of a closed trial is queued again.
        """
        trials = self.ledger.update()
        abandoned = []
        for trial in self.worker.find_left(self.ledger.running):
            # It may have ended, or have been closed, a moment ago.
            with contextlib.suppress(UpdateFinishedTrialError):
                abandoned.append(abandon(self.study, trial.number))
        if abandoned:
            trials = self.ledger.update()
        left = self.budget.left(self.ledger)
        self.resources.stop.look()
        if self.resources.stop.is_made and not self.folder:
            # Of the search: the finals still come.
            left, self.budget.reason = Left.NOTHING, "somebody asked the study to stop"
        if left is Left.MORE and not self.ledger.is_waiting and self.sampler.exhausted(trials):
            left = Left.NOTHING
            self.budget.reason = (
                f"every point of the grid was tried ({self.sampler.grid_size}); more need another "
                "sampler, or more values to search"
            )
        return abandoned, left

    def _take(self, identity: dict[str, Any]) -> tuple[Running | None, FrozenTrial | None]:
        """Ask for a trial; returns one to run, or one that has ended already.

        That is one whose point was run before, or was queued outside of the search space.
        """
        try:
            asked = self._ask(identity)
            if isinstance(asked, FrozenTrial):
                return None, asked
            source = self._find_same(asked)
            if source is not None:
                return None, reuse(self.study, asked.trial, source)
        except UpdateFinishedTrialError:
            # This process was stopped meanwhile, for so long that another one closed the trial.
            return None, None
        self.worker.holds.add(asked.trial._trial_id)  # noqa: SLF001 - what storages go by
        return asked, None

    def _find_same(self, asked: Running) -> FrozenTrial | None:
        """Find the trial that has run the same, whose result counts for this one, too."""
        return self.ledger.find_same(asked.overrides, *asked.reference)

    def _ask(self, identity: dict[str, Any]) -> Running | FrozenTrial:
        with quiet_optuna():
            sign_next(self.study, self.ledger.waiting, identity)
            trial = self.study.ask()
            try:
                reference, overrides = self._draw(trial)
            except ForeignPointError as error:
                return fail(self.study, trial.number, Failure(FailureKind.ERROR, str(error)))
        if not self.worker.has_turn():
            # Another process may have drawn the same point meanwhile.
            return retry(self.study, trial.number, INTERRUPTED)
        # Last: a trial with overrides is one whose point was drawn in full.
        trial.set_user_attr(OVERRIDES, overrides)
        if carried := trial.user_attrs.get(CARRIED, [])[: self.settings.num_seeds - 1]:
            trial.set_user_attr(REPEATS, carried)
        return Running(trial, identity, overrides, reference, repeats=carried)

    def _draw(self, trial: Trial) -> tuple[tuple[str, ...], list[str]]:
        """Draw a point, or find the reference that was queued; returns that and the overrides."""
        frozen = self.study.get_trials(deepcopy=False)[trial.number]
        if not (reference := identify(frozen)):
            return (), self.spec.space.overrides(draw_point(trial, self.spec))
        if (found := self.spec.find_reference(frozen)) is None:
            raise ForeignPointError(f"the config has no reference {reference[0]} like this one")
        return reference, list(found.overrides)

    def _launch(self, running: Running) -> None:
        trial, settings = running.trial, self.settings
        repeat, num_seeds = len(running.repeats), settings.num_seeds
        overrides = [
            *self.spec.space.fixed,
            *running.overrides,
            *settings.job_overrides,
            *self._repeat_overrides(repeat),
        ]
        own: dict[str, Any] = {
            "trial.storage": absolute_storage(settings.storage),
            "trial.study": settings.study_name,
            "trial.number": trial.number,
        }
        if self.pool.is_local:
            own["trial.progress"] = self.status.open_file(trial.number)
        if num_seeds > 1:
            own |= {"trial.repeat": repeat, "trial.num_repeats": num_seeds}
        self.pool.start(trial.number, overrides, own, running.identity)

    def _repeat_overrides(self, repeat: int) -> list[str]:
        """Give a job its seed and its folder, where they are not those of the config."""
        if repeat == 0 and not self.folder:
            return []
        # As written: it holds the number of the trial.
        subdir = plain(self.resources.config.hydra.sweep)["subdir"]
        parts = [self.folder, subdir, f"seed-{repeat}" if repeat > 0 else ""]
        return [
            f"{self.settings.seed_key}={self.spec.first_seed + repeat}",
            f"hydra.sweep.subdir={quoted('/'.join(filter(None, parts)))}",
        ]

    def _conclude_all(self, ended: Sequence[Finished], *, leaving: bool = False) -> None:
        """Report how every job ended, even if the first of them ends the sweep."""
        errors = []
        for finished in ended:
            try:
                self._conclude(finished, leaving=leaving)
            except SweepError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _conclude(self, finished: Finished, *, leaving: bool) -> None:
        """Start the next job of a trial, or report how the trial ended.

        Raises:
            SweepError: no other point will do better.

        """
        running = self.running[finished.number]
        outcome = finished.outcome.redacted(self.redact)
        if outcome.values is not None:
            running.repeats.append(list(outcome.values))
            if len(running.repeats) < self.settings.num_seeds:
                if not leaving and self._note_repeats(running):
                    self._launch(running)
                    return
                outcome = failed(INTERRUPTED)
        del self.running[finished.number]
        try:
            with self.worker.turn():
                frozen = write_ending(self.study, running.trial, outcome, running.repeats)
        except UpdateFinishedTrialError:
            # Nothing was heard of this process, or of its worker, for so long that another process
            # has closed the trial and runs its point.
            log.info("trial %d was closed by another process", finished.number)
            return
        finally:
            self.worker.holds.discard(running.trial._trial_id)  # noqa: SLF001 - what storages go by
        self._announce(frozen)
        if not leaving:
            self.budget.count(outcome.failure)

    def _note_repeats(self, running: Running) -> bool:
        """Write the values of the jobs so far; False: another process has closed the trial."""
        try:
            running.trial.set_user_attr(REPEATS, running.repeats)
        except UpdateFinishedTrialError:
            return False
        return True

    def _announce(self, trial: FrozenTrial) -> None:
        self.ledger.update()
        # Before the line that says how it ended.
        self.status.forget(trial.number)
        self.screen.refresh()
        progress = self.status.progress()
        log.info(format_trial(self.ledger, trial, self.spec, progress=progress))
        with self.screen.doing(f"noting how trial {trial.number} ended"):
            for name, callback in self.spec.callbacks.items():
                with logged(name):
                    callback.on_trial_end(self.study, trial)

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log.info(text)

    def _finish(self) -> None:
        if all(trial.state is TrialState.WAITING for trial in self.ledger.update()):
            return  # interrupted before the first trial
        if self.budget.reason:
            log.info("stopped: %s", self.budget.reason)
        summary = format_summary(self.study, self.ledger, self.spec)
        log.info(redact_command(self.redact, summary))
        # Another process may be adding to the file.
        with self.worker.turn():
            write_results(self.ledger.best, self.resources.folder, self.spec.objectives)

    def _require_result(self) -> None:
        trials = self.study.get_trials(deepcopy=False)
        states = [trial.state for trial in trials]
        if TrialState.COMPLETE in states or TrialState.RUNNING in states:
            return
        num_pruned = states.count(TrialState.PRUNED)
        last = self.budget.last_failure
        cause = f"; the last failure: {last.line}" if last else ""
        raise SweepError(
            f"no trial of study {self.study.study_name} completed: {num_pruned} pruned, "
            f"{len(trials) - num_pruned} failed{cause}"
        )


@contextlib.contextmanager
def logged(name: str, undone: list[str] | None = None) -> Iterator[None]:
    """Log the error of a callback and go on: the trials are safe in the study.

    Args:
        undone: gets the error, where nothing that comes later makes up for it.

    """
    try:
        yield
    except Exception as error:
        if undone is not None:
            undone.append(f"hydra.sweeper.callbacks.{name} failed ({first_line(error)})")
        log.error("hydra.sweeper.callbacks.%s failed (%s)", name, first_line(error))  # noqa: TRY400 - one line; the next has the traceback
        log.debug("traceback of callbacks.%s", name, exc_info=True)
