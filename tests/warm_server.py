"""The process that ``warm.py`` forks from: it imports, and then does nothing but fork."""

import ctypes
import fcntl
import gc
import importlib
import json
import multiprocessing.util
import os
import pkgutil
import random
import runpy
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_IMPORTED = (
    "hydra",
    "hydra_plugins.optuna_study._sweep",
    "matplotlib.backends.backend_agg",
    "mlflow.pyfunc",
    "mlflow.cli",
    "uvicorn.main",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.transformers",
    "transformers.models.auto.modeling_auto",
    "transformers.models.gpt2.modeling_gpt2",
    "tunetrail.commands.rerun",
    "tunetrail.pipeline",
    "tunetrail.studies.callback",
)
# Constant tables that the first run of a process reads from files.
_LOADED = (
    "mlflow.utils.requirements_utils:_init_packages_to_modules_map",
    "sqlalchemy.orm:configure_mappers",
    "tunetrail.data.quality.languages:_load_identifier",
    "tunetrail.tracking.provenance.machine:list_packages",
)
_PR_SET_CHILD_SUBREAPER = 36


def ask(connection: socket.socket, request: dict[str, Any], files: Mapping[int, int]) -> int:
    """Let the server at the other end fork, and return the id of the fork, a child of this process.

    Args:
        connection: to :func:`serve`.
        request: for :func:`become`.
        files: the number of a file in the fork to its number here.

    """
    written = json.dumps({**request, "files": list(files)}).encode("utf-8", "surrogateescape")
    # The fork is an orphan at once, and goes to the next ancestor that takes orphans.
    _take_orphans(True)
    try:
        socket.send_fds(connection, [struct.pack("q", len(written))], list(files.values()))
        connection.sendall(written)
        answer = connection.recv(8)
    finally:
        _take_orphans(False)
    assert len(answer) == 8, "the process that is forked from has ended"
    return int(struct.unpack("q", answer)[0])


def _take_orphans(take: bool) -> None:
    assert ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(take), 0, 0, 0) == 0


def serve(connection: socket.socket) -> dict[str, Any]:
    """Fork for each request; returns the request in the process that it asks for."""
    while True:
        size, files, *_ = socket.recv_fds(connection, 8, 16)
        if not size:
            os._exit(0)
        written = b""
        while len(written) < struct.unpack("q", size)[0]:
            written += connection.recv(1 << 16)
        read, write = os.pipe()
        between = os.fork()
        if between == 0:
            between_id = os.getpid()
            pid = os.fork()
            if pid:
                os.write(write, struct.pack("q", pid))
                os._exit(0)
            connection.close()
            os.close(read)
            os.close(write)
            while os.getppid() == between_id:
                time.sleep(0.001)
            request = dict(json.loads(written.decode("utf-8", "surrogateescape")))
            _place(files, request["files"])
            return request
        os.waitpid(between, 0)
        connection.sendall(os.read(read, 8))
        for number in (read, write, *files):
            os.close(number)


def _place(files: Sequence[int], places: Sequence[int]) -> None:
    """Give files the numbers that they are to have."""
    apart = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 500) for number in files]
    for number in files:
        os.close(number)
    for number, place in zip(apart, places, strict=True):
        os.dup2(number, place)
        os.close(number)


def become(request: dict[str, Any]) -> None:
    """Run a program as the interpreter would that is started with these arguments."""
    if request["new_session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    _open_streams()
    random.seed()
    os.execv = _become_another
    if any("num_workers=" in word or word == "mlflow" for word in request["argv"]):
        _start_warm()
    match request["argv"]:
        case ["-m", module, *arguments]:
            sys.argv = [module, *arguments]
            sys.path[0] = request["cwd"]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-c", code, *arguments]:
            sys.argv = ["-c", *arguments]
            sys.path[0] = ""
            exec(code, sys.modules["__main__"].__dict__)
        case [program, *arguments]:
            sys.argv = [program, *arguments]
            sys.path[0] = str(Path(program).resolve().parent)
            runpy.run_path(program, run_name="__main__")


def _open_streams() -> None:
    """Open what a process writes to: a pipe, where the server's own may be a file."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        getattr(sys, name).flush()
        is_line_buffered = number == 2 or os.isatty(number)
        stream = open(number, "w", buffering=1 if is_line_buffered else -1, closefd=False)  # noqa: SIM115 - it stays open
        if number == 2:
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, stream)


def _become_another(path: str, args: Sequence[str]) -> None:
    """Run another program in this process, as ``os.execv`` does."""
    assert path == sys.executable
    become({"argv": list(args[1:]), "cwd": str(Path.cwd()), "environment": dict(os.environ),
            "new_session": False})  # fmt: skip
    sys.exit()


def _start_warm() -> None:
    """Let the processes that this one starts be forked as well.

    They are forked from a copy of this process as it is now, before it has opened anything.
    """
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        become(serve(theirs))
        sys.exit()
    theirs.close()
    warm.use_server(ours)
    subprocess.Popen = warm.Warm
    spawn = multiprocessing.util.spawnv_passfds

    def fork(path: str, args: Sequence[str], passed: Sequence[int]) -> int:
        words = [os.fsdecode(word) for word in args]
        if "--multiprocessing-fork" not in words or not warm.imports_alike(dict(os.environ)):
            return int(spawn(path, args, passed))
        request = {"argv": words[words.index("-c") :], "cwd": str(Path.cwd()),
                   "environment": dict(os.environ), "new_session": False}  # fmt: skip
        return ask(ours, request, {number: number for number in (0, 1, 2, *passed)})

    multiprocessing.util.spawnv_passfds = fork


if __name__ == "__main__":
    for name in _IMPORTED:
        importlib.import_module(name)
    for load in _LOADED:
        pkgutil.resolve_name(load)()
    assert threading.active_count() == 1, "a fork would lose the other threads"
    import warm  # it imports this module, by its name

    # In the background of a shell it would be ignored, here and in what is forked.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.collect()
    gc.freeze()
    become(serve(socket.socket(fileno=int(sys.argv[1]))))
