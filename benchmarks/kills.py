"""Kill the first run of a new folder at every moment of its first seconds, then give it again.

    python benchmarks/kills.py                       # every 50 ms of ten seconds, half an hour
    python benchmarks/kills.py --every 0.25 --study  # the same with a study of two trials
    python benchmarks/kills.py --at-store --until 3  # from the moment where the store is made
    python benchmarks/kills.py --older               # each folder has a store of an older MLflow

After each kill the store must be none, the older one, or one that MLflow reads. The same command
must then end well, with the killed run closed, and no temporary file may be left. What is killed is
a real process from its first import on. The command after it runs in a fork of this process, which
has imported everything already. The last line counts what the kills met.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

import hydra  # noqa: E402
import process_environment  # noqa: E402, F401 - first: libraries read it when they are imported
from architectures import ARCHITECTURES  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402
from stores import RUN_ID, fill, make_older  # noqa: E402
from toys import make_rows, tiny_overrides, write_csv  # noqa: E402

import train as entrypoint  # noqa: E402
import tunetrail.pipeline  # noqa: E402 - so that each fork has it
import tunetrail.studies.callback  # noqa: E402, F401 - as above
from tunetrail.config.scratch import PREFIX  # noqa: E402
from tunetrail.tracking.database import State, find_state  # noqa: E402

STUDY = ["-m", "study=s", "sweep.num_trials=2", "sweep.final_seeds=0", "sampler=random"]


def kill_and_repeat(
    folder: Path, arguments: list[str], *, after: float, older: Path | None, waits: bool
) -> str:
    """Kill the command after some seconds, give it again, and return what the kill met."""
    database = folder / "mlruns" / "mlflow.db"
    database.parent.mkdir(parents=True)
    if older is not None:
        shutil.copy(older, database)
    environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
    (folder / "tmp").mkdir()
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *arguments],
            cwd=folder, stdout=output, stderr=output, env=environment, start_new_session=True,
        )  # fmt: skip
        if waits:
            wait_for_store(database, process)
        time.sleep(after)
        ended = process.poll()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert ended in (None, 0), f"it ended with {ended} before it was killed"
        state = find_state(database).state
        assert state in (State.ABSENT, State.READY, State.OLD), state
        met = f"{state.name.lower()}, {'ended' if ended == 0 else count_runs(database, state)}"
        assert run_in_fork(folder, arguments, output.fileno()) == 0, "the same command failed"
    client = MlflowClient(f"sqlite:///{database}")
    experiments = [found.experiment_id for found in client.search_experiments()]
    left = client.search_runs(experiments, "attributes.status = 'RUNNING'")
    assert not left, f"RUNNING: {left}"
    if older is not None:
        assert client.get_run(RUN_ID).info.run_name == "kept"
    assert not list((folder / "mlruns").glob(".mlflow.db.new*"))
    assert not list((folder / "tmp").glob(f"{PREFIX}*"))
    return met


def wait_for_store(database: Path, process: "subprocess.Popen[bytes]") -> None:
    lock = database.with_name(f".{database.name}.lock")
    while process.poll() is None and not lock.exists():
        time.sleep(0.005)


def count_runs(database: Path, state: State) -> str:
    if state is not State.READY:
        return "no run"
    client = MlflowClient(f"sqlite:///{database}")
    experiment = client.get_experiment_by_name("tunetrail")
    runs = client.search_runs([experiment.experiment_id]) if experiment is not None else []
    return ", ".join(sorted({str(run.info.status) for run in runs})) or "no run"


def run_in_fork(folder: Path, arguments: list[str], output: int) -> int:
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(folder)
        tempfile.tempdir = str(folder / "tmp")
        sys.argv = ["train.py", *arguments]
        task = entrypoint.main.__wrapped__
        hydra.main(str(ROOT / "conf"), "config", version_base="1.3")(task)()
        code = 0
    except SystemExit as error:
        os.write(2, f"{error}\n".encode())
    except BaseException:  # noqa: BLE001 - the fork must not go on in the loop of its parent
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--every", type=float, default=0.05, metavar="SECONDS")
    parser.add_argument("--start", type=float, default=0.05, metavar="SECONDS")
    parser.add_argument("--until", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--study", action="store_true")
    parser.add_argument("--older", action="store_true")
    parser.add_argument("--at-store", action="store_true", help="count from where it is made")
    asked = parser.parse_args()
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        ARCHITECTURES["bert"].save(root / "model")
        older = root / "older.db" if asked.older else None
        if older is not None:
            make_older(older)
            fill(older)
        overrides = tiny_overrides(root / "model")
        if asked.study:
            overrides = [*STUDY, *(text for text in overrides if "learning_rate" not in text)]
        num_kills = int((asked.until - asked.start) / asked.every + 1.5)
        for number in range(num_kills):
            after = asked.start + number * asked.every
            folder = root / str(number)
            folder.mkdir()
            write_csv(folder / "train.csv", make_rows(60, seed=1))
            write_csv(folder / "validation.csv", make_rows(30, seed=2))
            try:
                met = kill_and_repeat(
                    folder, overrides, after=after, older=older, waits=asked.at_store
                )
            except AssertionError as error:
                met = "FAILED"
                said = (folder / "output.txt").read_text(errors="replace")
                print(f"after {after:.2f} s: {error}\n{said}", flush=True)
            found[met] += 1
            print(f"{after:6.2f} s  {met}", flush=True)
            shutil.rmtree(folder)
    print(f"{num_kills} kills: {dict(found)}")
    return 1 if found["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
