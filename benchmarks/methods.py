"""Measure what methods save beside full fine-tuning, on real tweets and real weights.

Part ``heads``: a study of 20 trials over heads on a frozen body (conf/experiment/frozen_heads.yaml)
against one full fine-tuning (python train.py): MiniLM, the same 1,000 tweets, three epochs. Both
are whole commands, the import of libraries included, each in a folder of its own.

How to read the output: ``seconds`` is wall time, ``processor`` the time that processors computed. A
ratio below 1 means that the study was done first. Ends with 1 if the median of the ratios of wall
time is 1 or more.

How noise is kept out: one thread each, and the two take turns. On a machine that does other work
compare the ratios of ``processor`` too: they depend less on what else runs.

    python benchmarks/methods.py                 # about five minutes a round
    python benchmarks/methods.py --rounds 3
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
NUM_TRIALS = 20
FULL = ("trainer.num_train_epochs=3",)
HEADS = ("-m", "experiment=frozen_heads", f"sweep.num_trials={NUM_TRIALS}", "sweep.final_seeds=0")


@dataclass(frozen=True)
class Cost:
    seconds: float
    processor: float


def measure(*overrides: str) -> Cost:
    command = [sys.executable, str(TRAIN), *overrides]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        output = Path(folder, "output")
        start = time.monotonic()
        with output.open("w") as file:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        if status:
            last = "\n".join(output.read_text().splitlines()[-5:])
            raise SystemExit(f"{' '.join(command)} ended with {status}:\n{last}")
    return Cost(seconds, used.ru_utime + used.ru_stime)


def compare_heads(num_rounds: int) -> bool:
    print("round              seconds   processor", flush=True)
    ratios, of_processor = [], []
    for number in range(1, num_rounds + 1):
        full, heads = measure(*FULL), measure(*HEADS)
        for name, cost in (("full", full), (f"{NUM_TRIALS} heads", heads)):
            print(f"{number:>5}  {name:<9}{cost.seconds:>10.1f}{cost.processor:>12.1f}", flush=True)
        ratios.append(heads.seconds / full.seconds)
        of_processor.append(heads.processor / full.processor)
    ratio = statistics.median(ratios)
    is_good = ratio < 1
    print(
        f"{'PASS' if is_good else 'FAIL'}: {NUM_TRIALS} trials of heads take {ratio:.2f} of one "
        f"full fine-tuning (below 1), {statistics.median(of_processor):.2f} of its processor time"
    )
    return is_good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    sys.exit(not compare_heads(options.rounds))


if __name__ == "__main__":
    main()
