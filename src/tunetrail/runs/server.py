"""MLflow's server on a store of this machine, for one person who looks at it."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunetrail.config.environment import read_environment
from tunetrail.config.scratch import scratch
from tunetrail.errors import InputError, first_line
from tunetrail.runs.child import following
from tunetrail.tracking.store import ask_server, find_database

# What MLflow takes, and how many ports after it are tried.
DEFAULT_PORT = 5000
_MORE_PORTS = 20
# Without job runners, five processes of it, and without messages to its makers.
_QUIET = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # Python would import from the folder that the command was given in.
    "PYTHONSAFEPATH": "1",
}
# Seconds for the start, which takes 4 on a free core, and for the end.
_PATIENCE, _END = 120, 5
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, never bound


def find_port(host: str, port: int | None) -> int:
    """Find a port to listen on: the one that is asked for, else the first free one from 5000 on.

    Raises:
        InputError: it is busy, or nothing can listen on that host.

    """
    if port is not None:
        if (error := _try_port(host, port)) is not None:
            raise InputError(
                f"--port={port}: cannot listen there ({error}); give another, or leave it out: "
                f"then the first free one from {DEFAULT_PORT} on is taken"
            )
        return port
    for number in range(DEFAULT_PORT, DEFAULT_PORT + _MORE_PORTS):
        error = _try_port(host, number)
        if error is None:
            return number
    raise InputError(
        f"--host={host}: no port from {DEFAULT_PORT} to {DEFAULT_PORT + _MORE_PORTS - 1} can be "
        f"listened on ({error}); give a free one with --port, or leave --host out"
    )


def _try_port(host: str, port: int) -> str | None:
    try:
        [(family, *_, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family) as found:
            # As the server does: a port that was just closed is free.
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
    except (OSError, UnicodeError, OverflowError) as error:
        return first_line(getattr(error, "strerror", None) or error)
    return None


def is_loopback(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"


def address_of(host: str, port: int) -> str:
    """Write the address that a browser on this machine takes."""
    shown = "127.0.0.1" if host in _EVERYWHERE else host
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


@contextlib.contextmanager
def serve(uri: str, *, host: str, port: int) -> Iterator["subprocess.Popen[Any]"]:
    """Run MLflow's server on a store until the block ends; it answers when the block begins.

    Raises:
        InputError: it does not start.

    """
    if uri.startswith("sqlite:"):
        uri = f"sqlite:///{find_database(uri)}"
    # Not on the command line, which all users of the machine see: a database has a password.
    environment = read_environment() | _QUIET | {"MLFLOW_BACKEND_STORE_URI": uri}
    command = following(
        ["-m", "mlflow", "server", f"--host={host}", f"--port={port}", "--workers=1",
         "--uvicorn-opts=--log-level warning --no-access-log"]
    )  # fmt: skip
    with scratch() as folder, (folder / "server.log").open("wb") as said:
        process = subprocess.Popen(  # noqa: S603 - our own program
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            # Ctrl-C in a terminal reaches this process alone, which ends the server.
            start_new_session=True,
        )
        try:
            _await(process, address_of(host, port), folder / "server.log")
            yield process
        finally:
            _end(process)


def _await(process: "subprocess.Popen[Any]", address: str, log: Path) -> None:
    until = time.monotonic() + _PATIENCE
    while ask_server(address) is not None:
        if process.poll() is not None or time.monotonic() > until:
            lines = log.read_text("utf-8", errors="replace").strip().splitlines()
            why = lines[-1] if lines else "it said nothing"
            raise InputError(f"MLflow's server did not start on {address}: {why}")
        time.sleep(0.2)


def _end(process: "subprocess.Popen[Any]") -> None:
    """End the server with all its processes; a second Ctrl-C does it at once."""
    with contextlib.suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
        _signal_all(process, signal.SIGTERM)
        process.wait(timeout=_END)
    _signal_all(process, signal.SIGKILL)
    process.wait()


def _signal_all(process: "subprocess.Popen[Any]", number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
