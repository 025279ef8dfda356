"""A store in a database: recognised before MLflow opens it, made and upgraded in one step.

MLflow makes its tables, some 65 of them, in whatever database it opens. That takes seconds and many
transactions, and what a kill leaves of it MLflow refuses for ever. So nothing is opened before it
is known what it is; a new SQLite store is made beside its place and renamed; an older one is
upgraded in a copy, which is written back in one transaction. Meanwhile other processes of this
package wait.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

import sqlalchemy
from alembic.script import ScriptDirectory
from mlflow.store.db import utils as mlflow_database
from mlflow.store.db.base_sql_model import Base
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase
from sqlalchemy.engine import Engine

from tunetrail.config.secrets import redact
from tunetrail.config.store_key import show_store, store_key
from tunetrail.errors import InputError, first_line

log = logging.getLogger(__name__)

# Seconds that an upgrade waits for a writer.
_PATIENCE = 60
# A number of our own, for locks of PostgreSQL.
_ADVISORY = 7466331812
# Databases of servers that this process has found to be ready.
_ready: set[str] = set()
_CORE = frozenset({"experiments", "runs", "params", "metrics", "tags"})


class State(StrEnum):
    """What a database is to the installed MLflow."""

    ABSENT = "has no tables"
    READY = "is a store"
    OLD = "is a store of an older MLflow"
    NEW = "is a store of a newer MLflow"
    HALF_MADE = "is a store that was never finished"
    DAMAGED = "is a store that lacks tables"
    FOREIGN = "belongs to something else"


@dataclass(frozen=True)
class Found:
    """The state of a database, the revision of its tables, and the tables."""

    state: State
    revision: str | None = None
    tables: tuple[str, ...] = ()


def find_state(path: Path) -> Found:
    """Look into a SQLite file without writing to it; what is not there is not made.

    Raises:
        sqlalchemy.exc.DatabaseError: the file is no database, or cannot be read.

    """
    if not path.exists():
        return Found(State.ABSENT)
    with _opened(path) as engine:
        return inspect(engine)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Engine]:
    # Not mode=ro: that cannot undo the transaction in which a writer was killed.
    uri = f"file:{quote(str(path))}?mode=rw"
    engine = sqlalchemy.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True, timeout=_PATIENCE, check_same_thread=False),
        poolclass=sqlalchemy.NullPool,
    )
    yield engine


def inspect(engine: Engine) -> Found:
    """Find out what a database is; it is only read."""
    tables = set(sqlalchemy.inspect(engine).get_table_names())
    if not tables:
        return Found(State.ABSENT)
    revision = mlflow_database._get_schema_version(engine)  # noqa: SLF001 - MLflow has no public way
    return Found(_judge(engine, tables, revision), revision, tuple(sorted(tables)))


def _judge(engine: Engine, tables: set[str], revision: str | None) -> State:
    head, known = _revisions()
    of_mlflow = Base.metadata.tables.keys() | InitialBase.metadata.tables.keys()
    if revision is not None and revision not in known:
        return State.NEW if tables >= _CORE else State.FOREIGN
    if revision is None:
        # Killed before the first of MLflow's migrations was noted, or never MLflow's.
        others = {name for name in tables - of_mlflow if "alembic" not in name}
        if others and not tables >= _CORE:
            return State.FOREIGN
    elif revision == head:
        return State.READY if Base.metadata.tables.keys() <= tables else State.DAMAGED
    return State.OLD if _has_experiments(engine, tables) else State.HALF_MADE


def _revisions() -> tuple[str, set[str]]:
    config = mlflow_database._get_alembic_config("")  # noqa: SLF001 - as above
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    return str(scripts.get_current_head()), known


def _has_experiments(engine: Engine, tables: set[str]) -> bool:
    # MLflow makes the default experiment once all tables are there. An upgrade that was killed
    # while it wrote the table again has left the rows under another name.
    names = {"experiments", "_alembic_tmp_experiments"} & tables
    with engine.connect() as connection:
        return any(
            connection.execute(sqlalchemy.text(f"SELECT 1 FROM {name} LIMIT 1")).first()  # noqa: S608 - two names of our own
            for name in names
        )


def require_ready(path: Path, *, uri: str) -> None:
    """Check that a SQLite file is a store that MLflow reads as it is.

    Raises:
        InputError: it is not.

    """
    found = find_state(path)
    if found.state is not State.READY:
        _refuse(found, uri=uri, path=path)


def make_ready(path: Path, *, uri: str) -> None:
    """Make a SQLite store if there is none, and bring one of an older MLflow up to date.

    Raises:
        InputError: the file is something else, or a store that cannot be used as it is.

    """
    found = find_state(path)
    if found.state in (State.ABSENT, State.OLD):
        with _locked(path):
            found = find_state(path)  # another process may have made it meanwhile
            if found.state is State.ABSENT:
                _make(path)
            elif found.state is State.OLD:
                _upgrade(path, found, uri=uri)
    elif found.state is not State.READY:
        _refuse(found, uri=uri, path=path)


def require_served_ready(uri: str) -> None:
    """Check that a database of a server is a store that MLflow reads as it is.

    Raises:
        InputError: it is not.

    """
    if uri in _ready:
        return
    with _server(uri) as engine:
        found = inspect(engine)
    if found.state is not State.READY:
        _refuse(found, uri=uri)
    _ready.add(uri)


def make_served_ready(uri: str) -> None:
    """Let MLflow make the tables in a database of a server, one process at a time.

    PostgreSQL makes its migrations in one transaction, so what a kill leaves MLflow completes.

    Raises:
        InputError: it holds something else, or tables that must be upgraded.

    """
    if uri in _ready:
        return
    with _server(uri) as engine, engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            # Released with the connection; other hosts wait, too.
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({_ADVISORY})"))
        found = inspect(engine)
        unfinished = found.state is State.HALF_MADE and engine.dialect.name == "postgresql"
        beside = found.state is State.FOREIGN and found.revision is None
        if found.state is State.ABSENT or unfinished or beside:
            mlflow_database._initialize_tables(engine)  # noqa: SLF001 - MLflow has no public way
        elif found.state is not State.READY:
            _refuse(found, uri=uri)
    _ready.add(uri)


@contextlib.contextmanager
def _server(uri: str) -> Iterator[Engine]:
    engine = mlflow_database.create_sqlalchemy_engine(uri)
    try:
        yield engine
    finally:
        engine.dispose()


def _refuse(found: Found, *, uri: str, path: Path | None = None) -> NoReturn:
    """Say what a database is, and what to do; ``path`` is None for one of a server."""
    shown = ", ".join(found.tables[:3]) + (", …" if len(found.tables) > 3 else "")
    missing = ", ".join(sorted(Base.metadata.tables.keys() - set(found.tables))[:3])
    other = f"give another store with {store_key()}"
    upgrade = "bring them up to date with `mlflow db upgrade` after a backup"
    anew = "drop the database and create it again"
    if path is not None:
        repair = f"`tunetrail repair --uri {redact(uri)}`"
        upgrade = f"{repair} brings them up to date and keeps a copy, as does the next train.py"
        anew = f"{repair} makes them anew"
    why = {
        State.ABSENT: "it holds no run yet; train.py makes the first",
        State.OLD: f"its tables are those of an older MLflow ({found.revision}); {upgrade}",
        State.NEW: f"its tables are those of a newer MLflow ({found.revision}); install that one, "
        f"or {other}",
        State.HALF_MADE: "a process was killed while it made the tables, and no run is in them; "
        f"{anew}, or {other}",
        State.DAMAGED: f"tables of MLflow are missing ({missing}); put a backup back, or {other}",
        State.FOREIGN: f"it is a database of something else (its tables: {shown}); {other}",
    }
    raise InputError(f"{show_store(uri)}: {why[found.state]}")


def _make(path: Path) -> None:
    """Make all tables beside the place of the store, and give them its name at once."""
    aside = _aside(path)
    with _engine(aside) as engine:
        mlflow_database._initialize_tables(engine)  # noqa: SLF001 - MLflow has no public way
    _flush(aside)
    # A journal of a store that was deleted would be played into the new one.
    _remove_journals(path)
    aside.replace(path)


def _upgrade(path: Path, found: Found, *, uri: str) -> None:
    """Upgrade a copy, and write it back in one transaction.

    The file stays the same one: whoever has it open reads the new tables, and none of its writes is
    lost. Writers wait meanwhile.
    """
    aside, kept = _aside(path), path.with_name(f"{path.name}.{found.revision or 'old'}")
    with contextlib.closing(sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)) as live:
        # The lock is kept after the end of a transaction, so that nobody writes before the copy
        # comes back.
        live.execute("PRAGMA locking_mode=EXCLUSIVE")
        live.execute("BEGIN EXCLUSIVE")
        live.execute("COMMIT")
        with contextlib.closing(sqlite3.connect(aside)) as copy:
            live.backup(copy)
        shutil.copyfile(aside, f"{kept}.part")
        _flush(Path(f"{kept}.part"))
        Path(f"{kept}.part").replace(kept)
        try:
            with _engine(aside) as engine:
                mlflow_database._upgrade_db(engine)  # noqa: SLF001 - as above
        except Exception as error:
            raise InputError(
                f"{show_store(uri)}: its tables cannot be upgraded from {found.revision} "
                f"({first_line(getattr(error, 'orig', None) or error)}), such as after an upgrade "
                f"that was killed; put a copy from before it back to {path}, or give "
                f"a new file with {store_key()}"
            ) from error
        with contextlib.closing(sqlite3.connect(aside)) as copy:
            copy.backup(live)
    aside.unlink()
    log.info("%s: the tables were brought up to date; as they were they are in %s", path, kept)


@contextlib.contextmanager
def _engine(path: Path) -> Iterator[Engine]:
    """Open a file that nobody else knows yet: it need not survive a power cut."""
    engine = mlflow_database.create_sqlalchemy_engine(f"sqlite:///{path}")

    def hurry(connection: sqlite3.Connection, record: object) -> None:
        del record
        connection.execute("PRAGMA synchronous=OFF")

    sqlalchemy.event.listen(engine, "connect", hurry)
    try:
        yield engine
    finally:
        engine.dispose()


def _aside(path: Path) -> Path:
    """Name the file in which a store is made; what a killed process left there is deleted."""
    aside = path.with_name(f".{path.name}.new")
    aside.unlink(missing_ok=True)
    _remove_journals(aside)
    return aside


def _remove_journals(path: Path) -> None:
    for suffix in ("-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let no other process make or upgrade this store meanwhile."""
    with path.with_name(f".{path.name}.lock").open("w") as file:
        # A disk without locks is one that a single process should use.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def repair(path: Path, *, uri: str) -> str | None:
    """Put right what a killed process or an upgrade of MLflow left; say what was done.

    Raises:
        InputError: it cannot be repaired.

    """
    found = find_state(path)
    if found.state is State.OLD:
        make_ready(path, uri=uri)
        return f"the tables were brought up to date from {found.revision}"
    if found.state is not State.HALF_MADE:
        require_ready(path, uri=uri)
        return None
    with _locked(path):
        found = find_state(path)
        if found.state is State.HALF_MADE:
            # Whoever has it open, such as an MLflow that makes it just now, is told by SQLite.
            path.replace(path.with_name(f"{path.name}.half-made"))
            _make(path)
    return "the tables were made anew; nothing was in them"
