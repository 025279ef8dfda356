"""Run ``python train.py`` in another process, with a config that was written for it."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from tunetrail.config.environment import read_environment
from tunetrail.config.scratch import scratch
from tunetrail.errors import InputError

# Numerical libraries read these when they are imported.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Becomes the program that is named next, which gets SIGTERM when its parent ends, even by a kill.
# Only Linux knows this (1 is PR_SET_PDEATHSIG); it outlives the change of program.
_FOLLOW = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(128 + signal.SIGTERM)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
# Seconds that a run has to close what is open after SIGTERM.
_PATIENCE = 60


def build_environment(
    root: Path, *, num_threads: int | None, num_gpus: int | None
) -> dict[str, str]:
    """Build the environment of a run: the sources of ``root``, threads and GPUs as recorded.

    Args:
        num_threads: None for the default of the libraries.
        num_gpus: None for all. A trial in one of several workers saw one GPU, and a run that sees
            more would train on all of them.

    """
    environment = read_environment()
    paths = [str(root / "src"), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    if num_threads is not None:
        environment |= dict.fromkeys(_THREAD_VARIABLES, str(num_threads))
    if num_gpus is not None:
        visible = environment.get("CUDA_VISIBLE_DEVICES")
        names = list(map(str, range(num_gpus))) if visible is None else visible.split(",")
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(names[:num_gpus])
    return environment


def require_own_sources(root: Path, environment: Mapping[str, str]) -> None:
    """Check that a run of ``root`` imports the package from there.

    Raises:
        InputError: it does not.

    """
    # -P: Python does not import from the current folder.
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import tunetrail; print(tunetrail.__file__)"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    found = done.stdout.strip()
    if not found or not Path(found).resolve().is_relative_to(root.resolve()):
        raise InputError(
            f"{root / 'src'} has no package tunetrail that Python would import (found: "
            f"{found or 'nothing'})"
        )


def run_train(
    root: Path, config: str, *, overrides: Sequence[str], environment: Mapping[str, str]
) -> int:
    """Run ``train.py`` of ``root`` with ``config`` as its whole config; return its exit code.

    It prints to the same screen and runs in the same folder as this process.

    Raises:
        KeyboardInterrupt: a person has stopped it; the run has ended.

    """
    with scratch() as folder:
        (folder / "rerun.yaml").write_text(config, encoding="utf-8")
        command = following(
            [str(root / "train.py"), "--config-path", str(folder),
             "--config-name", "rerun", *overrides]
        )  # fmt: skip
        sys.stdout.flush()
        process = subprocess.Popen(command, env=environment)  # noqa: S603 - our own program
        try:
            return process.wait()
        except BaseException:
            _end(process)
            raise


def following(arguments: Sequence[str]) -> list[str]:
    """Return the command of a Python with these arguments that ends when this process does."""
    return [sys.executable, "-c", _FOLLOW, str(os.getpid()), *arguments]


def _end(process: "subprocess.Popen[Any]") -> None:
    """Wait until a run has closed what is open. Ctrl-C in a terminal reached it, too: ask late."""
    try:
        for seconds, ask in ((15, process.terminate), (_PATIENCE, process.kill)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=seconds)
                return
            ask()
    except KeyboardInterrupt:  # a second Ctrl-C
        process.kill()
    process.wait()


@contextlib.contextmanager
def stopping_on_sigterm() -> Iterator[None]:
    """Handle SIGTERM as Ctrl-C, so that everything is cleaned up."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
