"""The storage of studies."""

import contextlib
import fcntl
import functools
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb.models import BaseModel, VersionInfoModel
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import Connection, Engine, create_engine, event, func, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from hydra_plugins.optuna_study._errors import SweepError, first_line
from hydra_plugins.optuna_study._jobs.failure import is_outage
from hydra_plugins.optuna_study._spec.settings import STORAGE_WANTED

log = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds that a writer waits for another one. SQLite waits 5, too few on a slow disk.
SQLITE_TIMEOUT = 60
# Packages of drivers that are not called as their module.
_DRIVERS = {
    "MySQLdb": "mysqlclient",
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
}
# Seconds between tries while the database does not answer.
OUTAGE_DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0)
_TABLES = BaseModel.metadata.tables
_VERSION = VersionInfoModel.__tablename__


def absolute_storage(storage: str) -> str:
    """Name the same storage for a job in any folder."""
    if _is_journal(storage):
        return str(Path(storage).absolute())
    url = _parse_url(storage)
    if path := _sqlite_path(url):
        url = url.set(database=str(path.absolute()))
    return url.render_as_string(hide_password=False)


def find_file(storage: str) -> Path | None:
    """Return the file that holds a storage; None: a database server does."""
    path = Path(storage) if _is_journal(storage) else _sqlite_path(_parse_url(storage))
    return None if path is None else path.resolve()


def open_storage(storage: str) -> BaseStorage:
    """Open a storage, and make the folder of its file.

    Args:
        storage: database URL, or a path that ends in ``.log`` for a journal.

    Raises:
        SweepError: it cannot be created, opened or read.

    """
    try:
        if _is_journal(storage):
            Path(storage).parent.mkdir(parents=True, exist_ok=True)
            journal = JournalStorage(JournalFileBackend(storage))
            journal.get_all_studies()  # reads the file, which opening it does not
            return journal
        if path := _sqlite_path(_parse_url(storage)):
            return get_storage(_open_sqlite(storage, path))
        return get_storage(_open_server(storage))
    except (
        OSError,
        SQLAlchemyError,
        StorageInternalError,
        ImportError,  # the driver of a database is not installed
        RuntimeError,  # the tables are those of another version of Optuna
        ValueError,  # a line of the journal is no JSON
        KeyError,  # it is JSON, but no journal of Optuna
        TypeError,
    ) as error:
        cause = error.__cause__ or error
        raise SweepError(
            f"hydra.sweeper.storage={_shown(storage)} cannot be opened ({first_line(cause)}); "
            f"{_remedy(storage, error)}"
        ) from error


def close_storage(storage: BaseStorage) -> None:
    """Close the connections of a storage that is needed no more."""
    # Optuna puts a cache around a database.
    held = storage._backend if isinstance(storage, _CachedStorage) else storage  # noqa: SLF001 - it has no public name
    if isinstance(held, RDBStorage):
        held.engine.dispose()


def _remedy(storage: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        package = _DRIVERS.get(error.name, error.name)
        return f"install the driver of that database: pip install '{package}'"
    if is_outage(error) and find_file(storage) is None:
        return "start its server, or correct its address, user or password"
    return f"give {STORAGE_WANTED}"


def repeat_outages(call: Callable[[], T]) -> T:
    """Repeat a call after each outage, with growing pauses, before its error is raised."""
    for delay in OUTAGE_DELAYS:
        try:
            return call()
        except (SQLAlchemyError, StorageInternalError) as error:
            if not is_outage(error):
                raise
            cause = error.__cause__ or error
            log.warning("the storage fails (%s); next try in %g s", first_line(cause), delay)
            time.sleep(delay)
    return call()


def _patiently(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: "PatientStorage", *args: Any, **kwargs: Any) -> Any:
        if getattr(self._of_thread, "in_call", False):
            return method(self, *args, **kwargs)
        self._of_thread.in_call = True
        try:
            return repeat_outages(lambda: method(self, *args, **kwargs))
        finally:
            self._of_thread.in_call = False

    return call


class PatientStorage(RDBStorage):
    """A database that may not answer for half a minute.

    A call may have been carried out before its answer was lost. Repeated, it sets what is set, or
    creates a second trial that waits, which is the next one to be drawn.
    """

    def __init__(self, url: str, **arguments: Any) -> None:
        # Has ``in_call`` while a thread is inside a call: a method that calls another waits once.
        self._of_thread = threading.local()
        super().__init__(url, **arguments)


# What Optuna's cache in front of the database calls beside the interface of a storage.
_CALLED_BY_CACHE = ("_get_trials", "_create_new_trial", "_set_trial_param")
for _name in (*BaseStorage.__abstractmethods__, *_CALLED_BY_CACHE):
    setattr(PatientStorage, _name, _patiently(getattr(RDBStorage, _name)))


def is_postgresql(engine: Engine) -> bool:
    """Whether a server can give locks to processes on several machines."""
    return engine.dialect.name == "postgresql"


def lock_database(engine: Engine, name: str, seconds: float) -> Connection:
    """Wait for a lock of PostgreSQL, which belongs to a transaction of the returned connection.

    The server ends it with the process, and if nothing is heard of the process for some seconds.
    """
    connection = engine.connect()
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    patience = func.set_config(
        "idle_in_transaction_session_timeout", str(round(1000 * seconds)), True
    )
    try:
        connection.execute(select(patience, func.pg_advisory_xact_lock(key)))
    except BaseException:
        unlock_database(connection)
        raise
    return connection


def unlock_database(connection: Connection) -> None:
    """Give back a lock, which the server may have taken back already."""
    with contextlib.suppress(SQLAlchemyError):
        connection.rollback()
    connection.close()


def _require_own(engine: Engine, storage: str, among: Container[str] | None = None) -> None:
    """Check that a database is Optuna's, or empty, before Optuna writes its tables into it.

    Args:
        engine: of the database, from which is only read.
        storage: names it, for messages.
        among: names of tables that count; None: all do.

    Raises:
        SweepError: it belongs to something else.

    """
    database = inspect(engine)
    names = [name for name in database.get_table_names() if among is None or name in among]

    def is_own(name: str) -> bool:
        columns = {column["name"] for column in database.get_columns(name)}
        return name in _TABLES and columns.issuperset(_TABLES[name].columns.keys())

    # A kill while Optuna made its tables leaves some of them; this is of the first two.
    is_made = _VERSION in names and is_own(_VERSION)
    if not is_made and not all(map(is_own, names)):
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        wanted = "sqlite:///FILE of a new file" if among is None else "another database"
        raise SweepError(
            f"hydra.sweeper.storage={_shown(storage)} belongs to something else (its tables: "
            f"{shown}); give {wanted}"
        )


def _open_server(storage: str) -> PatientStorage:
    engine = create_engine(storage)
    try:
        # Other programs may have tables of other names there.
        _require_own(engine, storage, among={*_TABLES, "alembic_version"})
        if not is_postgresql(engine):
            return PatientStorage(storage)
        # As with SQLite: of several processes that find no tables, some fail.
        lock = lock_database(engine, "tables", SQLITE_TIMEOUT)
        try:
            return PatientStorage(storage)
        finally:
            unlock_database(lock)
    finally:
        engine.dispose()


def _open_sqlite(storage: str, path: Path) -> PatientStorage:
    """Open a database file in the mode in which readers and a writer do not wait for each other.

    A trial then costs an eighth on a busy disk (``benchmarks/storages.py``). A kill loses nothing;
    a power cut may lose the last trials. The processes share memory, so they must be on one
    machine: on a network file system, use a database server.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    wait = {"timeout": SQLITE_TIMEOUT}
    _require_own(create_engine(storage, connect_args=wait, poolclass=NullPool), storage)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        # Optuna creates its tables without a lock: if several processes find none, some fail.
        fcntl.lockf(lock, fcntl.LOCK_EX)
        opened = PatientStorage(storage, engine_kwargs={"connect_args": wait})
    event.listen(opened.engine, "connect", _write_ahead)
    opened.engine.dispose()
    return opened


def _write_ahead(connection: Any, record: object) -> None:
    del record
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


@contextmanager
def outages(storage: str, *, remedy: str) -> Iterator[None]:
    """Turn an error of the storage or the disk during a sweep into one line."""
    try:
        yield
    except (OSError, SQLAlchemyError, StorageInternalError) as error:
        # Optuna wraps the error of the database.
        cause = error.__cause__ or error
        raise SweepError(
            f"the study in {_shown(storage)} cannot continue ({first_line(cause)}); {remedy}"
        ) from error


def _shown(storage: str) -> str:
    if _is_journal(storage):
        return storage
    return make_url(storage).render_as_string(hide_password=True)


def _is_journal(storage: str) -> bool:
    return storage.endswith(".log") and "://" not in storage


def _parse_url(storage: str) -> URL:
    try:
        return make_url(storage)
    except ArgumentError:
        raise SweepError(f"hydra.sweeper.storage={storage}: give {STORAGE_WANTED}") from None


def _sqlite_path(url: URL) -> Path | None:
    if url.get_backend_name() != "sqlite":
        return None
    if url.database in (None, "", ":memory:"):
        raise SweepError(
            f"hydra.sweeper.storage={url}: jobs cannot open a database in memory; "
            "give sqlite:///FILE"
        )
    path = Path(str(url.database))
    if path.is_dir():
        raise SweepError(
            f"hydra.sweeper.storage={url}: that is a folder; give sqlite:///FILE, for example "
            f"sqlite:///{path / 'optuna.db'}"
        )
    return path
