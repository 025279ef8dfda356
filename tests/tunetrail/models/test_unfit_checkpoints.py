"""Checkpoints as people have them: what would train on nothing, or on another model, is refused."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file, save_file
from toys import make_rows, write_csv
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    ByT5Tokenizer,
    T5Config,
    T5ForConditionalGeneration,
)

from tunetrail.__main__ import main
from tunetrail.errors import InputError
from tunetrail.models import checkpoints
from tunetrail.models.loading import Loader
from tunetrail.models.tokenizers import load_tokenizer, require_known

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
Break = Callable[[Path], object]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("saved")

    def save(name: str) -> Path:
        path = folder / name
        return path if path.exists() else ARCHITECTURES[name].save(path)

    return save


def load(folder: Path, auto: Any = AutoModelForSequenceClassification) -> Any:
    """Load a checkpoint in the order of a run: place, tokenizer, model."""
    found = checkpoints.directory(path=str(folder))
    load_tokenizer(found)
    if auto is AutoModelForQuestionAnswering:
        return Loader(found)(auto, num_labels=2)  # start and end, as the task has it
    return Loader(found)(auto, label_names=["a", "b", "c"])


def change(name: str, **values: Any) -> Break:
    def apply(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return apply


def remove(*names: str) -> Break:
    return lambda folder: [(folder / name).unlink() for name in names]


def write(name: str, content: bytes) -> Break:
    return lambda folder: (folder / name).write_bytes(content)


def cut(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def reweigh(function: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Break:
    def apply(folder: Path) -> None:
        changed = function(load_file(folder / WEIGHTS))
        save_file(changed, folder / WEIGHTS, metadata={"format": "pt"})

    return apply


def name_shards(folder: Path) -> None:
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / WEIGHTS).rename(folder / names["a"])
    (folder / INDEX).write_text(json.dumps({"weight_map": names}))


def add_token(**tokens: Any) -> Break:
    def apply(folder: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_special_tokens(tokens)
        tokenizer.save_pretrained(folder)

    return apply


def both(*steps: Break) -> Break:
    return lambda folder: [step(folder) for step in steps]


NO_FILES = remove("tokenizer.json", "tokenizer_config.json")
UNFIT: list[tuple[str, Break, str]] = [
    ("bert", NO_FILES, "knows no word"),
    ("bert", remove("tokenizer.json"), "knows no word"),
    ("bert", both(NO_FILES, write("vocab.txt", b"")), "knows no word"),
    ("gpt2", NO_FILES, "knows no word"),
    ("roberta", NO_FILES, "knows no word"),
    ("t5", NO_FILES, "knows no word"),
    ("llama", NO_FILES, "are its tokenizer's files there"),
    ("bert", write("tokenizer.json", b"{"), "cannot be loaded by AutoTokenizer"),
    # A slow tokenizer, without its library and its files.
    (
        "bert",
        change("tokenizer_config.json", tokenizer_class="BertJapaneseTokenizer"),
        "cannot be loaded by AutoTokenizer",
    ),
    ("gpt2", add_token(pad_token="<pad>"), "gives '<pad>' the number 400"),
    ("bert", add_token(additional_special_tokens=["<x>", "<y>"]), "'<y>' the number 401"),
    ("bert", change("config.json", vocab_size=300), "embeddings for 0 to 299"),
    ("bert", cut, "not all of it"),
    ("bert", write(WEIGHTS, b""), "not all of it (Error while deserializing header"),
    ("bert", write(WEIGHTS, b"version https://git-lfs.github.com/spec/v1\n"), "43 bytes"),
    ("bert", name_shards, "1 of 2 files of weights are missing (model-00002"),
    ("bert", both(name_shards, remove(INDEX)), f"weights without {INDEX}"),
    ("bert", both(name_shards, write(INDEX, b"{")), f"{INDEX} cannot be read"),
    ("bert", write("adapter_config.json", b"{}"), "merge_and_unload"),
    (
        "bert",
        reweigh(lambda found: {name: part.to(torch.int8) for name, part in found.items()}),
        "weights in I8",
    ),
    (
        "bert",
        reweigh(lambda found: {name: part / 0 for name, part in found.items()}),
        "no numbers",
    ),
    (
        "bert",
        reweigh(lambda found: {n: part for n, part in found.items() if ".layer.1." not in n}),
        "16 weights of its body do not fit",
    ),
    ("bert", change("config.json", num_hidden_layers=4), "32 weights of its body"),
    ("bert", change("config.json", hidden_size=64), "has the shape [32] where"),
    ("bert", change("config.json", vocab_size=500), "has the shape [400, 32] where"),
    ("bert", change("config.json", model_type="gpt2"), "none of its weights fit"),
    ("bert", change("config.json", model_type="no-such"), "cannot be loaded by AutoConfig"),
    ("bert", change("config.json", model_type=None, architectures=None), "by AutoConfig"),
    ("bert", change("config.json", id2label=["a", "b"]), "cannot be loaded by AutoConfig"),
    ("bert", change("config.json", hidden_size="32"), "Field 'hidden_size' expected int"),
    ("bert", change("config.json", num_attention_heads=0), "cannot be loaded by BertModel"),
    ("bert", change("config.json", pad_token_id=999), "Padding_idx must be within"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "break_", "found"), UNFIT, ids=[f"{a}: {f}" for a, _, f in UNFIT]
)
def test_a_checkpoint_that_would_not_train_what_it_is_is_refused_in_one_line(
    saved: Callable[[str], Path], tmp_path: Path, architecture: str, break_: Break, found: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved(architecture), folder)
    load(folder)
    break_(folder)
    with pytest.raises(InputError) as caught:
        load(folder)
    message = str(caught.value)
    assert found in message
    assert str(folder) in message
    assert "\n" not in message
    assert len(message) < 600


@pytest.mark.parametrize(
    "values",
    [
        {"problem_type": "regression"},
        {"problem_type": "multi_label_classification", "num_labels": 7},
        {"id2label": {"0": "a", "1": "a"}, "label2id": {"a": 5}},
        {"return_dict": False, "output_hidden_states": True, "output_attentions": True},
        {"architectures": None},
    ],
    ids=lambda values: next(iter(values)),
)
@pytest.mark.parametrize("architecture", ["bert", "t5", "bart"])
def test_what_the_config_says_of_another_task_changes_nothing(
    saved: Callable[[str], Path], tmp_path: Path, architecture: str, values: dict[str, Any]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved(architecture), folder)
    change("config.json", **values)(folder)
    for auto in (AutoModelForSequenceClassification, AutoModelForQuestionAnswering):
        model = load(folder, auto)
        outputs = model(input_ids=torch.tensor([[5, 6, model.config.eos_token_id or 3]]))
        assert {"logits", "start_logits"} & outputs.keys()
        assert not outputs.keys() & {"hidden_states", "attentions", "decoder_hidden_states"}
    assert load(folder).config.num_labels == 3


@pytest.mark.parametrize(
    "architecture",
    ["bert", "roberta", "gpt2", "bart"],
)
def test_no_more_tokens_are_read_than_the_model_has_positions(
    saved: Callable[[str], Path], tmp_path: Path, architecture: str
) -> None:
    """RoBERTa counts positions from the one after its padding token's."""
    folder = tmp_path / "model"
    shutil.copytree(saved(architecture), folder)
    change("tokenizer_config.json", model_max_length=int(1e30))(folder)
    tokenizer = load_tokenizer(checkpoints.directory(path=str(folder)))
    positions = 66 - (tokenizer.pad_token_id + 1 if architecture == "roberta" else 0)
    assert tokenizer.model_max_length == positions
    model = load(folder)
    inputs = tokenizer("good day " * 100, truncation=True, return_tensors="pt")
    assert inputs["input_ids"].shape == (1, positions)
    assert model(**inputs).logits.isfinite().all()


def test_fewer_layers_than_the_checkpoint_has_are_said(
    saved: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved("bert"), folder)
    change("config.json", num_hidden_layers=1)(folder)
    with caplog.at_level(logging.WARNING, logger="tunetrail"):
        load(folder)
    assert "16 weights of the checkpoint are left out" in caplog.text


def test_a_tokenizer_that_knows_far_fewer_tokens_than_the_model_is_said(
    saved: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Padding of an embedding is a few tokens; a third of it is another model's tokenizer."""
    folder = tmp_path / "model"
    shutil.copytree(saved("bert"), folder)
    known = len(AutoTokenizer.from_pretrained(folder).get_vocab())
    with caplog.at_level(logging.WARNING, logger="tunetrail"):
        change("config.json", vocab_size=known * 4 // 3)(folder)
        load_tokenizer(checkpoints.directory(path=str(folder)))
        assert not caplog.text
        change("config.json", vocab_size=known * 4 // 3 + 2)(folder)
        load_tokenizer(checkpoints.directory(path=str(folder)))
    assert f"knows {known:,} tokens and the model {known * 4 // 3 + 2:,}; is it" in caplog.text


def test_texts_that_the_tokenizer_does_not_know_are_refused_or_said(
    saved: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = load_tokenizer(checkpoints.directory(path=str(saved("bert"))))

    def check(text: str) -> None:
        require_known(np.array(tokenizer(text)["input_ids"]), tokenizer, split="train")

    for text in ("\u4e2d \u6587", ""):
        with pytest.raises(InputError, match="knows nothing of the texts of train"):
            check(text)
    with caplog.at_level(logging.WARNING, logger="tunetrail"):
        check("good " * 12 + "\u4e2d")
        assert not caplog.text
        check("good " * 3 + "\u4e2d")
    assert "25 % of the tokens of train are [UNK]" in caplog.text


@pytest.mark.slow
def test_a_run_on_texts_that_the_tokenizer_does_not_know_is_refused(
    saved: Callable[[str], Path], train: Any, tiny: list[str]
) -> None:
    signs = [(chr(0x4E00 + index), "ab"[index % 2]) for index in range(40)]
    path = write_csv(Path("unknown.csv"), signs)
    with pytest.raises(SystemExit) as caught:
        train(*tiny, f"model.path={saved('bert')}", f"data.train={path}", f"data.validation={path}")
    assert "knows nothing of the texts of train" in str(caught.value.code)


@pytest.mark.slow
def test_a_tokenizer_that_is_a_config_alone_trains_predicts_and_exports(
    train: Any, tiny: list[str], tmp_path: Path
) -> None:
    """ByT5 reads bytes: it has no vocabulary that could be missing."""
    folder = tmp_path / "byt5"
    ByT5Tokenizer().save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=384, d_model=32, d_ff=64, d_kv=16, num_layers=2, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    write_csv(Path("long.csv"), [*make_rows(9), ("good day " * 100, "positive")])
    train(*tiny, f"model.path={folder}", "trainer.num_train_epochs=1", "data.train=long.csv")
    client = MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tunetrail")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert main(["predict", run.info.run_id, "--input", "long.csv", "--output", "out.csv"]) == 0
    assert main(["export", run.info.run_id, "exported"]) == 0
    assert main(["predict", "exported", "a good day"]) == 0
