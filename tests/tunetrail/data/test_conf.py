"""Every config in conf/data works."""

from pathlib import Path

import pytest
from datasets import DatasetDict
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).resolve().parents[3] / "conf" / "data"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
KEYS = {
    "name",
    "source",
    "label_names",
    "validation_fraction",
    "test_fraction",
    "subset",
    "num_train",
    "num_validation",
    "num_test",
}


def load(name: str, *overrides: str) -> DictConfig:
    cfg = OmegaConf.create({"data": OmegaConf.load(CONF / f"{name}.yaml")})
    OmegaConf.set_struct(cfg, value=True)
    cfg.merge_with_dotlist([f"data.{override}" for override in overrides])
    data = cfg.data
    assert isinstance(data, DictConfig)
    return data


@pytest.mark.parametrize("name", NAMES)
def test_a_config_has_the_keys_that_preparing_reads(name: str) -> None:
    data = load(name)
    assert set(data) >= KEYS
    assert {"text_column", "label_column"} <= set(data) or "columns" in data
    assert data.name == name


def test_the_tweets_are_those_of_the_package(tweets: DatasetDict) -> None:
    rows = instantiate(load("tweets").source)["train"]
    assert rows["text"][:] == tweets["train"]["text"][:]


def test_the_tweet_entities_are_those_of_the_package() -> None:
    data = load("tweet_entities")
    rows = instantiate(data.source)["train"]
    assert rows.column_names == [*data.columns.values()] == ["tokens", "tags"]
    assert len(rows) == 2_394
    tags = [tag for row in rows["tags"] for tag in row]
    assert len(tags) == 46_469
    assert sum(tag.startswith("B-") for tag in tags) == 1_496
    assert len({tag.partition("-")[2] for tag in tags} - {""}) == 10


def test_files_are_named_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,1\nb,0\n")
    (tmp_path / "b.jsonl").write_text('{"text": "c", "label": 1}\n')
    data = load("files", f"train={tmp_path / 'a.csv'}", f"validation={tmp_path / 'b.jsonl'}")
    rows = instantiate(data.source)
    assert {name: len(part) for name, part in rows.items()} == {"train": 2, "validation": 1}


def test_any_directory_that_load_dataset_reads_is_a_hub_set(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,1\nb,0\n")
    rows = instantiate(load("hub", f"path={tmp_path}").source)
    assert {name: len(part) for name, part in rows.items()} == {"train": 2}
