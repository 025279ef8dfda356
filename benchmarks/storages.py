"""Find out which file should hold a study, Optuna's journal or SQLite, by trying.

Every writer is a real process that draws a trial, reports three values, completes the trial, and
then sends its number through a pipe. It is stopped in four ways. Each time another process opens
the study, counts the trials, opens the study twice more and completes a trial each time:

random     SIGKILL at a random moment.
large      SIGKILL as soon as the file grows, while one record of 16 MiB is written.
full       no kill: the system takes a part of an ordinary record only and refuses the rest, by a
           limit on the size of files (RLIMIT_FSIZE), as a full disk does.
lock       SIGKILL while the lock is held; the next process waits for it. A lock that was left in
           the other three ways is removed by hand, so that not every kill costs its grace period.

How to read the table: ``lost`` are trials that were completed and are gone; a study is ``broken``
when the next process cannot open it, read it, or continue it. Both must be 0. Times are of this
machine: compare columns, not runs.

    python benchmarks/storages.py              # five to eight minutes
    python benchmarks/storages.py --kills 20   # about three
"""

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import statistics
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import (
    JournalFileBackend,
    JournalFileOpenLock,
    JournalFileSymlinkLock,
)
from optuna.trial import TrialState
from sqlalchemy import event

from hydra_plugins.optuna_study._study.storage import open_storage

SPACE: dict[str, BaseDistribution] = {name: FloatDistribution(-1, 1) for name in "xy"}
LARGE_RECORD = "x" * 2**24
# A process that needs more to open and continue a small study counts as stuck.
PATIENCE = 20
# It keeps no lock file and no rollback file, so nothing shows when it holds a lock.
WAL = "sqlite, WAL"

# Imports are done once; a fork holds no open storage, for the parent opens none.
processes = get_context("fork")


# --- the four stores ---------------------------------------------------------------------------


def _journal(folder: Path, lock: type) -> BaseStorage:
    path = str(folder / "study.log")
    return JournalStorage(JournalFileBackend(path, lock_obj=lock(path)))


def _sqlite_wal(folder: Path) -> BaseStorage:
    storage = RDBStorage(
        f"sqlite:///{folder}/study.db", engine_kwargs={"connect_args": {"timeout": 60}}
    )

    def speed_up(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    storage.engine.dispose()  # the connection that made the tables
    event.listen(storage.engine, "connect", speed_up)
    return optuna.storages.get_storage(storage)


STORES: dict[str, Callable[[Path], BaseStorage]] = {
    "journal, symlink": lambda folder: _journal(folder, JournalFileSymlinkLock),
    "journal, open": lambda folder: _journal(folder, JournalFileOpenLock),
    "sqlite": lambda folder: open_storage(f"sqlite:///{folder}/study.db"),
    WAL: _sqlite_wal,
}


def open_study(store: str, folder: Path) -> optuna.Study:
    return optuna.create_study(
        storage=STORES[store](folder),
        study_name="study",
        sampler=optuna.samplers.RandomSampler(),
        load_if_exists=True,
    )


def run_trial(study: optuna.Study) -> int:
    trial = study.ask(SPACE)
    for step in range(3):
        trial.report(trial.params["x"], step)
    study.tell(trial, trial.params["x"])
    return trial.number


class Task:
    """A function at work in a process of its own."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.receiver, sender = processes.Pipe(duplex=False)

        def call() -> None:
            try:
                sender.send(function(*arguments))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the result
                sender.send(f"{type(error).__name__}: {error}")

        self.process = processes.Process(target=call)
        self.process.start()

    def result(self, patience: float = PATIENCE) -> Any:
        """Wait for the value, or the text of the error."""
        ready = self.receiver.poll(patience)
        answer = self.receiver.recv() if ready else f"stuck for {patience} s"
        self.process.kill()
        self.process.join()
        return answer


# --- (a) a writer is stopped -------------------------------------------------------------------


def write(store: str, folder: Path, pipe: Connection, how: str) -> None:
    study = open_study(store, folder)
    if how == "full":
        limit = max(path.stat().st_size for path in folder.iterdir()) + random.randint(1, 200)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with contextlib.suppress(Exception) if how == "full" else contextlib.nullcontext():
        while True:
            pipe.send(run_trial(study))
            if how == "large":
                study.set_user_attr("large", LARGE_RECORD)


def stop_writer(store: str, folder: Path, how: str) -> set[int]:
    """Stop a writer in one of the ways above; the numbers of the trials that it completed."""
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=write, args=(store, folder, sender, how))
    process.start()
    sender.close()
    completed = set()
    with contextlib.suppress(EOFError):
        completed.add(receiver.recv())  # it is at work
        if how == "random":
            time.sleep(random.uniform(0, 0.06))
        elif how == "large":
            size = _size(folder)
            while _size(folder) < size + 2**16 and process.is_alive():
                pass
        elif how == "lock":
            while not _leftovers(folder) and process.is_alive():
                pass
        if how != "full":
            os.kill(process.pid or 0, signal.SIGKILL)
        while True:
            completed.add(receiver.recv())
    process.join()
    return completed


def _size(folder: Path) -> int:
    size = 0
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            size += path.lstat().st_size
    return size


def _leftovers(folder: Path) -> list[Path]:
    """Name what a process leaves that dies while it writes: a lock, or SQLite's rollback file."""
    return [path for path in folder.iterdir() if path.name.endswith((".lock", "-journal"))]


def continue_study(store: str, folder: Path, completed: set[int]) -> dict[str, Any]:
    """Open the study, count its trials, and twice open it again and complete a trial."""
    begin = time.perf_counter()
    before = _complete(open_study(store, folder))
    new = {run_trial(open_study(store, folder)) for _ in range(2)}
    seconds = time.perf_counter() - begin
    after = _complete(open_study(store, folder))
    return {"lost": len((completed - before) | (completed | new) - after), "seconds": seconds}


def _complete(study: optuna.Study) -> set[int]:
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return {trial.number for trial in trials if len(trial.intermediate_values) == 3}


def stop_often(store: str, how: str, times: int, root: Path) -> dict[str, str]:
    """Stop writers one after another; a new study after every 25, and after a broken one."""
    count: Counter[str] = Counter()
    seconds: list[float] = []
    errors: Counter[str] = Counter()
    folder, completed = root, set[int]()
    for number in range(times):
        if number % 25 == 0 or not completed:
            folder = Path(tempfile.mkdtemp(dir=root))
            completed = set()
        completed |= stop_writer(store, folder, how)
        if left := _leftovers(folder):
            count["left"] += 1
            for path in left:
                if path.suffix == ".lock":
                    path.unlink()
        log = folder / "study.log"
        count["torn"] += log.exists() and not log.read_bytes().endswith(b"\n")
        answer = Task(continue_study, store, folder, completed).result()
        if isinstance(answer, str):
            count["broken"] += 1
            errors[answer.partition(":")[0]] += 1
            completed = set()
        else:
            count["lost"] += answer["lost"]
            seconds.append(answer["seconds"])
    rows = {
        f"{how}: stopped": str(times),
        f"{how}: lock or rollback file left": str(count["left"]),
        f"{how}: line torn": str(count["torn"]) if "journal" in store else "-",
        f"{how}: completed trials lost": str(count["lost"]),
        f"{how}: studies broken": str(count["broken"]),
        f"{how}: next process continues, ms": _middle_and_most(seconds),
    }
    for error, num_seen in errors.items():
        print(f"  {how}: {num_seen} studies broken by {error}", flush=True)
    return rows


def _middle_and_most(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    return f"{1000 * statistics.median(seconds):.0f} (most {1000 * max(seconds):.0f})"


def wait_for_lock(store: str, root: Path) -> Task:
    """Kill a writer that holds the lock; how long the next process takes to continue."""
    folder = Path(tempfile.mkdtemp(dir=root))
    completed = stop_writer(store, folder, "lock")
    return Task(continue_study, store, folder, completed)


# --- (b), (c) many writers, many trials --------------------------------------------------------


def eight_workers(store: str, root: Path, num_trials: int) -> dict[str, str]:
    folder = Path(tempfile.mkdtemp(dir=root))
    Task(fill, store, folder, 0).result()
    start = processes.Barrier(9)

    def work() -> list[int]:
        study = open_study(store, folder)
        start.wait()
        return [run_trial(study) for _ in range(num_trials // 8)]

    workers = [Task(work) for _ in range(8)]
    start.wait()
    begin = time.perf_counter()
    answers = [worker.result(patience=120) for worker in workers]
    seconds = time.perf_counter() - begin
    numbers = [n for answer in answers if isinstance(answer, list) for n in answer]
    kept = Task(lambda: _complete(open_study(store, folder))).result()
    return {
        "8 workers: trials a second": f"{len(numbers) / seconds:.1f}",
        "8 workers: errors": str(sum(isinstance(answer, str) for answer in answers)),
        "8 workers: completed trials lost": str(len(set(numbers) - kept)),
        "8 workers: numbers given twice": str(len(numbers) - len(set(numbers))),
    }


def eight_openers(store: str, root: Path) -> dict[str, str]:
    """Let eight processes make one new file at the same moment, in three folders."""
    failed = 0
    for _ in range(3):
        folder = Path(tempfile.mkdtemp(dir=root))
        start = processes.Barrier(8)

        def work(folder: Path = folder, start: Barrier = start) -> int:
            start.wait()
            return run_trial(open_study(store, folder))

        workers = [Task(work) for _ in range(8)]
        failed += sum(isinstance(worker.result(), str) for worker in workers)
    return {"8 make one file: failed of 24": str(failed)}


def time_trials(stores: Sequence[str], root: Path) -> dict[str, dict[str, str]]:
    """Time a trial in a small and a large study of each store, in ten rounds that take turns."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    folders = {
        (store, size): Path(tempfile.mkdtemp(dir=root)) for store in stores for size in (0, 1000)
    }
    for (store, size), folder in folders.items():
        Task(fill, store, folder, size).result(patience=300)
    for _ in range(10):
        for (store, size), folder in folders.items():
            opening, trials = Task(open_and_run, store, folder).result(patience=120)
            times[store, f"opening {size or 'no'} trials, ms"].append(opening)
            times[store, f"a trial after {size or 'none'}, ms"] += trials
    return {
        store: {
            row: f"{1000 * statistics.median(seconds):.1f}"
            for (owner, row), seconds in times.items()
            if owner == store
        }
        for store in stores
    }


def fill(store: str, folder: Path, num_trials: int) -> None:
    study = open_study(store, folder)
    if num_trials:
        run_trial(study)
        study.add_trials(study.get_trials() * (num_trials - 1))


def open_and_run(store: str, folder: Path) -> tuple[float, list[float]]:
    begin = time.perf_counter()
    study = open_study(store, folder)
    study.get_trials(deepcopy=False)
    opening = time.perf_counter() - begin
    times = []
    for _ in range(6):
        begin = time.perf_counter()
        run_trial(study)
        times.append(time.perf_counter() - begin)
    return opening, times[1:]  # the first one also fills caches


# --- (d) a torn last line ----------------------------------------------------------------------


def read_torn_journal(root: Path) -> list[str]:
    """Cut the last record in half by hand; say what reading and writing do from then on."""
    folder = Path(tempfile.mkdtemp(dir=root))
    store = "journal, symlink"
    Task(lambda: [run_trial(open_study(store, folder)) for _ in range(5)]).result()
    log = folder / "study.log"
    log.write_bytes(log.read_bytes()[:-40])
    says = [f"journal cut by hand, then read: {Task(_states, store, folder).result()}"]
    for _ in range(2):
        says.append(f"then a trial: {Task(lambda: run_trial(open_study(store, folder))).result()}")
        says.append(f"then read: {Task(_states, store, folder).result()}")
    return says


def _states(store: str, folder: Path) -> str:
    trials = open_study(store, folder).get_trials(deepcopy=False)
    return ", ".join(f"{n} {s}" for s, n in Counter(t.state.name for t in trials).items())


# --- the table ---------------------------------------------------------------------------------


def print_table(columns: dict[str, dict[str, str]]) -> None:
    rows = list(dict.fromkeys(row for column in columns.values() for row in column))
    cells = [["", *columns]]
    cells += [[row, *(column.get(row, "-") for column in columns.values())] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        first, *others = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join([first.strip().ljust(widths[0]), *others]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="at random moments, for each store")
    parser.add_argument("--forced", type=int, default=10, help="in a forced way, for each store")
    parser.add_argument("--trials", type=int, default=160, help="of eight workers, for each store")
    parser.add_argument("--stores", nargs="*", default=list(STORES), help="some only")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    root = Path(tempfile.mkdtemp(prefix="storages-"))
    try:
        waiting = {store: wait_for_lock(store, root) for store in options.stores if store != WAL}
        columns = time_trials(options.stores, root)
        for store in options.stores:
            print(f"{store} …", flush=True)
            columns[store] |= {
                **eight_workers(store, root, options.trials),
                **eight_openers(store, root),
                **stop_often(store, "random", options.kills, root),
                **stop_often(store, "large", options.forced, root),
                **stop_often(store, "full", options.forced, root),
            }
        for store, task in waiting.items():
            answer = task.result(patience=60)
            row = answer if isinstance(answer, str) else f"{answer['seconds']:.1f}"
            columns[store]["lock: next process continues, s"] = row
        print_table(columns)
        print(*read_torn_journal(root), sep="\n")
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
