"""What language models write: samples of a run, and what a served model answers."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from architectures import DECODERS
from language_models import CAUSAL, LENGTH, MASKED, TEXTS, canonical, tokenizer_of
from toys import make_rows
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from tunetrail.served import fill_mask, text_generation
from tunetrail.served.language import tokenize
from tunetrail.tasks.causal_lm import CausalLM

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
