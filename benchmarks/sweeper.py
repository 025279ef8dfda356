"""Measure what the sweeper costs beside Optuna itself.

A sweep of jobs that do nothing (toy.py) against Optuna's own ask and tell: the same number of
trials, the same sampler and space, SQLite both times, a new process and a new file for each.

How to read the output: ``ms a trial`` is the time from the end of one trial to the end of the next,
without the start of Python. ``last/first`` is the time of a trial in the last 100 over that in the
first 100: it shows whether a study slows down. Ends with 1 if the sweeper adds more than 20 ms a
trial, or if its last/first is above 1.2.

How noise is kept out: a run is cut into blocks of 20 trials, and the time of a run is the median of
the means of its blocks, so a machine that is busy for a moment changes nothing. Sweep and plain
Optuna take turns for several rounds, and the median of their differences counts, so a machine that
is busy throughout slows both. Look at the rounds: if they disagree, run it again.

    python benchmarks/sweeper.py                          # make bench; two to five minutes
    python benchmarks/sweeper.py --trials 300 --rounds 1
    python benchmarks/sweeper.py --two-workers            # also with hydra.sweeper.num_workers=2
    python benchmarks/sweeper.py --server postgresql://USER@HOST/DATABASE    # with its heartbeat

With ``--server`` each run has a study of its own in that database, which is deleted after it.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import TrialState

TOY = Path(__file__).parent / "toy.py"
BLOCK = 20
MOST_ADDED_MS = 20.0
MOST_LAST_OVER_FIRST = 1.2


@dataclass(frozen=True)
class Run:
    ms: float
    last_over_first: float


def sweep(num_trials: int, server: str | None, *overrides: str) -> Run:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        storage = server or f"sqlite:///{folder}/study.db"
        command = [sys.executable, str(TOY), "-m", f"num_trials={num_trials}", *overrides]
        command.append(f"hydra.sweeper.storage='{storage}'")
        output = Path(folder, "output")
        with output.open("w") as file:
            done = subprocess.run(
                command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, check=False
            )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{_tail(output)}")
        return measure(storage, num_trials)


def _tail(output: Path) -> str:
    return "\n".join(output.read_text().splitlines()[-5:])


def plain(num_trials: int, server: str | None) -> Run:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        storage = server or f"sqlite:///{folder}/study.db"
        command = [sys.executable, __file__, "--plain", storage, "--trials", str(num_trials)]
        subprocess.run(command, check=True)
        return measure(storage, num_trials)


def ask_and_tell(storage: str, num_trials: int) -> None:
    """Do with Optuna alone what a sweep of toy.py does."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(study_name="toy", storage=storage, sampler=sampler)
    space: dict[str, BaseDistribution] = {name: FloatDistribution(-1, 1) for name in "xy"}
    for _ in range(num_trials):
        trial = study.ask(space)
        study.tell(trial, trial.params["x"] ** 2 + trial.params["y"])


def measure(storage: str, num_trials: int) -> Run:
    trials = optuna.load_study(study_name="toy", storage=storage).get_trials(deepcopy=False)
    optuna.delete_study(study_name="toy", storage=storage)
    ends = sorted(
        trial.datetime_complete.timestamp()
        for trial in trials
        if trial.state is TrialState.COMPLETE and trial.datetime_complete
    )
    if len(ends) != num_trials:
        raise SystemExit(f"{len(ends)} trials completed of {num_trials}")
    edge = min(100, num_trials // 2)
    return Run(_ms(ends), _ms(ends[-edge - 1 :]) / _ms(ends[: edge + 1]))


def _ms(ends: list[float]) -> float:
    """Take the median of the blocks' means, in milliseconds a trial."""
    blocks = zip(ends[::BLOCK], ends[BLOCK::BLOCK], strict=False)
    return statistics.median(1000 * (last - first) / BLOCK for first, last in blocks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000, help="of each run; 40 or more")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--two-workers", action="store_true")
    parser.add_argument("--server", metavar="URL", help="of a database, in place of SQLite")
    parser.add_argument("--plain", metavar="STORAGE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trials < 2 * BLOCK:
        parser.error(f"--trials {options.trials}: two blocks of {BLOCK} are the least")
    if options.plain:
        ask_and_tell(options.plain, options.trials)
        return
    print("round            ms a trial  last/first", flush=True)
    added, ratios = [], []
    for number in range(1, options.rounds + 1):
        optuna_run = plain(options.trials, options.server)
        _print_run(number, "optuna", optuna_run)
        sweep_run = sweep(options.trials, options.server)
        _print_run(number, "sweeper", sweep_run)
        added.append(sweep_run.ms - optuna_run.ms)
        ratios.append(sweep_run.last_over_first)
        if options.two_workers:
            two = sweep(options.trials, options.server, "hydra.sweeper.num_workers=2")
            _print_run(number, "2 workers", two)
    adds, ratio = statistics.median(added), statistics.median(ratios)
    is_good = adds <= MOST_ADDED_MS and ratio <= MOST_LAST_OVER_FIRST
    print(
        f"{'PASS' if is_good else 'FAIL'}: the sweeper adds {adds:.1f} ms a trial "
        f"(at most {MOST_ADDED_MS:g}); last/first {ratio:.2f} (at most {MOST_LAST_OVER_FIRST:g})"
    )
    sys.exit(not is_good)


def _print_run(number: int, name: str, run: Run) -> None:
    print(f"{number:>5}  {name:<9}{run.ms:>11.1f}{run.last_over_first:>12.2f}", flush=True)


if __name__ == "__main__":
    main()
