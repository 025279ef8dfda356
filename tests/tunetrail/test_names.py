"""Names of runs: short, and bounded whatever was searched."""

import pytest

from tunetrail.templates.names import WINNER, find_own_name, name_part, name_run, name_trial


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (
            {
                "trainer.learning_rate": 0.000234,
                "trainer.per_device_train_batch_size": 16,
                "trainer.num_train_epochs": 3,
            },
            "trial 7 · lr 2.3e-4 · bs 16 · 3 ep",
        ),
        ({}, "trial 7"),
        ({"trainer.learning_rate": 0.0}, "trial 7 · lr 0"),
        ({"trainer.learning_rate": 1e-4, "method.rank": 8}, "trial 7 · lr 1e-4 · rank 8"),
        ({"trainer.warmup_steps": 0.1, "approach": "lora"}, "trial 7 · warm-up 0.1 · lora"),
        ({"trainer.bf16": True, "data.a_{key}": None}, "trial 7 · bf16 True · a {key} None"),
        ({"task.text": "two\nlines {} " * 9}, "trial 7 · text two lines {} two lines …"),
        ({"trainer.x": float("nan"), "trainer.y": float("inf")}, "trial 7 · x nan · y inf"),
    ],
)
def test_a_trial_is_named_by_its_number_and_its_point(
    params: dict[str, object], expected: str
) -> None:
    assert name_trial(7, params) == expected


def test_a_final_is_named_by_its_seed_and_a_long_name_is_cut() -> None:
    assert name_trial(7, {}, seed=43) == "trial 7 · seed 43"
    assert len(name_trial(7, {f"a.key_{n}": n for n in range(100)})) == 120


@pytest.mark.parametrize("own", [None, "mine", "a · b"])
def test_a_name_of_a_persons_own_stands_before_that_of_a_trial_and_is_found_again(
    own: str | None,
) -> None:
    name = name_trial(7, {"a.rank": 8}, reference="default", own=own)
    assert name == ("" if own is None else f"{own} · ") + "trial 7 · default · rank 8"
    assert find_own_name(name, 7) == find_own_name(WINNER + name, 7) == own


@pytest.mark.parametrize(
    ("parts", "settings", "expected"),
    [
        ({}, {}, "minilm · tweets · text classification"),
        (
            {"method": {"name": "lora"}},
            {"trainer.learning_rate": 1e-3},
            "minilm lora · tweets · text classification · lr 1e-3",
        ),
        (
            {"data": {"name": "files", "train": "my/reviews/train.csv.gz"}},
            {},
            "minilm · train.csv · text classification",
        ),
        (
            {"data": {"name": "files", "train": "my/reviews/train.csv"},
             "model": {"name": "run", "run_id": "0123456789abcdef"}},
            {},
            "run 01234567 · reviews · text classification",
        ),
        (
            {"data": {"name": "hub", "path": "mteb/imdb"}, "model": {"name": "gpt2", "id": "a/b"}},
            {},
            "gpt2 · imdb · text classification",
        ),
    ],
)  # fmt: skip
def test_a_run_is_named_by_model_data_and_task(
    parts: dict[str, dict[str, str]], settings: dict[str, object], expected: str
) -> None:
    whole = {"model": {"name": "minilm"}, "data": {"name": "tweets"}, "method": {"name": "full"}}
    assert name_run({**whole, **parts}, "TextClassification", settings) == expected


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"name": "files", "train": "train.csv"}, "files"),
        ({"name": "directory", "path": "/models/mine/"}, "mine"),
        ({"name": "files", "train": "\x1b[31m.csv"}, "\\x1b[31m"),
        ({}, "unnamed"),
    ],
)
def test_a_part_that_reads_anything_is_named_by_what_it_reads(
    part: dict[str, str], expected: str
) -> None:
    assert name_part(part) == expected
