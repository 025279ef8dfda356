"""Models come with a head for the labels, a padding token, and one line about what is new."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tunetrail.config import hub
from tunetrail.errors import InputError
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import Loader
from tunetrail.models.methods.full import Full
from tunetrail.models.tokenizers import load_tokenizer


def checkpoint(path: Path) -> Checkpoint:
    return Checkpoint(str(path), origin="a test")


def classifier(path: Path, **config: Any) -> Any:
    return Loader(checkpoint(path))(AutoModelForSequenceClassification, **config)


def load(path: Path, names: list[str]) -> torch.nn.Module:
    return classifier(path, label_names=names, pad_token_id=0)


def test_a_decoder_without_padding_token_pads_with_its_end_token(tiny_gpt2: Path) -> None:
    tokenizer = load_tokenizer(checkpoint(tiny_gpt2))
    assert tokenizer.pad_token == tokenizer.eos_token == "<|endoftext|>"
    model = classifier(tiny_gpt2, label_names=["a", "b"], pad_token_id=tokenizer.pad_token_id)
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert model.config.id2label == {0: "a", 1: "b"}
    assert model.config.label2id == {"a": 0, "b": 1}


def test_a_new_head_is_logged_in_one_line(
    tiny_gpt2: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="tunetrail"):
        load(tiny_gpt2, ["a", "b", "c"])
    said = [r.getMessage() for r in caplog.records if r.name.startswith("tunetrail")]
    assert said == ["new weights, to be trained: score.weight"]


def test_the_same_seed_draws_the_same_head(tiny_gpt2: Path) -> None:
    def head(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return load(tiny_gpt2, ["a", "b", "c"]).score.weight

    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))


def test_an_unknown_id_of_the_hub_says_what_works_without_a_network() -> None:
    assert not hub.is_reachable()  # the tests run with HF_HUB_OFFLINE
    with pytest.raises(InputError) as caught:
        load_tokenizer(Checkpoint("no-such/model", origin="the hub", revision="main"))
    said = str(caught.value)
    assert "no-such/model" in said
    assert "model=minilm" in said
    assert "\n" not in said


def test_a_model_in_the_local_cache_of_the_hub_loads_without_a_network(
    tiny_gpt2: Path, tmp_path: Path
) -> None:
    """The layout of huggingface_hub's cache: snapshots by commit, refs by name."""
    cache = tmp_path / "models--some--gpt2"
    (cache / "snapshots").mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0" * 40)
    (cache / "snapshots" / ("0" * 40)).symlink_to(tiny_gpt2)
    from huggingface_hub import constants

    before = constants.HF_HUB_CACHE
    constants.HF_HUB_CACHE = str(tmp_path)
    try:
        tokenizer = load_tokenizer(Checkpoint("some/gpt2", origin="the hub", revision="main"))
    finally:
        constants.HF_HUB_CACHE = before
    assert tokenizer.eos_token == "<|endoftext|>"


def test_a_broken_checkpoint_is_one_line(tiny_gpt2: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-type"}')
    (tmp_path / "model.safetensors").write_bytes((tiny_gpt2 / "model.safetensors").read_bytes())
    with pytest.raises(InputError) as caught:
        load(tmp_path, ["a", "b"])
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_full_trains_every_weight(tiny_gpt2: Path) -> None:
    model = Full("full").prepare(load(tiny_gpt2, ["a", "b", "c"]))
    assert all(p.requires_grad for p in model.parameters())
