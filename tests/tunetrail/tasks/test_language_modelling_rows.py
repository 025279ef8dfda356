"""What language models read: texts as rows, in windows to be measured, in blocks to be trained."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import DECODERS
from datasets import Dataset, DatasetDict, Value
from language_models import CAUSAL, ENCODERS, LENGTH, MASKED, TEXTS, canonical, loader, tokenizer_of
from toys import make_rows
from transformers import AutoModelForMaskedLM, TrainingArguments

from tunetrail.data.prepare import load_splits, prepare_data
from tunetrail.errors import InputError
from tunetrail.served import fill_mask, text_generation
from tunetrail.served.language import find_frame, split_evenly, tokenize
from tunetrail.tasks.causal_lm import CausalLM
from tunetrail.tasks.masked_lm import MaskedAnew, MaskedLM
from tunetrail.training.tokens import Split
from tunetrail.training.trainer import MeasuringTrainer

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
