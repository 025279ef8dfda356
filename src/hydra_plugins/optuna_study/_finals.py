"""The finals: the best points of a study, trained again on seeds that the search has not used."""

import logging
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study._console.finals_report import (
    format_finalists,
    format_finals,
    write_finals,
)
from hydra_plugins.optuna_study._console.status import Around
from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._jobs.failure import FailureKind
from hydra_plugins.optuna_study._jobs.workers import Worker
from hydra_plugins.optuna_study._loop import Resources, Running, StudyLoop, logged
from hydra_plugins.optuna_study._spec.settings import Settings
from hydra_plugins.optuna_study._spec.sweep_spec import SweepSpec, build_callbacks
from hydra_plugins.optuna_study._study.budget import Budget, Left
from hydra_plugins.optuna_study._study.endings import read_failure
from hydra_plugins.optuna_study._study.finalists import FinalPoint, choose_finalists
from hydra_plugins.optuna_study._study.ledger import Ledger
from hydra_plugins.optuna_study._study.records import FINISHED
from hydra_plugins.optuna_study._study.sampler import StudySampler
from hydra_plugins.optuna_study._study.study import build_pruner, open_study, quiet_optuna
from hydra_plugins.optuna_study.attributes import (
    CARRIED,
    DEFAULT,
    ENQUEUED,
    FINALIST_OF,
    FITS,
    PLAN_SINCE,
    REPEAT_CONSTRAINTS,
    REPEATS,
    SEEDS,
)

log = logging.getLogger(__name__)


def run_finals(spec: SweepSpec, study: optuna.Study, resources: Resources) -> None:
    """Train the best points of a study again, and let the callbacks compare them.

    Raises:
        SweepError: there is no point to train, or they could not be trained; the results of the
            search are kept.
        SystemExit: with code 130 after Ctrl-C or SIGTERM.

    """
    if spec.settings.final_seeds == 0:
        return
    if _is_searched_elsewhere(study, resources.worker):
        log.info("no finals: the search still runs in another process, which runs them at its end")
        return
    if not choose_finalists(study, num_finalists=spec.settings.finalists):
        since = study.user_attrs.get(PLAN_SINCE, 0)
        present = f" since trial {since}, the first with the present config," if since else ""
        raise SweepError(
            f"no finals: no complete trial{present} meets every constraint; the results of the "
            f"search are kept; {spec.settings.keys['final_seeds']}=0 asks for no winner"
        )
    try:
        finals = _train(spec, study, resources)
    except SweepError as error:
        raise SweepError(
            f"finals: {error}; the results of the search are kept; to continue: "
            f"{resources.continue_command}"
        ) from error
    _compare(spec, study, finals, resources)


def _is_searched_elsewhere(study: optuna.Study, worker: Worker) -> bool:
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return len(worker.find_left(running)) < len(running)


def _train(spec: SweepSpec, study: optuna.Study, resources: Resources) -> optuna.Study:
    """Open the study of the finals, queue what is missing, and run it."""
    since = study.user_attrs.get(PLAN_SINCE, 0)
    # A changed config has its own finals: trials of the two could not be compared.
    folder = f"finals-{spec.settings.final_seeds}" + (f"-since-{since}" if since else "")
    seeds = [
        spec.first_seed + spec.settings.num_seeds + i for i in range(spec.settings.final_seeds)
    ]
    settings = _settings_of_finals(spec.settings, folder)
    spec = replace(
        spec,
        settings=settings,
        callbacks=build_callbacks(settings.callbacks),
        first_seed=seeds[0],
    )
    sampler = StudySampler(
        # It draws nothing: every point is given.
        {"_target_": "optuna.samplers.RandomSampler"},
        key=settings.keys["sampler"],
        seed=settings.seed,
        space=spec.space,
    )
    with resources.worker.turn(), quiet_optuna():
        storage = study._storage  # noqa: SLF001 - the connection that is open already
        finals = open_study(storage, spec, sampler, build_pruner(spec), final_of=study.study_name)
        _require_seeds(finals, seeds, settings)
        num_trials = _queue(study, finals, spec)
    spec = replace(spec, settings=replace(settings, num_trials=num_trials))
    FinalsLoop(spec, searched=study, finals=finals, resources=resources, folder=folder).run()
    return finals


def _settings_of_finals(settings: Settings, folder: str) -> Settings:
    """Change what differs in finals: fresh seeds, no pruning, no timeout, no patience."""
    return replace(
        settings,
        study_name=f"{settings.study_name}-{folder}",
        num_seeds=settings.final_seeds,
        pruner={"_target_": "optuna.pruners.NopPruner"},
        timeout=None,
        patience=None,
    )


def _require_seeds(finals: optuna.Study, seeds: list[int], settings: Settings) -> None:
    """Note the seeds, or refuse them if trials have run on others.

    Raises:
        SweepError: trials have run on others.

    """
    before = finals.user_attrs.get(SEEDS, seeds)
    if before != seeds and any(
        trial.state is not TrialState.WAITING for trial in finals.get_trials(deepcopy=False)
    ):
        raise SweepError(
            f"study {finals.study_name} was started on the seeds {before}, which are {seeds} now; "
            f"undo the change of {settings.keys['num_seeds']} or {settings.seed_key}, or set "
            f"{settings.keys['study_name']} to a new name"
        )
    finals.set_user_attr(SEEDS, seeds)


def _queue(study: optuna.Study, finals: optuna.Study, spec: SweepSpec) -> int:
    """Queue the points that are not trained yet; returns how many trials there will be in all."""
    trials = finals.get_trials(deepcopy=False)
    settings = spec.settings
    chosen = choose_finalists(
        study, trials, num_finalists=settings.finalists, references=spec.references
    )
    missing = [point for point in chosen if _is_missing(point.final)]
    seeds, there = settings.num_seeds, len(chosen) - len(missing)
    log.info(
        "finals: %s again, %d seed%s each%s%s",
        format_finalists(chosen),
        seeds,
        "" if seeds == 1 else "s",
        "; the runs of the default config and of references in the search count"
        if seeds > 1 and any(point.carried for point in missing)
        else "",
        f"; {there} of {len(chosen)} were started before" if there else "",
    )
    for point in missing:
        origin: dict[str, Any] = {ENQUEUED: DEFAULT} if point.is_default else {}
        if (reference := spec.find_reference(point.trial)) is not None:
            origin = reference.attributes()
        if carried := point.carried[: seeds - 1]:
            attributes = point.trial.user_attrs
            origin |= {
                CARRIED: carried,
                REPEAT_CONSTRAINTS: attributes.get(
                    REPEAT_CONSTRAINTS, [dict(point.trial.constraints)]
                )[: len(carried)],
                FITS: attributes.get(FITS, [])[: len(carried)],
            }
        finals.enqueue_trial(point.trial.params, user_attrs={FINALIST_OF: point.number, **origin})
    return len(missing) + sum(trial.state is not TrialState.FAIL for trial in trials)


def _is_missing(final: FrozenTrial | None) -> bool:
    """Whether a point must be trained: it was not yet, or failed for a reason that may be gone."""
    if final is None:
        return True
    failure = read_failure(final)
    return final.state is TrialState.FAIL and (
        failure is None or failure.kind is not FailureKind.NOT_FINITE
    )


class FinalsBudget(Budget):
    """Ends when no point waits."""

    def left(self, ledger: Ledger) -> Left:
        if ledger.is_waiting:
            return Left.MORE
        return Left.RUNNING if ledger.running else Left.NOTHING


class FinalsLoop(StudyLoop):
    """One process at work on the finals of a study."""

    def __init__(
        self,
        spec: SweepSpec,
        *,
        searched: optuna.Study,
        finals: optuna.Study,
        resources: Resources,
        folder: str,
    ) -> None:
        budget = FinalsBudget(spec.settings)
        self._searched = searched
        super().__init__(spec, study=finals, resources=resources, budget=budget)
        self.folder = folder

    def _count_around(self) -> Around:
        searched = self._searched.get_trials(deepcopy=False, states=FINISHED)
        return Around(
            jobs_before=sum(len(trial.user_attrs.get(REPEATS, [None])) for trial in searched)
        )

    def _find_same(self, asked: Running) -> FrozenTrial | None:
        """Find none: a point that is queued again needs seeds that the search has not used."""

    def _finish(self) -> None:
        points = _read_points(self._searched, self.study, self.spec)
        log.info(format_finals(points, self._searched, self.study, self.spec.objectives))


def _read_points(study: optuna.Study, finals: optuna.Study, spec: SweepSpec) -> list[FinalPoint]:
    """List the finalists with what came of them, earlier finalists included."""
    trials = finals.get_trials(deepcopy=False)
    return choose_finalists(
        study,
        trials,
        num_finalists=spec.settings.finalists,
        references=spec.references,
        with_earlier=True,
    )


def _compare(
    spec: SweepSpec, study: optuna.Study, finals: optuna.Study, resources: Resources
) -> None:
    """Write the results of the finals to the file, and give them to the callbacks.

    Raises:
        SystemExit: with code 130 after Ctrl-C or SIGTERM.

    """
    with (
        resources.worker.turn(),
        resources.screen.doing("comparing the finals: scoring and registering the winner"),
    ):
        points = _read_points(study, finals, spec)
        if any(p.final is not None and not p.final.state.is_finished() for p in points):
            log.info("the rest of the finals runs in another process, which compares them")
            return
        write_finals(points, finals, resources.folder)
        complete = {p.number: p.complete.number for p in points if p.complete}
        try:
            for name, callback in spec.callbacks.items():
                # A callback may work as long as a job, and may be stopped anywhere as well.
                with resources.interruption.job(), logged(name, resources.undone):
                    callback.on_finals_end(study, finals, complete, resources.config)
        except KeyboardInterrupt:
            log.info("interrupted; to continue: %s", resources.continue_command)
            raise SystemExit(130) from None
