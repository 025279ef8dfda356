"""LoRA trains little, leaves a plain model behind, and an adapter that gives the same answers."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import torch
from mlflow.tracking import MlflowClient
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)
from transformers.pytorch_utils import Conv1D

from tunetrail.errors import InputError
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import Loader, read_weights
from tunetrail.models.methods.lora import Lora

_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "num_labels": 3,
    "vocab_size": 100,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
}
# Architecture -> what of its body is trained, and what of a classifier lies outside of the body.
ARCHITECTURES = {
    "bert": ({"query", "value"}, {"classifier"}),
    "distilbert": (
        {"q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"},
        {"pre_classifier", "classifier"},
    ),
    "roberta": ({"query", "value"}, {"classifier"}),
    "deberta-v2": ({"query_proj", "value_proj"}, {"pooler", "classifier"}),
    "modernbert": ({"Wqkv", "Wo", "Wi"}, {"head", "classifier"}),
    "gpt2": ({"c_attn"}, {"score"}),
    "llama": ({"q_proj", "v_proj"}, {"score"}),
    "qwen2": ({"q_proj", "v_proj"}, {"score"}),
}
CHECKPOINT = Checkpoint("/a/path/of/this/machine", origin="some-package 1.0")
INPUTS = {"input_ids": torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, 0, 0]])}
INPUTS["attention_mask"] = (INPUTS["input_ids"] != 0).long()


def lora(**values: Any) -> Lora:
    how = {"rank": 4, "alpha": 8, "dropout": 0.1, "target_modules": None}
    return Lora(name="lora", **how | values)


def build(
    architecture: str, auto: Any = AutoModelForSequenceClassification, **settings: Any
) -> PreTrainedModel:
    """A model of two layers with drawn weights, the same at every call."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **_SIZES, **settings)
    return auto.from_config(config).eval()


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(**INPUTS).logits


def take_steps(model: torch.nn.Module, *, autocast: bool = False) -> None:
    """Two large steps, so that every matrix moves away from where it began."""
    model.train()
    inputs = INPUTS | ({"labels": INPUTS["input_ids"]} if model.config.is_encoder_decoder else {})
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(**inputs).logits.float().square().sum()
        loss.backward()
        optimizer.step()


def embedded(model: torch.nn.Module) -> set[int]:
    return {m.weight.data_ptr() for m in model.modules() if isinstance(m, torch.nn.Embedding)}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_default_trains_what_the_architecture_is_known_for_and_the_new_head(
    architecture: str,
) -> None:
    targets, head = ARCHITECTURES[architecture]
    model = lora().prepare(build(architecture))
    trained = {
        name.removeprefix("base_model.model.")
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    matrices = {name for name in trained if ".lora_" in name}
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in matrices} == targets
    assert {name.partition(".")[0] for name in trained - matrices} == head
    assert 2 * model.num_parameters(only_trainable=True) < model.num_parameters()


@pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated"
)  # in from_pretrained
@pytest.mark.parametrize("auto", [AutoModelForSequenceClassification,
                                  AutoModelForTokenClassification])  # fmt: skip
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_merged_model_and_the_adapter_answer_like_the_trained_one(
    architecture: str, auto: Any, tmp_path: Path
) -> None:
    method, base = lora(), build(architecture, auto)
    body = {name: tensor.clone() for name, tensor in base.base_model.state_dict().items()}
    before = logits(base)
    model = method.prepare(base)
    take_steps(model)
    trained = logits(model)
    assert not torch.allclose(trained, before, atol=1e-2)

    assert method.save_adapter(model, tmp_path / "adapter", CHECKPOINT)
    merged = method.finish(model)
    assert type(merged) is type(base)
    merged.save_pretrained(tmp_path / "merged")
    plain, report = auto.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    # Large steps give large logits, and rounding is a part of the largest.
    atol = 1e-5 * max(10, float(trained.abs().max()))
    torch.testing.assert_close(logits(plain), trained, rtol=1e-4, atol=atol)
    changed = {
        name for name, tensor in plain.base_model.state_dict().items()
        if not torch.equal(tensor, body[name])
    }  # fmt: skip
    assert changed
    assert {name.split(".")[-2] for name in changed} == ARCHITECTURES[architecture][0]

    fresh = build(architecture, auto)
    for part in fresh.children():  # the head that the run drew is in the adapter
        if part is not fresh.base_model:
            for parameter in part.parameters():
                torch.nn.init.zeros_(parameter)
    adapted = PeftModel.from_pretrained(fresh, str(tmp_path / "adapter"))
    torch.testing.assert_close(logits(adapted), trained, rtol=1e-4, atol=1e-4)


# Architecture -> what of the head of its language model lies before the vocabulary.
LANGUAGE_HEADS = {
    "bert": {"cls.predictions.transform"},
    "distilbert": {"vocab_transform", "vocab_layer_norm"},
    "roberta": {"lm_head.dense", "lm_head.layer_norm"},
    "modernbert": {"head"},
    "gpt2": set(),
    "llama": set(),
    "qwen2": set(),
}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("architecture", LANGUAGE_HEADS)
def test_a_language_model_is_trained_merged_saved_and_loaded_and_its_vocabulary_stays(
    architecture: str, tied: bool, tmp_path: Path
) -> None:
    method, head = lora(), LANGUAGE_HEADS[architecture]
    auto = AutoModelForMaskedLM if head else AutoModelForCausalLM
    model = method.prepare(build(architecture, auto, tie_word_embeddings=tied))
    trained = {
        name.removeprefix("base_model.model.").replace(".modules_to_save.default", "")
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and ".lora_" not in name
    }
    assert {part for part in head if any(name.startswith(f"{part}.") for name in trained)} == head
    assert all(any(name.startswith(f"{part}.") for part in head) for name in trained)
    before = logits(model)
    take_steps(model)
    trained_logits = logits(model)
    assert not torch.allclose(trained_logits, before, atol=1e-2)
    merged = method.finish(model)
    merged.save_pretrained(tmp_path)
    plain, report = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    torch.testing.assert_close(logits(plain), trained_logits, rtol=1e-4, atol=1e-4)
    for found in (merged, plain):
        embeddings = found.get_input_embeddings().weight
        assert (found.get_output_embeddings().weight is embeddings) == tied


def test_all_linear_leaves_the_head_alone() -> None:
    model = lora(target_modules="all-linear").prepare(build("gpt2"))
    names = {n for n, p in model.named_parameters() if p.requires_grad and ".lora_" not in n}
    assert names == {"base_model.model.score.modules_to_save.default.weight"}
    wide = model.num_parameters(only_trainable=True)
    model = lora(target_modules=["attn.c_proj", "transformer.h.0.attn.c_attn"]).prepare(
        build("gpt2")
    )
    assert wide > model.num_parameters(only_trainable=True)
    assert not any("mlp" in n for n, p in model.named_parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rank": 0}, "method.rank=0"),
        ({"rank": 2.5}, "method.rank=2.5"),
        ({"alpha": 0}, "method.alpha=0"),
        ({"alpha": 0.5}, "method.alpha=0.5"),
        ({"dropout": 1.5}, "method.dropout=1.5"),
        ({"dropout": 1}, "method.dropout=1"),
        ({"dropout": "a"}, "method.dropout=a"),
        ({"target_modules": []}, "method.target_modules=[]"),
        ({"target_modules": "q_proj"}, "method.target_modules=q_proj"),
        ({"target_modules": [1]}, "method.target_modules=[1]"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        lora(**values)
    assert str(caught.value).startswith(f"{said}: must be ")
    assert "\n" not in str(caught.value)


def test_an_unknown_module_is_refused_with_those_that_exist() -> None:
    for name in ("q_proj", "classifier", "attention"):
        with pytest.raises(InputError) as caught:
            lora(target_modules=["query", name]).prepare(build("bert"))
        said = str(caught.value)
        assert said.startswith("method.target_modules: ")
        assert repr(name) in said
        assert "(found: dense, key, query, value)" in said


def test_a_model_without_linear_layers_is_refused() -> None:
    model = build("bert")
    for layer in list(model.base_model.children()):
        layer.requires_grad_(False)
    model.bert.encoder = torch.nn.Identity()
    model.bert.pooler = None
    with pytest.raises(InputError, match=r"method\.target_modules=all-linear"):
        lora(target_modules="all-linear").prepare(model)


@pytest.mark.parametrize(
    ("checkpoint", "name", "revision"),
    [
        (CHECKPOINT, "some-package 1.0", None),
        (Checkpoint("some/model", origin="some/model@main", revision="main"), "some/model", "main"),
    ],
    ids=["package", "hub"],
)
def test_an_adapter_names_what_it_belongs_to_and_no_path_of_this_machine(
    checkpoint: Checkpoint, name: str, revision: str | None, tmp_path: Path
) -> None:
    method, base = lora(), build("bert")
    base.name_or_path = base.config.name_or_path = CHECKPOINT.path
    model = method.prepare(base)
    method.save_adapter(model, tmp_path, checkpoint)
    found = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (found["base_model_name_or_path"], found["revision"]) == (name, revision)
    assert (found["r"], found["lora_alpha"], found["lora_dropout"]) == (4, 8, 0.1)
    assert {file.name for file in tmp_path.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    for file in tmp_path.iterdir():
        assert CHECKPOINT.path.encode() not in file.read_bytes()
    weights = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(tensor.numel() for tensor in weights.values()) == model.num_parameters(
        only_trainable=True
    )


ENCODER_DECODERS = ("t5", "bart")


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, *ENCODER_DECODERS])
def test_frozen_layers_held_as_autocast_casts_them_take_half_the_memory_and_change_no_number(
    architecture: str,
) -> None:
    auto = AutoModelForSequenceClassification
    if architecture in ENCODER_DECODERS:
        auto = AutoModelForSeq2SeqLM
        settings = {"d_model": 32, "decoder_start_token_id": 0, "forced_eos_token_id": None}
    else:
        settings = {}

    def load() -> PreTrainedModel:
        return build(architecture, auto, **settings)

    method = lora()
    merged, sizes = [], []
    for autocast in (None, torch.bfloat16):
        model = method.prepare(load())
        if autocast is not None:
            method.hold(model, autocast)
        body = model.get_base_model().base_model
        frozen = [p for m in body.modules() if isinstance(m, torch.nn.Linear | Conv1D)
                  for p in m.parameters(recurse=False) if not p.requires_grad]  # fmt: skip
        sizes.append(sum(p.nbytes for p in frozen if p.data_ptr() not in embedded(model)))
        torch.manual_seed(1)  # of the dropout
        take_steps(model, autocast=True)
        method.restore(model, load)
        merged.append(method.finish(model).state_dict())
    assert sizes[1] == sizes[0] / 2
    for name, tensor in merged[0].items():
        assert torch.equal(tensor, merged[1][name]), name


def test_a_checkpoint_that_changed_during_the_training_is_refused() -> None:
    method = lora()
    model = method.prepare(build("bert"))
    method.hold(model, torch.bfloat16)
    other = build("bert")
    with torch.no_grad():
        other.bert.encoder.layer[1].output.dense.weight[3, 4] += 1
    with pytest.raises(InputError, match=r"layer\.1\.output\.dense\.weight .* has changed"):
        method.restore(model, lambda: other)


def test_weights_that_a_process_holds_stay_as_they_are(tiny_gpt2: Path) -> None:
    checkpoint = Checkpoint(str(tiny_gpt2), origin="a test")
    held = read_weights(checkpoint)
    before = {name: tensor.clone() for name, tensor in held.items()}
    method = lora()
    load = Loader(checkpoint, held)
    model = method.prepare(load(AutoModelForSequenceClassification, label_names=["a", "b"],
                                pad_token_id=0))  # fmt: skip
    take_steps(model)
    method.finish(model)
    assert all(torch.equal(held[name], before[name]) for name in before)


def runs_of(workspace: Path, condition: str = "") -> list[Any]:
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tunetrail")
    return list(client.search_runs([experiment.experiment_id], condition))


def artifact(run: Any, path: str) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://")) / path


# Answers every text of a table with a model of MLflow's, where no peft can be imported.
_WITHOUT_PEFT = """
import json, sys
sys.modules["peft"] = None
import mlflow
texts = json.load(sys.stdin)
answers = mlflow.pyfunc.load_model(sys.argv[1]).predict([{"text": text} for text in texts])
print(json.dumps(answers["label"].tolist()))
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_a_run_logs_a_model_that_answers_without_peft_and_an_adapter_that_gives_the_same(
    train: Callable[..., Any], tiny: list[str], tiny_gpt2: Path, workspace: Path
) -> None:
    train(*tiny, "method=lora", "trainer.learning_rate=1e-2", "trainer.num_train_epochs=3")
    (run,) = runs_of(workspace)
    assert run.info.status == "FINISHED"
    sizes = json.loads(artifact(run, "environment/model.json").read_text())
    metrics = run.data.metrics
    assert metrics["model/parameters"] == sizes["num_parameters"]
    assert metrics["model/trainable_parameters"] == sizes["num_trainable_parameters"]
    # two layers of 32 to 96 with rank 8, and a head of three labels
    assert metrics["model/trainable_parameters"] == 2 * 8 * (32 + 96) + 3 * 32

    table = pd.read_parquet(artifact(run, "predictions/validation.parquet"))
    (output,) = run.outputs.model_outputs
    uri = f"models:/{output.model_id}"
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_PEFT, uri],
        input=json.dumps(table["text"].tolist()),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == table["prediction"].tolist()

    found = mlflow.transformers.load_model(uri, return_type="components")
    base = AutoModelForSequenceClassification.from_pretrained(
        tiny_gpt2, num_labels=3, pad_token_id=found["model"].config.pad_token_id
    )
    adapted = PeftModel.from_pretrained(base, str(artifact(run, "adapter"))).eval()
    batch = found["tokenizer"](table["text"].tolist(), padding=True, return_tensors="pt")
    with torch.inference_mode():
        merged = found["model"].eval()(**batch).logits
        torch.testing.assert_close(adapted(**batch).logits, merged, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_study_keeps_the_adapter_of_the_best_alone(
    train: Callable[..., Any], tiny: list[str], workspace: Path
) -> None:
    searched = ("trainer.learning_rate=", "trainer.num_train_epochs=")
    train(
        "-m",
        *(override for override in tiny if not override.startswith(searched)),
        "method=lora",
        "method.rank=choice(2,4,8)",
        "trainer.learning_rate=tag(log,interval(1e-6,1e-1))",
        "sweep.enqueue=[{trainer.learning_rate:1e-6,method.rank:2},"
        "{trainer.learning_rate:1e-2,method.rank:8}]",
        "sweep.try_default=false",
        "sweep.num_trials=2",
        "sweep.final_seeds=0",
        "pruner=none",
    )
    worse, better = sorted(
        runs_of(workspace, "tags.`tunetrail.trial` != ''"),
        key=lambda run: run.data.metrics["best/validation/accuracy"],
    )
    assert worse.data.tags["tunetrail.kept"] == "false"
    assert not artifact(worse, "adapter").exists()
    assert artifact(better, "adapter/adapter_model.safetensors").is_file()
