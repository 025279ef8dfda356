"""Python programs as processes of their own, without the seconds of importing.

``Warm`` is a ``subprocess.Popen``. What it starts is a process like any other, with an id, an
environment, a folder and an end of its own; but it is forked from a process that has imported what
``train.py`` and ``tunetrail`` import, and has done nothing else. Importing takes eight seconds of a
processor, and a tiny run two.
"""

import atexit
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from warm_server import ask

# What libraries read when they are imported: with other values they must be imported again.
_READ_AT_IMPORT = (
    "ACCELERATE_", "CUDA", "HF_", "HOME", "LD_", "MALLOC", "MKL_", "MPL", "OMP_", "OPENBLAS_",
    "PYTHON", "TOKENIZERS_", "TORCH", "TRANSFORMERS_",
)  # fmt: skip
# What is forked from, and the part of the environment that it has imported with.
_servers: list[tuple[socket.socket, dict[str, str]]] = []
_SOURCES = str(Path(__file__).resolve().parents[1] / "src")


class Warm(subprocess.Popen):
    """Start ``python PROGRAM.py …``, ``python -m MODULE …`` or ``python -c CODE …``, imports done.

    If the program would import with another environment, it is started as usual.
    """

    def _execute_child(self, args: Any, *rest: Any) -> None:
        (_, preexec, _, pass_fds, cwd, env, *_, shell, p2cread, p2cwrite, c2pread, c2pwrite,
         errread, errwrite, _, _, _, _, _, start_new_session, process_group) = rest  # fmt: skip
        environment = dict(os.environ if env is None else env)
        is_plain = not (preexec or pass_fds or shell) and process_group == -1
        if not (is_plain and _is_program(args) and imports_alike(environment)):
            super()._execute_child(args, *rest)
            return
        given = [p2cread, c2pwrite, errwrite]
        self.pid = ask(
            _server()[0],
            {
                "argv": [os.fspath(argument) for argument in args[1:]],
                "cwd": str(Path(cwd or ".").resolve()),
                "environment": environment,
                "new_session": start_new_session,
            },
            {place: place if n == -1 else n for place, n in enumerate(given)},
        )
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)


def run(
    command: list[Any],
    *,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> "subprocess.CompletedProcess[Any]":
    """Do what ``subprocess.run`` does."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Warm(command, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(command, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def _is_program(args: Any) -> bool:
    words = [str(word) for word in args[:2]]
    return words[0] == sys.executable and (words[1] in ("-m", "-c") or words[1].endswith(".py"))


def imports_alike(environment: dict[str, str]) -> bool:
    """Whether what the server has imported is what a program would import in an environment."""
    return _read_at_import(environment) == _server()[1]


def _read_at_import(environment: dict[str, str]) -> dict[str, str]:
    found = {n: value for n, value in environment.items() if n.startswith(_READ_AT_IMPORT)}
    if found.get("PYTHONPATH") == _SOURCES:  # where the package is imported from anyway
        del found["PYTHONPATH"]
    return found


def use_server(connection: socket.socket) -> None:
    """Let this process fork from a process that is there already."""
    _servers.append((connection, _read_at_import(dict(os.environ))))


def _server() -> tuple[socket.socket, dict[str, str]]:
    if not _servers:
        _start_server()
    return _servers[-1]


def _start_server() -> None:
    """Start the process that is forked from, once for each process of tests."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("warm_server.py")), str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait(timeout=30)

    atexit.register(end)
    use_server(ours)
