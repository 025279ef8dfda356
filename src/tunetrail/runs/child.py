"""``python train.py`` as a process of its own, with a config that was written for it."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from tunetrail.config.environment import read_environment
from tunetrail.errors import InputError

# What every numerical library reads before it is imported.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Seconds that a run which is told to stop has to close what it has open.
_PATIENCE = 60


def build_environment(
    root: Path, *, num_threads: int | None, num_gpus: int | None
) -> dict[str, str]:
    """Choose the environment of a run: sources of ``root``, threads and GPUs as recorded.

    Args:
        num_threads: None leaves it to the libraries.
        num_gpus: a trial by one worker of several saw one GPU, and a run that sees more would
            train on all of them; None leaves it open.

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
    """Check that a run of ``root`` would import the package from there and from nowhere else.

    Raises:
        InputError: it would not.

    """
    # -P: not from the folder that it is started in.
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
            f"{root / 'src'} holds no package tunetrail that Python would import (found: "
            f"{found or 'nothing'})"
        )


def run_train(
    root: Path, config: str, *, overrides: Sequence[str], environment: Mapping[str, str]
) -> int:
    """Run ``train.py`` of ``root`` with ``config`` as its whole config; return its exit code.

    It writes to this process's screen, and runs where this process does.

    Raises:
        KeyboardInterrupt: a person stopped it; the run has ended before.

    """
    with tempfile.TemporaryDirectory(prefix="tunetrail-") as folder:
        (Path(folder) / "rerun.yaml").write_text(config, encoding="utf-8")
        command = [sys.executable, str(root / "train.py"), "--config-path", folder,
                   "--config-name", "rerun", *overrides]  # fmt: skip
        sys.stdout.flush()
        process = subprocess.Popen(command, env=environment)  # noqa: S603 - our own program
        try:
            return process.wait()
        except BaseException:
            _end(process)
            raise


def _end(process: "subprocess.Popen[Any]") -> None:
    """Let a run close what it has open. A terminal has sent it Ctrl-C too: only ask again late."""
    try:
        for seconds, ask in ((5, process.terminate), (_PATIENCE, process.kill)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=seconds)
                return
            ask()
    except KeyboardInterrupt:  # a second time: no more patience
        process.kill()
    process.wait()


@contextlib.contextmanager
def stopping_on_sigterm() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C: what was begun is cleared away."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
