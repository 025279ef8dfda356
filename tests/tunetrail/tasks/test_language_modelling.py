"""What language modelling does by itself: windows, masks, blocks, scores, memory, samples."""

import itertools
import math
import random
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES, DECODERS, ONE_STACK
from datasets import Dataset, DatasetDict, Value
from toys import make_rows
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    TrainingArguments,
)

from tunetrail.data.prepare import load_splits, prepare_data
from tunetrail.errors import InputError
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import Loader, read_weights
from tunetrail.served import fill_mask, text_generation
from tunetrail.served.language import find_frame, split_evenly, tokenize
from tunetrail.tasks.causal_lm import CausalLM
from tunetrail.tasks.language_modelling import LanguageModelling
from tunetrail.tasks.masked_lm import MaskedAnew, MaskedLM
from tunetrail.tasks.metrics.language_modelling import language_modelling
from tunetrail.training.tokens import Split
from tunetrail.training.trainer import MeasuringTrainer

ENCODERS = sorted(set(ONE_STACK) - DECODERS)
LENGTH = 16
CAUSAL = CausalLM(max_length=LENGTH, num_samples=3, main_metric="perplexity", max_new_tokens=4)
MASKED = MaskedLM(max_length=LENGTH, num_samples=3, main_metric="perplexity", mask_share=0.3)
# One token, a few, more than one window, more than three.
TEXTS = ["a", "it was a good day", " ".join(text for text, _ in make_rows(4)),
         " ".join(text for text, _ in make_rows(12, seed=1))]  # fmt: skip


@lru_cache
def tokenizer_of(architecture: str) -> PreTrainedTokenizerBase:
    tokenizer = ARCHITECTURES[architecture].tokenizer()
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folder of a checkpoint by architecture."""
    folder = tmp_path_factory.mktemp("saved")
    return lru_cache(lambda name: ARCHITECTURES[name].save(folder / name))


def loader(folder: Path) -> Loader:
    return Loader(Checkpoint(str(folder), origin="a test"))


def canonical(texts: list[str], task: LanguageModelling = CAUSAL) -> Dataset:
    rows = DatasetDict({"train": Dataset.from_dict({"text": texts})})
    return task.canonicalise(rows, {"text": "text"}, label_names=None)["train"]


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


# Rows


def test_rows_have_no_labels_and_all_checks_of_the_data_work() -> None:
    texts = [f"text number {n} of many that tell a story" for n in range(40)]
    rows = DatasetDict({"train": Dataset.from_dict({"text": [*texts, texts[0], "  "]})})
    whole = load_splits(
        rows,
        canonicalise=lambda found: CAUSAL.canonicalise(found, {"text": "text"}, label_names=None),
        validation_fraction=0.25, test_fraction=0.25, seed=0,
        clean_quality=True, clean_leakage=False,
    )  # fmt: skip
    data = prepare_data(
        whole, subset="stratified", sizes={"train": 12, "validation": None, "test": None},
        per_label=None, per_label_seed=0, trains=True, seed=0, quality="clean", leakage="warn",
    )  # fmt: skip
    assert {name: len(part) for name, part in data.dataset.items()} == {
        "train": 12, "validation": 10, "test": 10
    }  # fmt: skip
    train = data.dataset["train"]
    assert train.column_names == ["text", "target", "stratum", "answers", "group", "row"]
    assert train.features["target"] == train.features["stratum"] == Value("null")
    assert data.notes == ("cleaning dropped 2 rows: 1 empty texts, 1 exact duplicates",)
    assert data.quality is not None
    assert data.quality.summary().startswith("nothing wrong with 32 rows; to look at: ")
    assert "label" not in data.quality.to_markdown().partition("Rows are numbered")[0].replace(
        "missing labels", ""
    ).replace("conflicting labels", "")
    assert data.leakage is not None
    assert data.leakage.problems > 0  # they differ by a number alone
    assert data.leakage.pairs[0].num_other_label == 0
    assert "text number" in data.leakage.to_markdown()


def test_too_few_texts_for_the_splits_are_refused() -> None:
    rows = DatasetDict({"train": Dataset.from_dict({"text": ["the same", "The same!"]})})
    with pytest.raises(InputError, match=r"^the source has 1 different text in train"):
        load_splits(
            rows,
            canonicalise=lambda r: CAUSAL.canonicalise(r, {"text": "text"}, label_names=None),
            validation_fraction=0.5, test_fraction=None, seed=0,
            clean_quality=False, clean_leakage=False,
        )  # fmt: skip


def test_a_column_that_is_missing_or_holds_no_text_is_named() -> None:
    rows = DatasetDict({"train": Dataset.from_dict({"words": [1, 2]})})
    with pytest.raises(InputError, match=r"^no column 'text' .* name one in data\.columns\.text,"):
        CAUSAL.canonicalise(rows, {"text": "text"}, label_names=None)
    with pytest.raises(InputError, match=r"^data\.columns\.text=words of train holds int64"):
        CAUSAL.canonicalise(rows, {"text": "words"}, label_names=None)


# Windows


@pytest.mark.parametrize("max_length", [2, 3, LENGTH, 64])
@pytest.mark.parametrize("architecture", sorted(DECODERS))
def test_every_token_of_a_text_is_counted_once_after_those_before_it(
    architecture: str, max_length: int
) -> None:
    tokenizer = tokenizer_of(architecture)
    start, _ = text_generation.find_ends(tokenizer)
    windows = text_generation.encode_windows(TEXTS, tokenizer, max_length=max_length)
    for index, ids in enumerate(tokenize(TEXTS, tokenizer)):
        own = [window for window in windows if window["index"] == index]
        counted = [label for window in own for label in window["labels"] if label != -100]
        assert counted == ids
        assert len(own) == 1 or len(ids) >= max_length
        stream, place = [start, *ids], 0
        for number, window in enumerate(own):
            assert len(window["input_ids"]) <= max_length
            place += sum(label != -100 for label in window["labels"])
            shown = window["input_ids"]
            # What it reads is the text up to its last token, the beginning of a text included.
            assert shown == stream[place + 1 - len(shown) : place + 1]
            known = window["labels"].count(-100)
            assert known == 1 if not number else known >= max(max_length // 4, 1)


@pytest.mark.parametrize("max_length", [5, LENGTH, 64])
@pytest.mark.parametrize("architecture", ENCODERS)
def test_windows_of_a_masked_text_hold_each_of_its_tokens_once(
    architecture: str, max_length: int
) -> None:
    tokenizer = tokenizer_of(architecture)
    before, after = find_frame(tokenizer)
    assert (len(before), len(after)) == (1, 1)
    windows = fill_mask.encode_windows(TEXTS, tokenizer, max_length=max_length)
    assert windows == fill_mask.encode_windows(TEXTS, tokenizer, max_length=max_length)
    alone = fill_mask.encode_windows(TEXTS[2:3], tokenizer, max_length=max_length)
    assert [w["input_ids"] for w in alone] == [w["input_ids"] for w in windows if w["index"] == 2]
    for index, ids in enumerate(tokenize(TEXTS, tokenizer)):
        own = [window for window in windows if window["index"] == index]
        inner = []
        for window in own:
            pairs = list(zip(window["input_ids"], window["labels"], strict=True))
            masked = [label for shown, label in pairs if label != -100]
            assert all(shown == tokenizer.mask_token_id for shown, lab in pairs if lab != -100)
            whole = [shown if label == -100 else label for shown, label in pairs]
            assert (whole[:1], whole[-1:], len(whole) <= max_length) == (before, after, True)
            assert len(masked) == max(round(0.15 * (len(whole) - 2)), 1)
            inner += whole[1:-1]
        assert inner == ids
        assert max(len(w["labels"]) for w in own) - min(len(w["labels"]) for w in own) <= 1


def test_a_text_of_unknown_characters_has_nothing_to_mask() -> None:
    tokenizer = tokenizer_of("bert")
    assert fill_mask.encode_windows(["\u4e00 \u4e01"], tokenizer, max_length=8) == []
    rows = canonical(["\u4e00 \u4e01"])
    with pytest.raises(InputError, match=r"^none of 1 texts has a token that can be predicted"):
        MASKED.encode(rows, tokenizer)
    rows = canonical(["\u4e00", "it was a good day"])
    encoded = MASKED.encode(rows, tokenizer)
    assert encoded["index"][:] == [1]
    table = MASKED.tabulate(rows, encoded, np.full((1, 7, 2), -100.0))
    assert table["perplexity"].isna().tolist() == [True, True]


@pytest.mark.parametrize(
    ("task", "architecture", "least"), [(CausalLM, "gpt2", 2), (MaskedLM, "bert", 3)]
)
def test_a_length_without_room_for_a_token_is_refused(
    task: Any, architecture: str, least: int
) -> None:
    more = {"max_new_tokens": 1} if task is CausalLM else {"mask_share": 0.15}
    rows = canonical(TEXTS)
    for length in (least, least - 1):
        made = task.__new__(task)  # max_new_tokens would have to be 0
        for name, value in {"max_length": length, "num_samples": 0, **more}.items():
            object.__setattr__(made, name, value)
        if length == least:
            assert len(made.encode(rows, tokenizer_of(architecture))) > 3
        else:
            with pytest.raises(InputError, match=rf"^task\.max_length={length}: a length of "):
                made.encode(rows, tokenizer_of(architecture))


# Blocks


def test_parts_are_as_few_and_as_equal_as_possible() -> None:
    for number, most in itertools.product(range(40), (1, 3, 7, 50)):
        parts = split_evenly(list(range(number)), most)
        assert [*itertools.chain(*parts)] == list(range(number))
        assert len(parts) == max(-(-number // most), 1)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("architecture", sorted(DECODERS))
def test_blocks_hold_all_tokens_of_all_texts_and_an_end_after_each(architecture: str) -> None:
    tokenizer = tokenizer_of(architecture)
    start, end = text_generation.find_ends(tokenizer)
    rows = canonical(TEXTS)
    blocks = CAUSAL.training_rows(rows, CAUSAL.encode(rows, tokenizer), tokenizer)
    assert blocks["labels"] == blocks["input_ids"]
    stream = [*itertools.chain(*blocks["input_ids"])]
    before = [] if start == end else [start]
    expected = [] if before else [end]
    for ids in tokenize(TEXTS, tokenizer):
        expected += [*before, *ids, end]
    assert stream == expected
    lengths = [len(block) for block in blocks["input_ids"]]
    assert max(lengths) <= LENGTH
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("architecture", [*ENCODERS, *sorted(DECODERS)])
def test_a_batch_of_training_is_text(architecture: str) -> None:
    """At least 0.95 of its tokens are no padding; of rows as they are measured it is less."""
    task = CAUSAL if architecture in DECODERS else MASKED
    tokenizer = tokenizer_of(architecture)
    texts = [" ".join(text.split()[: 1 + n % 7]) for n, (text, _) in enumerate(make_rows(60))]
    rows = canonical(texts)
    encoded = task.encode(rows, tokenizer)
    blocks = task.training_rows(rows, encoded, tokenizer)
    collate = task.build_collator(tokenizer, None)

    def least_share(found: Any) -> float:
        found = [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in found]
        batches = [collate(found[start : start + 8]) for start in range(0, len(found), 8)]
        return min(float(batch["attention_mask"].float().mean()) for batch in batches)

    shares = [least_share([rows_of[i] for i in range(len(rows_of))])
              for rows_of in (blocks, encoded)]  # fmt: skip
    assert shares[0] >= 0.95 > shares[1]


@pytest.mark.parametrize("architecture", ENCODERS)
def test_masks_of_training_are_drawn_anew_in_each_epoch_and_the_same_again(
    architecture: str,
) -> None:
    tokenizer = tokenizer_of(architecture)
    rows = canonical(TEXTS)
    blocks = MASKED.training_rows(rows, rows, tokenizer)
    before, after = find_frame(tokenizer)
    inner = [id_ for block in blocks.blocks for id_ in block[1:-1]]
    texts = ([*ids, *after] for ids in tokenize(TEXTS, tokenizer))
    expected = [*itertools.chain(*texts)][: -len(after)]
    assert inner == expected
    assert all(block[:1] == before and block[-1:] == after for block in blocks.blocks)

    def draw(epoch: int, seed: int = 7) -> list[dict[str, list[int]]]:
        torch.manual_seed(seed)
        torch.rand(3)
        blocks.set_epoch(epoch)
        state = torch.get_rng_state()
        drawn = [blocks[index] for index in range(len(blocks))]
        assert torch.equal(torch.get_rng_state(), state)
        return drawn

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)
    assert draw(0) != draw(0, seed=8)
    special = {*tokenizer.all_special_ids}
    masked = total = 0
    for epoch in range(30):
        for block, row in zip(blocks.blocks, draw(epoch), strict=True):
            counted = [place for place, label in enumerate(row["labels"]) if label != -100]
            assert counted
            assert all(row["labels"][place] == block[place] for place in counted)
            assert not {block[place] for place in counted} & special
            masked += len(counted)
            total += sum(id_ not in special for id_ in block)
    assert masked / total == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize(
    "order",
    [
        pytest.param("group_by_length", marks=pytest.mark.slow),
        "random",
        pytest.param("sequential", marks=pytest.mark.slow),
    ],
)
def test_a_resumed_training_reads_the_same_masks(order: str, saved: Any, tmp_path: Path) -> None:
    tokenizer = tokenizer_of("bert")
    rows = canonical(TEXTS * 3)
    encoded = MASKED.encode(rows, tokenizer)
    blocks = MASKED.training_rows(rows, encoded, tokenizer).blocks
    few = Split(rows, encoded)
    steps = -(-len(blocks) // 2)
    step = steps + 1

    def train(**resume: Any) -> list[dict[str, Any]]:
        read = []

        class Recording(MaskedAnew):
            def __getitem__(self, index: int) -> dict[str, Any]:
                read.append(super().__getitem__(index))
                return read[-1]

        torch.manual_seed(7)
        model = loader(saved("bert"))(AutoModelForMaskedLM)
        recording = Recording(blocks, tokenizer, share=0.3)
        trainer = MeasuringTrainer(
            task=MASKED,
            splits={"train": few, "validation": few},
            model=model,
            processing_class=tokenizer,
            args=TrainingArguments(
                output_dir=str(tmp_path), num_train_epochs=3, per_device_train_batch_size=2,
                save_strategy="steps", save_steps=step, eval_strategy="no", report_to="none",
                disable_tqdm=True, use_cpu=True, train_sampling_strategy=order,
            ),
            train_dataset=recording,
            data_collator=MASKED.build_collator(tokenizer, model),
        )  # fmt: skip
        # Sampling by length looks at every row.
        read.clear()
        trainer.get_train_dataloader()
        looked = len(read)
        read.clear()
        trainer.train(**resume)
        return read[looked:]

    whole = train()
    assert len(whole) == 3 * len(blocks)
    assert len({tuple(row["input_ids"]) for row in whole}) > len(blocks)
    resumed = train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert 0 < step % steps < steps
    assert resumed == whole[len(blocks) + 2 :]


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


# Samples


def test_a_causal_model_continues_beginnings_as_it_does_one_by_one(saved: Any) -> None:
    for architecture in sorted(DECODERS):
        tokenizer = tokenizer_of(architecture)
        model = AutoModelForCausalLM.from_pretrained(saved(architecture)).eval()
        rows = canonical(TEXTS)
        samples = CAUSAL.sample(model, tokenizer, rows)
        assert list(samples) == ["row", "beginning", "continuation", "target"]
        assert list(samples["row"]) == [0, 1, 2]
        assert (
            samples["beginning"][1] + samples["target"][1]
            == tokenizer.decode(tokenize(TEXTS[1:2], tokenizer)[0])
            or architecture == "llama"
        )
        start, _ = text_generation.find_ends(tokenizer)
        for row, ids in enumerate(tokenize(TEXTS[:3], tokenizer)):
            prompt = [start, *ids[: (len(ids) + 1) // 2]][-(LENGTH - 4) :]
            found: list[int] = []
            with torch.inference_mode():
                while len(found) < 4:
                    ids_now = torch.tensor([[*prompt, *found]])
                    found.append(int(model(input_ids=ids_now).logits[0, -1].argmax()))
                    if found[-1] == tokenizer.eos_token_id:
                        break
            decoded = tokenizer.decode(found, skip_special_tokens=True)
            assert samples["continuation"][row] == decoded


def test_samples_of_a_masked_model_show_what_was_masked_and_what_is_put_there(saved: Any) -> None:
    tokenizer = tokenizer_of("bert")
    model = AutoModelForMaskedLM.from_pretrained(saved("bert")).eval()
    samples = MASKED.sample(model, tokenizer, canonical(TEXTS))
    assert list(samples) == ["row", "masked", "filled", "text"]
    assert list(samples["row"]) == [0, 1, 2]
    assert samples["masked"][0] == "[MASK]"
    assert samples["masked"][1].count("[MASK]") == 1
    assert "[MASK]" not in "".join(samples["filled"])


def test_no_samples_are_made_where_none_are_asked_for(saved: Any) -> None:
    none = CausalLM(max_length=16, num_samples=0, main_metric="perplexity", max_new_tokens=4)
    assert none.sample(None, tokenizer_of("gpt2"), canonical(TEXTS)) is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"max_length": 0}, "task.max_length=0: must be "),
        ({"num_samples": -1}, "task.num_samples=-1: must be a whole number of 1 or more, or 0"),
        ({"max_new_tokens": 0}, "task.max_new_tokens=0: must be "),
        ({"max_new_tokens": 16}, "task.max_new_tokens=16: must be less than task.max_length=16"),
        ({"mask_share": 0}, "task.mask_share=0: must be "),
        ({"mask_share": 1.0}, "task.mask_share=1.0: must be "),
        ({"mask_share": True}, "task.mask_share=True: must be "),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_used_is_refused(values: dict[str, Any], said: str) -> None:
    common = {"max_length": 16, "num_samples": 0, "main_metric": "perplexity"}
    kind = MaskedLM if "mask_share" in values else CausalLM
    own = {"mask_share": 0.1} if kind is MaskedLM else {"max_new_tokens": 4}
    with pytest.raises(InputError) as caught:
        kind(**{**common, **own, **values})
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


# Served


def texts_of_all_kinds() -> Iterator[str]:
    draw = random.Random(0)
    words = [word for text, _ in make_rows(30) for word in text.split()]
    yield from (" ".join(draw.choices(words, k=draw.randrange(1, 60))) for _ in range(12))


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bert", "roberta"])
def test_a_served_model_answers_the_same_whatever_the_batches(
    architecture: str, saved: Any
) -> None:
    folder, texts = saved(architecture), [*texts_of_all_kinds()]
    module = text_generation if architecture in DECODERS else fill_mask
    answers = [
        module.ServedModel(folder, folder, max_length=LENGTH, batch_tokens=size).answer(texts)
        for size in (1, 200, None)
    ]
    for one in answers[1:]:
        assert [a["prediction"] for a in one] == [a["prediction"] for a in answers[0]]
        assert [a["perplexity"] for a in one] == pytest.approx(
            [a["perplexity"] for a in answers[0]], rel=1e-4
        )


def test_a_text_without_a_token_has_no_answer(saved: Any) -> None:
    causal = text_generation.ServedModel(saved("gpt2"), saved("gpt2"), max_length=LENGTH)
    assert [answer is None for answer in causal.answer(["", "a day"])] == [True, False]
    assert causal.answer([]) == []
    masked = fill_mask.ServedModel(saved("bert"), saved("bert"), max_length=LENGTH)
    assert [answer is None for answer in masked.answer(["", "a day", "\u4e00"])] == [
        True, False, True,
    ]  # fmt: skip
    assert masked.answer([]) == []


def test_a_served_model_fills_the_masks_of_a_text_and_no_others(saved: Any) -> None:
    folder = saved("bert")
    served = fill_mask.ServedModel(folder, folder, max_length=64)
    text = "it was a [MASK] day and we saw the train"
    (answer,) = served.answer([text])
    encoded = served.tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        chosen = served.model(**encoded).logits[0].argmax(dim=-1)
    ids = encoded["input_ids"][0]
    filled = torch.where(ids == served.tokenizer.mask_token_id, chosen, ids)
    assert answer["prediction"] == served.tokenizer.decode(filled, skip_special_tokens=True)
    with pytest.raises(ValueError, match="no mask token"):
        fill_mask.ServedModel(folder, saved("gpt2"), max_length=64)
