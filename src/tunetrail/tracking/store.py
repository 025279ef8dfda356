"""How a store of MLflow is reached, and what its errors mean."""

import contextlib
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import mlflow
import requests
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from tunetrail.config.secrets import redact
from tunetrail.errors import InputError, OutageError, chain_of, first_line

log = logging.getLogger(__name__)

_Found = TypeVar("_Found")

# One bar for the training is enough: MLflow draws its own for every file it copies.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# With a server MLflow prints two links at the end of every run; the summary has the run's id.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# Every call to a server that does not answer is tried again after 0, 2, 4, 8, 16 and 32 s (and up
# to a second each, drawn): about a minute. MLflow's own defaults wait for four, and two minutes
# more for each answer that does not come.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "6")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

# Seconds between the questions to a server that has answered this process before: 60 in all.
_WAITS = (1, 2, 4, 8, 16, 29)
# How requests, with which MLflow asks a server, says that no answer came.
_NO_ANSWER = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.RetryError,
)
# Servers that have answered this process.
_known_servers: set[str] = set()


def connect(uri: str) -> MlflowClient:
    """Connect to a store; a server is asked whether it is there.

    One that has never answered this process is noticed in seconds. One that has is waited for,
    a minute at most: it may be starting again.

    Raises:
        OutageError: the server does not answer.
        InputError: what answers is no MLflow server, or the database's folder cannot be made.

    """
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        _require_server(uri)
    elif parts.scheme == "sqlite":
        # MLflow keeps one store for each URI in a process: a relative one would go on meaning
        # the folder that the process was in at first.
        path = Path(uri.removeprefix("sqlite:///")).resolve()
        make_folder(path.parent, key=f"tracking.uri={uri}")
        uri = f"sqlite:///{path}"
    elif parts.scheme in ("", "file"):
        raise InputError(
            f"tracking.uri={uri}: MLflow keeps no plain-file stores any more; "
            "use sqlite:///PATH or http://HOST:PORT"
        )
    mlflow.set_tracking_uri(uri)
    with store_errors(uri), quiet_mlflow():
        return MlflowClient(uri)


def connect_existing(uri: str) -> MlflowClient:
    """Connect to a store that must be there already: looking into one makes none.

    Raises:
        OutageError: the server does not answer.
        InputError: there is no such store.

    """
    path = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:") and not path.is_file():
        raise InputError(
            f"no store in {path.absolute()}; give another with --uri, or go to the folder that "
            "train.py was started in"
        )
    return connect(uri)


def _require_server(uri: str) -> None:
    error = ask_server(uri)
    if error is not None and uri in _known_servers:
        log.warning("tracking.uri=%s does not answer; waiting for it", redact(uri))
        error = _await_server(uri)
        if error is not None:
            raise outage_error(uri, error)
    if error is not None:
        kind = InputError if _is_refusal(error) else OutageError
        raise kind(
            f"tracking.uri={redact(uri)}: no MLflow server answers there "
            f"({type(error).__name__}); start it, or leave tracking.uri at its default"
        )
    _known_servers.add(uri)


def _await_server(uri: str) -> requests.RequestException | None:
    until = time.monotonic() + sum(_WAITS)
    for seconds in _WAITS:
        time.sleep(min(seconds, max(until - time.monotonic(), 0)))
        error = ask_server(uri)
        # A server that takes the question and gives no answer takes 5 s each time.
        if error is None or time.monotonic() > until:
            break
    return error


def ask_server(uri: str) -> requests.RequestException | None:
    """Ask a server whether it is well; the error if it is not. A local store always is."""
    if not uri.startswith("http"):
        return None
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=5).raise_for_status()
    except requests.RequestException as error:
        return error
    return None


def _is_refusal(error: requests.RequestException) -> bool:
    """Whether something answered, but with words of its own: it will do so again."""
    return error.response is not None and error.response.status_code < 500


def make_folder(folder: Path, *, key: str) -> None:
    """Make a folder and check that it can be written to.

    Raises:
        InputError: it cannot.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{key}: cannot write to {folder} ({error.strerror}); free it or choose another"
        ) from error


def look_up(get: Callable[..., _Found], *names: str) -> _Found | None:
    """Get something from a store by its name or id; None where there is nothing of that name."""
    try:
        return get(*names)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


@contextlib.contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Say in one line what is wrong with a store.

    Raises:
        OutageError: its server does not answer, after MLflow has tried for a minute.
        InputError: it cannot be used.

    """
    try:
        yield
    except (SQLAlchemyError, MlflowException) as error:
        if (cause := find_outage(error)) is not None:
            raise outage_error(uri, cause) from error
        text = first_line(getattr(error, "orig", None) or error)
        raise InputError(
            f"tracking.uri={redact(uri)}: the store cannot be used ({redact(text)}); "
            "check the path, the space on its disk and the rights to it"
        ) from error


def find_outage(error: BaseException) -> BaseException | None:
    """Find what says that a store's server is away, or too busy to answer, in a store's error."""
    if not isinstance(error, MlflowException | SQLAlchemyError):
        return None
    for link in chain_of(error):
        if isinstance(link, _NO_ANSWER):
            return link
        if isinstance(link, OperationalError):
            # SQLite is a file: what else goes wrong with it does not pass by itself.
            passes = not isinstance(link.orig, sqlite3.Error) or "locked" in str(link.orig)
            return link if passes else None
    return None


def outage_error(uri: str, cause: BaseException) -> OutageError:
    return OutageError(
        f"tracking.uri={redact(uri)}: the store does not answer any more "
        f"({type(cause).__name__}); start it again and give the same command"
    )


@contextlib.contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Hold back MLflow's progress notes on migrations and model files; warnings still pass."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
