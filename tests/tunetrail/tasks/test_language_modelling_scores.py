"""How language models are measured: scores, memory, and which models can be measured."""

import itertools
import math
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest
import torch
from architectures import DECODERS
from datasets import Dataset
from language_models import CAUSAL, ENCODERS, MASKED, TEXTS, canonical, loader, tokenizer_of
from toys import make_rows
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, LlamaConfig, LlamaForCausalLM

from tunetrail.errors import InputError
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import Loader, read_weights
from tunetrail.served import text_generation
from tunetrail.served.language import tokenize
from tunetrail.tasks.causal_lm import CausalLM
from tunetrail.tasks.metrics.language_modelling import language_modelling


def evaluate_rows(task: Any, model: Any, tokenizer: Any, rows: Dataset) -> Any:
    """Statistics of rows as Trainer's evaluation has them, in batches of two."""
    encoded = task.encode(rows, tokenizer)
    collate = task.build_collator(tokenizer, model)
    kept = []
    for start in range(0, len(encoded), 2):
        chosen = range(start, min(start + 2, len(encoded)))
        batch = collate(list(encoded.remove_columns("index").select(chosen)))
        with torch.inference_mode():
            kept.append(task.predict(model, batch, model(**batch)).numpy())
    width = max(part.shape[1] for part in kept)
    padded = [np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=-100)
              for part in kept]  # fmt: skip
    return encoded, np.concatenate(padded)


# Scores


@pytest.mark.parametrize("architecture", sorted(DECODERS))
def test_perplexity_is_that_of_transformers_on_the_same_texts(
    architecture: str, saved: Any
) -> None:
    """Texts that fit into one window: the loss of the library is the mean over their tokens."""
    tokenizer = tokenizer_of(architecture)
    model = CausalLM.load_model(CAUSAL, loader(saved(architecture)), tokenizer, canonical(["a"]))
    texts = [text for text, _ in make_rows(9)]
    task = CausalLM(max_length=64, num_samples=0, main_metric="perplexity", max_new_tokens=4)
    rows = canonical(texts)
    encoded, outputs = evaluate_rows(task, model, tokenizer, rows)
    assert len(encoded) == len(rows)
    start, _ = text_generation.find_ends(tokenizer)
    losses, counts, hits = [], [], 0
    for ids in tokenize(texts, tokenizer):
        inputs = torch.tensor([[start, *ids]])
        with torch.inference_mode():
            plain = model(input_ids=inputs, labels=inputs)
        losses.append(float(plain.loss) * len(ids))
        counts.append(len(ids))
        hits += int((plain.logits[0, :-1].argmax(-1) == inputs[0, 1:]).sum())
    statistics = task.statistics(rows, encoded, outputs)
    assert statistics[:, 0] == pytest.approx(losses, rel=1e-5)
    scores = task.score(statistics.sum(axis=0))
    mean = sum(losses) / sum(counts)
    assert scores["loss"] == pytest.approx(mean, rel=1e-5)
    assert scores["perplexity"] == pytest.approx(math.exp(mean), rel=1e-5)
    num_bytes = sum(len(text.encode()) for text in texts)
    assert scores["bits_per_byte"] == pytest.approx(sum(losses) / math.log(2) / num_bytes, rel=1e-5)
    assert scores["token_accuracy"] == pytest.approx(hits / sum(counts))
    table = task.tabulate(rows, encoded, outputs)
    assert list(table["tokens"]) == counts
    each = [math.exp(loss / count) for loss, count in zip(losses, counts, strict=True)]
    assert list(table["perplexity"]) == pytest.approx(each, rel=1e-5)


@pytest.mark.parametrize("architecture", ENCODERS)
def test_perplexity_of_masked_tokens_is_that_of_transformers(architecture: str, saved: Any) -> None:
    tokenizer = tokenizer_of(architecture)
    model = loader(saved(architecture))(AutoModelForMaskedLM)
    rows = canonical(TEXTS)
    encoded, outputs = evaluate_rows(MASKED, model, tokenizer, rows)
    total = count = 0.0
    for window in encoded:
        labels = torch.tensor([window["labels"]])
        with torch.inference_mode():
            plain = model(input_ids=torch.tensor([window["input_ids"]]), labels=labels)
        number = int(labels.ne(-100).sum())
        total, count = total + float(plain.loss) * number, count + number
    scores = MASKED.score(MASKED.statistics(rows, encoded, outputs).sum(axis=0))
    assert scores["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-4)
    assert scores.keys() == {"perplexity", "token_accuracy", "loss"}


def test_the_metric_is_one_of_evaluate() -> None:
    metric = evaluate.load(str(Path(language_modelling.__file__)), keep_in_memory=True)
    found = metric.compute(
        predictions=[[math.log(2), math.log(8)], [math.log(4)]],
        references=["ab", "né"],
        hits=[[1, 0], [1]],
    )
    assert found["perplexity"] == pytest.approx(4)
    assert found["bits_per_byte"] == pytest.approx(6 / 5)  # é has two bytes
    assert found["token_accuracy"] == pytest.approx(2 / 3)


def test_a_hopeless_model_has_a_finite_perplexity_and_no_text_none() -> None:
    sums = np.array([[1e6, 10.0, 40.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    scores = language_modelling.score(sums)
    assert np.isfinite(scores["perplexity"]).all()
    assert scores["loss"][0] == 1e5


# Memory


def peak_bytes(step: Any) -> int:
    """The most bytes that torch held at once while it ran, beyond those before."""
    with torch.profiler.profile(profile_memory=True) as profile:
        step()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()))
    return max(held)


@pytest.mark.parametrize("vocab_size", [2_000, 50_000])
def test_evaluating_needs_no_more_memory_than_a_training_step(vocab_size: int) -> None:
    """As many rows as are trained at once, whatever the vocabulary: ``build_arguments``."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab_size, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    ids = torch.randint(10, vocab_size, (4, 64))
    batch = {"input_ids": ids, "labels": ids.clone()}
    logits = ids.numel() * vocab_size * 4

    def train() -> None:
        model(**batch).loss.backward()
        model.zero_grad()

    def measure() -> None:
        with torch.no_grad():
            outputs = model(**batch)
            kept = CAUSAL.predict(model, batch, outputs)
        assert kept.shape == (4, 63, 2)

    measure()  # what is made once, is made
    training, evaluating = peak_bytes(train), peak_bytes(measure)
    assert 3 * logits < training
    assert 2 * logits < evaluating < training

    def score() -> None:
        CAUSAL.predict(model, batch, {"logits": kept})

    with torch.no_grad():
        kept = model(**batch).logits
    # Beside the logits of the whole batch, those of a few tokens at a time.
    assert peak_bytes(score) < max(0.2 * logits, 40e6)


# Models


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_an_encoder_with_a_causal_head_is_refused(architecture: str, saved: Any) -> None:
    """It would see what it has to predict, and score a perplexity near 1."""
    with pytest.raises(InputError, match=r"reads what comes after a token.*task=masked_lm$"):
        CAUSAL.load_model(loader(saved(architecture)), tokenizer_of(architecture), canonical(TEXTS))


@pytest.mark.parametrize("architecture", ["modernbert", "distilbert", "deberta-v2"])
def test_an_architecture_without_a_causal_head_is_refused(architecture: str, saved: Any) -> None:
    with pytest.raises(InputError, match=r"no such model of the architecture.*task=masked_lm$"):
        CAUSAL.load_model(loader(saved(architecture)), tokenizer_of(architecture), canonical(TEXTS))


@pytest.mark.parametrize("architecture", sorted(DECODERS))
def test_a_causal_model_from_memory_is_the_one_from_disk(architecture: str, saved: Any) -> None:
    """Also where head and embeddings are one tensor, which the file holds once."""
    checkpoint = Checkpoint(str(saved(architecture)), origin="a test")
    from_disk = Loader(checkpoint)(AutoModelForCausalLM)
    from_memory = Loader(checkpoint, read_weights(checkpoint))(AutoModelForCausalLM)
    one, other = from_disk.state_dict(), from_memory.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    tied = from_disk.config.tie_word_embeddings
    for model in (from_disk, from_memory):
        same = model.get_output_embeddings().weight is model.get_input_embeddings().weight
        assert same == tied
    assert tied == (architecture != "llama")
