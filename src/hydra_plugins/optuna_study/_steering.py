"""Steer a study from outside of its sweep: stop it, queue a point, run failed trials again.

All goes through the storage, so that it works from another terminal and another machine. What is
written is what the sweeper itself would write, in its turn: a point is checked against the search
space here, and again when it is drawn.
"""

import contextlib
import difflib
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException
from optuna.distributions import CategoricalChoiceType
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study._errors import SweepError, message_line
from hydra_plugins.optuna_study._jobs.workers import Worker
from hydra_plugins.optuna_study._spec.space import SearchSpace, build_search_space
from hydra_plugins.optuna_study._study.endings import KEPT
from hydra_plugins.optuna_study._study.heartbeat import build_worker
from hydra_plugins.optuna_study._study.records import FINISHED, read_trials, require_sound
from hydra_plugins.optuna_study._study.storage import (
    close_storage,
    find_file,
    open_storage,
    outages,
)
from hydra_plugins.optuna_study._study.study import quiet_optuna
from hydra_plugins.optuna_study.attributes import (
    ENQUEUED,
    FAILURE_KIND,
    FINAL_OF,
    INTERRUPTED,
    OVERRIDES,
    PLAN_SINCE,
    POINT,
    RETRY_OF,
    SEARCH_SPACE,
    STOP,
)


@dataclass(frozen=True)
class Queued:
    """A trial that waits to be run."""

    number: int
    # The trial that it runs again, or whose value it gets because it has the same point.
    before: int | None
    is_running: bool
    num_finished: int


def stop_study(storage: str, name: str, *, now: bool) -> int:
    """Ask all processes of a study to stop, on any machine.

    Args:
        now: interrupt the trials that run, as Ctrl-C does; else they end, and then the finals run.

    Returns:
        How many trials run.

    Raises:
        SweepError: there is no such study, or it does not run.

    """
    with _opened(storage, name) as (study, worker):
        running = _find_running(study, worker)
        finals = [t for other in _list_finals(study) for t in _find_running(other, worker)]
        if not running and not finals:
            raise SweepError(f"study {name} is not running: none of its trials is being trained")
        if finals and not running and not now:
            raise SweepError(
                f"the search of study {name} has ended, and its finals run; --now interrupts them, "
                "and the same command continues"
            )
        study.set_user_attr(STOP, {"id": uuid.uuid4().hex, "now": now})
        return len(running) + len(finals)


def enqueue_point(storage: str, name: str, texts: Sequence[str]) -> Queued:
    """Queue a point of the search space; what it leaves open is drawn.

    Args:
        texts: ``KEY=VALUE`` of what is searched, in Hydra's syntax.

    Raises:
        SweepError: there is no such study, or this is no point of its search space.

    """
    with _opened(storage, name) as (study, worker):
        trials = study.get_trials(deepcopy=False)
        point = _read_point(study, trials, texts)
        for trial in trials:
            waits = trial.state is TrialState.WAITING
            if waits and trial.system_attrs.get("fixed_params") == point:
                raise SweepError(f"trial {trial.number} waits with this point already")
        # With another config a point is trained anew.
        present = trials[study.user_attrs.get(PLAN_SINCE, 0) :]
        same = next((t.number for t in present if t.state in FINISHED and t.params == point), None)
        study.enqueue_trial(point, user_attrs={ENQUEUED: POINT})
        return _describe(study, worker, before=same)


def retry_trials(storage: str, name: str, numbers: Sequence[int]) -> list[Queued]:
    """Queue the points of failed trials again.

    Args:
        numbers: of the trials; none: all that failed and were not run again.

    Raises:
        SweepError: there is no such study or trial, or one that has not failed.

    """
    with _opened(storage, name) as (study, worker):
        trials = study.get_trials(deepcopy=False)
        again = {t.user_attrs[RETRY_OF]: t.number for t in trials if RETRY_OF in t.user_attrs}
        if not numbers:
            numbers = [t.number for t in trials if _can_retry(t) and t.number not in again]
            if not numbers:
                raise SweepError(f"study {name} has no failed trial that was not run again")
        for number in numbers:
            if number >= len(trials):
                raise SweepError(
                    f"study {name} has no trial {number}, but {len(trials)}, counted from 0"
                )
            if number in again:
                raise SweepError(f"trial {number} is run again already, as trial {again[number]}")
            if not _can_retry(trials[number]):
                state = trials[number].state.name.lower()
                why = "its point was not drawn" if state == "fail" else f"it is {state}"
                raise SweepError(f"trial {number} cannot be run again: {why}")
        queued = []
        for number in dict.fromkeys(numbers):
            trial = trials[number]
            kept = {key: value for key, value in trial.user_attrs.items() if key in KEPT}
            study.enqueue_trial(trial.params, user_attrs={RETRY_OF: number, **kept})
            queued.append(_describe(study, worker, before=number))
        return queued


@contextlib.contextmanager
def _opened(storage: str, name: str) -> Iterator[tuple[optuna.Study, Worker]]:
    """Open a study that is there, in the turn of this process.

    Raises:
        SweepError: it is not there, is of finals, or holds what no sweeper has written.

    """
    file = find_file(storage)
    if file is not None and not file.exists():
        raise SweepError(f"storage {storage}: there is no such file; give --storage")
    with (
        outages(storage, remedy="try again when it answers"),
        quiet_optuna(),
        tempfile.TemporaryDirectory() as folder,
        _open(storage) as opened,
    ):
        there = {found.study_name: found.user_attrs for found in opened.get_all_studies()}
        if name not in there:
            searches = [known for known, attrs in there.items() if FINAL_OF not in attrs]
            raise SweepError(_unknown(name, searches))
        study = optuna.load_study(study_name=name, storage=opened)
        searched = study.user_attrs.get(FINAL_OF)
        if searched is not None:
            raise SweepError(f"study {name} holds the finals of study {searched}; name that")
        require_sound(study, read_trials(study))
        worker = build_worker(storage, name, Path(folder))
        with worker, worker.turn():
            yield study, worker


@contextlib.contextmanager
def _open(storage: str) -> Iterator[BaseStorage]:
    opened = open_storage(storage)
    try:
        yield opened
    finally:
        close_storage(opened)


def _unknown(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=3)
    shown = near or names[-3:]
    hint = f"; did you mean {', '.join(shown)}?" if near else f"; there are {', '.join(shown)}"
    return f"there is no study {name}{hint if shown else ', and no other in this storage'}"


def _find_running(study: optuna.Study, worker: Worker) -> list[FrozenTrial]:
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    left = {trial.number for trial in worker.find_left(running)}
    return [trial for trial in running if trial.number not in left]


def _list_finals(study: optuna.Study) -> list[optuna.Study]:
    held = study._storage  # noqa: SLF001 - the connection that is open already
    return [
        optuna.load_study(study_name=found.study_name, storage=held)
        for found in held.get_all_studies()
        if found.user_attrs.get(FINAL_OF) == study.study_name
    ]


def _can_retry(trial: FrozenTrial) -> bool:
    """Whether a trial has failed with a point that is known in full."""
    interrupted = trial.user_attrs.get(FAILURE_KIND) == INTERRUPTED
    return trial.state is TrialState.FAIL and OVERRIDES in trial.user_attrs and not interrupted


def _describe(study: optuna.Study, worker: Worker, *, before: int | None) -> Queued:
    trials = study.get_trials(deepcopy=False)
    return Queued(
        number=trials[-1].number,
        before=before,
        is_running=bool(_find_running(study, worker)),
        num_finished=sum(trial.state in FINISHED for trial in trials),
    )


def _read_point(
    study: optuna.Study, trials: Sequence[FrozenTrial], texts: Sequence[str]
) -> dict[str, CategoricalChoiceType]:
    space, by_function = _read_space(study, trials)
    known = [parameter.name for parameter in space.parameters]
    values: dict[str, Any] = {}
    for text in texts:
        name, value = _parse(text)
        if name not in known and name not in by_function:
            ends = [other for other in known if other.rpartition(".")[2] == name]
            near = ends or difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SweepError(f"{name} is not searched (searched: {', '.join(known)}){hint}")
        values[name] = value
    free = {name: value for name, value in values.items() if name in by_function}
    for name, value in free.items():
        distribution = by_function[name]
        try:
            is_inside = distribution._contains(distribution.to_internal_repr(value))  # noqa: SLF001 - Optuna has no public way to ask
        except (ValueError, TypeError):
            is_inside = False
        if not is_inside:
            raise SweepError(f"{name}={value} is not in {distribution}")
    return {**space.point({k: v for k, v in values.items() if k not in free}), **free}


def _read_space(
    study: optuna.Study, trials: Sequence[FrozenTrial]
) -> tuple[SearchSpace, dict[str, Any]]:
    """Read what the study searches, and what a function has suggested in its trials."""
    written = dict(study.user_attrs.get(SEARCH_SPACE, {}))
    suggested = {name: of for trial in trials for name, of in trial.distributions.items()}
    parser = OverridesParser.create()
    for name, expression in list(written.items()):
        try:
            override = parser.parse_overrides([f"{name}={expression}"])[0]
        except HydraException as error:
            raise SweepError(
                f"study {study.study_name}: its search space cannot be read ({message_line(error)})"
            ) from error
        # The name of a function, which has a line of its own there.
        if not override.is_sweep_override():
            del written[name]
    space = build_search_space(written, [], config_loader=None, may_be_empty=True)
    return space, {name: of for name, of in suggested.items() if name not in written}


def _parse(text: str) -> tuple[str, Any]:
    try:
        override = OverridesParser.create().parse_overrides([text])[0]
    except HydraException:
        override = None
    if override is None or override.is_sweep_override() or override.is_delete():
        raise SweepError(f"{text}: give KEY=VALUE with one value")
    value = override.value()
    return override.key_or_group, value.text if isinstance(value, QuotedString) else value
