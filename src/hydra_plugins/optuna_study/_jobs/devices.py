"""How many workers a machine has room for, and what each of them may use."""

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping

from hydra_plugins.optuna_study._errors import SweepError

# Small models gain little from more threads, and each worker has its own copy of everything.
CORES_PER_WORKER = 2


def list_gpus() -> list[str]:
    """List the GPUs that ``CUDA_VISIBLE_DEVICES`` names, or every GPU if it is not set."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    return list(_ask_driver())


@functools.cache
def _ask_driver() -> tuple[str, ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        listed = subprocess.run(  # noqa: S603 - found on the path, fixed arguments
            [program, "--query-gpu=uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(listed.stdout.split())


def count_workers(wanted: int | str, *, workers_per_gpu: int, keys: Mapping[str, str]) -> int:
    """Count the workers that ``num_workers`` asks for.

    Args:
        wanted: a number, or ``auto``: one for each place on a GPU, or for every two cores.
        workers_per_gpu: how many share a GPU.
        keys: setting to the key in the config of the app.

    Raises:
        SweepError: more workers than the GPUs have places for.

    """
    gpus = list_gpus() if wanted != 1 else []
    places = len(gpus) * workers_per_gpu
    if wanted == "auto":
        return places or max(1, num_cores() // CORES_PER_WORKER)
    assert isinstance(wanted, int)
    if gpus and wanted > places:
        raise SweepError(
            f"{keys['num_workers']}={wanted}: {len(gpus)} GPUs with {keys['workers_per_gpu']}="
            f"{workers_per_gpu} hold {places}; raise {keys['workers_per_gpu']}, or take fewer"
        )
    return wanted


def worker_environment(index: int, *, num_workers: int, workers_per_gpu: int) -> dict[str, str]:
    """Return the variables that give a worker its own GPU, or its share of the cores.

    They must be set before the worker imports its numerical libraries. A number of threads that is
    set already is kept.
    """
    environment = {}
    if gpus := list_gpus():
        environment["CUDA_VISIBLE_DEVICES"] = gpus[index // workers_per_gpu]
    threads = str(max(1, num_cores() // num_workers))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        if name not in os.environ:
            environment[name] = threads
    return environment


def num_cores() -> int:
    """Count the cores that this process may run on."""
    return len(os.sched_getaffinity(0))
