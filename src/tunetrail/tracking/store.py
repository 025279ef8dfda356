"""How a store of MLflow is reached, and what its errors mean."""

import contextlib
import logging
import os
import re
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import mlflow
import requests
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from tunetrail.config.paths import locate
from tunetrail.config.secrets import redact
from tunetrail.config.store_key import show_store, store_key
from tunetrail.errors import InputError, OutageError, chain_of, first_line
from tunetrail.tracking import database

log = logging.getLogger(__name__)

_Found = TypeVar("_Found")

# MLflow would draw a progress bar for every file that it copies.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# MLflow would print two links at the end of every run; the summary has the run's id.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# MLflow would print the traceback of each error of a database beside raising it.
logging.getLogger("mlflow.store.db.utils").addFilter(lambda record: record.exc_info is None)
# A call to a server that does not answer is tried again after 0, 2, 4, 8, 16 and 32 s (each plus
# up to a random second): for about a minute. MLflow's defaults wait for four minutes, and for two
# more on each answer.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "6")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

_SQLITE = re.compile(r"sqlite:///.")
# Seconds between requests to a server that answered this process before: 60 in all.
_WAITS = (1, 2, 4, 8, 16, 29)
# MLflow asks servers with requests, which raises one of these if there is no answer.
_NO_ANSWER = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.RetryError,
)
# Servers that have answered this process.
_known_servers: set[str] = set()


def connect(uri: str) -> MlflowClient:
    """Connect to a store for writing; make it if there is none, and check that its server answers.

    A server that has never answered this process is reported in seconds. One that has may be
    restarting: it is given a minute.

    Raises:
        OutageError: the server does not answer.
        InputError: it is no MLflow server, the folder of the database cannot be created, or the
            database is something else.

    """
    _require_scheme(uri)
    if uri.startswith("sqlite:"):
        path = find_database(uri)
        make_folder(path.parent, key=show_store(uri))
        with store_errors(uri), quiet_mlflow():
            database.make_ready(path, uri=uri)
    elif _is_database(uri):
        with store_errors(uri), quiet_mlflow():
            database.make_served_ready(uri)
    return _open(uri)


def _require_scheme(uri: str) -> None:
    scheme = urlsplit(uri).scheme
    if scheme in ("", "file") or (scheme.startswith("sqlite") and not _SQLITE.match(uri)):
        found = "MLflow has no plain-file stores any more" if "sqlite" not in scheme else "no path"
        raise InputError(f"{show_store(uri)}: {found}; use sqlite:///PATH or http://HOST:PORT")


def _is_database(uri: str) -> bool:
    return urlsplit(uri).scheme.partition("+")[0] in DATABASE_ENGINES


def _open(uri: str) -> MlflowClient:
    if uri.startswith("http"):
        _require_server(uri)
    elif uri.startswith("sqlite:"):
        # MLflow keeps one store for each URI in a process: a relative URI would stay relative to
        # the folder that the process was in at first.
        uri = f"sqlite:///{find_database(uri)}"
    mlflow.set_tracking_uri(uri)
    with store_errors(uri), quiet_mlflow():
        return MlflowClient(uri)


def find_database(uri: str) -> Path:
    """Find the file of a store in SQLite.

    Raises:
        InputError: MLflow would open another one.

    """
    path = locate(uri.removeprefix("sqlite:///")).resolve()
    if "?" in str(path) or unquote(str(path)) != str(path):
        raise InputError(
            f"{show_store(uri)}: {path} has ? or % in its name, which MLflow takes for a part of "
            "a URL; rename the folder, or give sqlite:///PATH with a path without"
        )
    return path


def connect_existing(uri: str) -> MlflowClient:
    """Connect to a store that must exist already; nothing is written to it.

    Raises:
        OutageError: the server does not answer.
        InputError: there is no such store.

    """
    _require_scheme(uri)
    if uri.startswith("sqlite:"):
        if not (path := find_database(uri)).is_file():
            raise InputError(
                f"no store in {path}; give another with {store_key()}, or change to the folder "
                "that train.py was started in"
            )
        with store_errors(uri):
            database.require_ready(path, uri=uri)
    elif _is_database(uri):
        with store_errors(uri):
            database.require_served_ready(uri)
    return _open(uri)


def repair_tables(uri: str) -> str | None:
    """Make the tables anew that a process was killed in, or upgrade them; say what was done.

    A store on a server is its server's.

    Raises:
        InputError: the store cannot be repaired.

    """
    if not uri.startswith("sqlite:") or not (path := find_database(uri)).is_file():
        return None
    with store_errors(uri), quiet_mlflow():
        return database.repair(path, uri=uri)


def _require_server(uri: str) -> None:
    error = ask_server(uri)
    if error is not None and uri in _known_servers:
        log.warning("%s does not answer; waiting for it", show_store(uri))
        error = _await_server(uri)
        if error is not None:
            raise outage_error(uri, error)
    if error is not None:
        kind = InputError if _is_refusal(error) else OutageError
        raise kind(
            f"{show_store(uri)}: no MLflow server answers there "
            f"({type(error).__name__}); start it, or leave {store_key()} at its default"
        )
    _known_servers.add(uri)


def _await_server(uri: str) -> requests.RequestException | None:
    until = time.monotonic() + sum(_WAITS)
    for seconds in _WAITS:
        time.sleep(min(seconds, max(until - time.monotonic(), 0)))
        error = ask_server(uri)
        # A server that accepts a request and never answers takes 5 s each time.
        if error is None or time.monotonic() > until:
            break
    return error


def ask_server(uri: str) -> requests.RequestException | None:
    """Ask a server for its health; return the error if there is one. A local store has none."""
    if not uri.startswith("http"):
        return None
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=5).raise_for_status()
    except requests.RequestException as error:
        return error
    return None


def _is_refusal(error: requests.RequestException) -> bool:
    """Whether something else than a failing MLflow server answered: it will not recover."""
    return error.response is not None and error.response.status_code < 500


def make_folder(folder: Path, *, key: str) -> None:
    """Create a folder and check that it can be written to.

    Raises:
        InputError: it cannot.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{key}: cannot write to {folder} ({error.strerror}); choose another folder"
        ) from error


def look_up(get: Callable[..., _Found], *names: str) -> _Found | None:
    """Get something from a store by its name or id; None if the store has no such thing."""
    try:
        return get(*names)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def require_active(client: MlflowClient, run: Run) -> None:
    """Check that neither a run nor its experiment was deleted, as in MLflow's UI.

    Raises:
        InputError: one was, with the command that restores it.

    """
    if run.info.lifecycle_stage != "deleted":
        return
    run_id, of_experiment = run.info.run_id, run.info.experiment_id
    what, restore = "was deleted", f"runs restore --run-id {run_id}"
    experiment = look_up(client.get_experiment, of_experiment)
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        what = f"was deleted with its experiment {experiment.name}"
        restore = f"experiments restore -x {of_experiment}"
    raise InputError(f"run {run_id} {what}; {say_restore(client.tracking_uri, restore)}")


def say_restore(uri: str, command: str) -> str:
    """Say how something is restored; MLflow's commands look into another store by themselves."""
    return f"restore it with `MLFLOW_TRACKING_URI={redact(uri)} mlflow {command}`"


@contextlib.contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Report in one line what is wrong with a store.

    Raises:
        OutageError: its server has not answered MLflow for a minute.
        InputError: the store cannot be used.

    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(
            f"{show_store(uri)}: the driver of that database is not installed (no module "
            f"{error.name}); install it, for example with pip install 'psycopg[binary]' or "
            "pip install mysqlclient"
        ) from error
    except (SQLAlchemyError, MlflowException, sqlite3.Error) as error:
        if (cause := find_outage(error)) is not None:
            raise outage_error(uri, cause) from error
        raise _unusable(uri, error) from error


@contextlib.contextmanager
def not_vital(what: str) -> Iterator[None]:
    """Go on without what only MLflow's pages need, and say so; an outage is raised as it is."""
    try:
        yield
    except Exception as error:
        if find_outage(error) is not None:
            raise
        log.warning("MLflow has not taken %s: %s", what, redact(first_line(error)))


def _unusable(uri: str, error: Exception) -> InputError:
    """Say that a store cannot be used, with the words of the database's driver if it has any."""
    causes = (link.orig for link in chain_of(error) if isinstance(link, DBAPIError))
    text = first_line(next(causes, None) or error)
    return InputError(
        f"{show_store(uri)}: the store cannot be used ({redact(text)}); "
        "check its path, the space on its disk, your permissions and who else has it open"
    )


def explain_loss(client: MlflowClient, run_id: str, error: Exception) -> InputError | None:
    """Say what happened to the store or the run while it was open; None if nothing is known."""
    if not isinstance(error, MlflowException | SQLAlchemyError):
        return None
    uri = client.tracking_uri
    if uri.startswith("sqlite:") and not find_database(uri).is_file():
        return InputError(
            f"{show_store(uri)}: the store was moved or deleted while run {run_id} was "
            "open; put it back, or start the run again"
        )
    if any(isinstance(link, DBAPIError) for link in chain_of(error)):
        return _unusable(uri, error)
    try:
        require_active(client, client.get_run(run_id))
    except InputError as deleted:
        return InputError(f"{deleted}; that happened while it was open: start it again")
    except MlflowException:
        pass
    return None


def find_outage(error: BaseException) -> BaseException | None:
    """Find in a store's error the cause that its server is down or too busy; else None."""
    if not isinstance(error, MlflowException | SQLAlchemyError):
        return None
    for link in chain_of(error):
        if isinstance(link, _NO_ANSWER):
            return link
        if isinstance(link, OperationalError):
            # SQLite is a file: no other error of it passes by itself.
            passes = not isinstance(link.orig, sqlite3.Error) or "locked" in str(link.orig)
            return link if passes else None
    return None


def outage_error(uri: str, cause: BaseException) -> OutageError:
    return OutageError(
        f"{show_store(uri)}: the store does not answer any more "
        f"({type(cause).__name__}); start it and repeat the command"
    )


@contextlib.contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Silence MLflow's notes on migrations and model files; warnings still pass."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
