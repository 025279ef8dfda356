"""Workers on several machines: a database server says which are alive, and whose turn it is.

Machines share neither locks nor a clock. So one thread of each sweep renews a heartbeat of all
trials that the sweep runs, by the clock of the database; jobs and pool processes know nothing of
it. A trial without a heartbeat gets one from whoever sees it first, so that a trial costs nothing
until it has run for a while. Optuna's own heartbeat has a thread and two statements for each trial,
and works in ``Study.optimize`` alone; the table is Optuna's.
"""

import contextlib
import hashlib
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

from optuna.storages._rdb.models import TrialHeartbeatModel, TrialModel
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import (
    ColumnElement,
    Connection,
    DateTime,
    Engine,
    Table,
    create_engine,
    exists,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from hydra_plugins.optuna_study._jobs.workers import Worker
from hydra_plugins.optuna_study._spec.settings import GRACE_PERIOD
from hydra_plugins.optuna_study._study.storage import (
    find_file,
    is_postgresql,
    lock_database,
    repeat_outages,
    unlock_database,
)

log = logging.getLogger(__name__)

BEATS_PER_GRACE_PERIOD = 6

_TRIALS = TrialModel.__table__
_BEATS = TrialHeartbeatModel.__table__
assert isinstance(_TRIALS, Table)
assert isinstance(_BEATS, Table)


class DatabaseWorker(Worker):
    """One process among those that work on a study in a database server.

    PostgreSQL also gives the turns. Other servers have no lock that SQLAlchemy knows: with them,
    processes on two machines may draw the same point, or one trial too many.
    """

    def __init__(self, folder: Path, *, turn: str, engine: Engine, grace_period: float) -> None:
        """Register.

        Args:
            folder: of the sweep, for locks between processes that share it.
            turn: as in Worker.
            engine: of the database; this worker disposes of it.
            grace_period: seconds without a heartbeat after which a trial has lost its worker.

        Raises:
            OSError: the folder cannot be written.

        """
        super().__init__(folder, turn=turn)
        self._engine = engine
        self._lock_name = turn
        self._grace_period = grace_period
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        # The connection whose transaction has the turn; two threads use it.
        self._turn: Connection | None = None
        self._turn_guard = threading.Lock()

    def __enter__(self) -> Self:
        super().__enter__()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        # Not for ever: the network may hold up a beat, and the process may end without it.
        self._thread.join(timeout=self._grace_period)
        self._engine.dispose()
        super().__exit__(*error)

    @contextmanager
    def turn(self) -> Iterator[None]:
        if not is_postgresql(self._engine):
            with super().turn():
                yield
            return
        lock = partial(lock_database, self._engine, self._lock_name, self._grace_period)
        with self._holding(repeat_outages(lock)):
            yield

    def has_turn(self) -> bool:
        """Whether the server still sees the transaction that has the turn.

        It ends one that says nothing for the grace period, as a stopped process does.
        """
        with self._turn_guard:
            return self._turn is None or _answers(self._turn)

    @contextmanager
    def _holding(self, lock: Connection) -> Iterator[None]:
        try:
            with self._turn_guard:
                self._turn = lock
            yield
        finally:
            with self._turn_guard:
                self._turn = None
            unlock_database(lock)

    def find_left(self, running: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        ids = {trial._trial_id for trial in running} - self.holds  # noqa: SLF001 - what storages go by
        if not ids:
            return []
        silent = repeat_outages(lambda: self._find_silent(ids))
        return [trial for trial in running if trial._trial_id in silent]  # noqa: SLF001 - as above

    def _find_silent(self, ids: set[int]) -> set[int]:
        self._add_missing(ids)
        columns = (_BEATS.c.trial_id, _BEATS.c.heartbeat, self._now)
        with self._engine.connect() as connection:
            rows = connection.execute(select(*columns).where(_BEATS.c.trial_id.in_(ids))).all()
        return {
            trial_id
            for trial_id, beat, now in rows
            if (now - beat).total_seconds() > self._grace_period
        }

    def _beat(self) -> None:
        # `tunetrail study` does not know this grace period, and goes by the usual one.
        period = min(self._grace_period, GRACE_PERIOD) / BEATS_PER_GRACE_PERIOD
        while not self._stop.wait(period):
            with self._turn_guard:
                if self._turn is not None:
                    _answers(self._turn)
            try:
                self._renew(set(self.holds))
            except SQLAlchemyError:
                # The grace period is several beats long.
                log.debug("no heartbeat", exc_info=True)

    def _renew(self, ids: set[int]) -> None:
        if ids:
            known = update(_BEATS).where(_BEATS.c.trial_id.in_(ids)).values(heartbeat=self._now)
            with self._engine.begin() as connection:
                connection.execute(known)
            self._add_missing(ids)

    def _add_missing(self, ids: set[int]) -> None:
        """Give a heartbeat to those trials that have none."""
        without = select(_TRIALS.c.trial_id, self._now).where(
            _TRIALS.c.trial_id.in_(ids),
            _TRIALS.c.state == TrialState.RUNNING,
            ~exists().where(_BEATS.c.trial_id == _TRIALS.c.trial_id),
        )
        # Another process may add the same one at this moment.
        with contextlib.suppress(IntegrityError), self._engine.begin() as connection:
            connection.execute(insert(_BEATS).from_select(["trial_id", "heartbeat"], without))

    @property
    def _now(self) -> ColumnElement[Any]:
        """The time of the database; in UTC, because sessions may have time zones of their own."""
        if is_postgresql(self._engine):
            return func.timezone("UTC", func.now(), type_=DateTime)
        return func.current_timestamp(type_=DateTime)


def _answers(connection: Connection) -> bool:
    try:
        connection.execute(select(1))
    except SQLAlchemyError:
        return False
    return True


def build_worker(
    storage: str, study_name: str, folder: Path, *, grace_period: float = GRACE_PERIOD
) -> Worker:
    """Build a worker that all see who share the storage: beside its file, or in its server.

    Args:
        storage, study_name: what it works on.
        folder: for locks, where a server holds the storage.
        grace_period: as in :class:`DatabaseWorker`.

    """
    turn = f"turn-{hashlib.sha256(study_name.encode()).hexdigest()[:16]}"
    if file := find_file(storage):
        return Worker(file.with_name(f".{file.name}.workers"), turn=turn)
    engine = create_engine(storage)
    return DatabaseWorker(folder, turn=turn, engine=engine, grace_period=grace_period)
