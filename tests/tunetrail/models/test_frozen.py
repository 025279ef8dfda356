"""``method=frozen``: what is trained, and a frozen body that goes over each row once."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from architectures import ARCHITECTURES, ONE_STACK

from tunetrail.errors import InputError
from tunetrail.models import features
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import Loader
from tunetrail.models.methods.frozen import Frozen, find_layers
from tunetrail.models.tokenizers import load_tokenizer

TEXTS = ["a good day", "the worst", "we saw the cloud and the river today"]
HEADS = ("SequenceClassification", "TokenClassification")
NAMES = ["a", "b", "c"]
HEAD_ALONE = Frozen("frozen", num_layers_trained=0, cache_gb=1)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Checkpoint]:
    folder = tmp_path_factory.mktemp("checkpoints")

    def make(name: str) -> Checkpoint:
        return Checkpoint(str(ARCHITECTURES[name].save(folder / name)), origin="a test")

    return lru_cache(make)


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> features._Memory:
    """An empty memory."""
    memory = features._Memory()
    monkeypatch.setattr(features, "_memory", memory)
    return memory


def load(checkpoint: Checkpoint, head: str = HEADS[0]) -> tuple[Any, set[str]]:
    torch.manual_seed(0)
    loader = Loader(checkpoint)
    auto = getattr(transformers, f"AutoModelFor{head}")
    pad = load_tokenizer(checkpoint).pad_token_id
    return loader(auto, label_names=NAMES, pad_token_id=pad), loader.new


def encode(checkpoint: Checkpoint, texts: list[str], *, side: str = "right") -> Any:
    tokenizer = load_tokenizer(checkpoint)
    tokenizer.padding_side = side
    return tokenizer(texts, padding=True, return_tensors="pt")


def trained(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def body_of(model: Any, batch: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.base_model(**batch).last_hidden_state


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ONE_STACK)
def test_a_remembered_body_gives_what_it_gives_without(
    checkpoints: Callable[[str], Checkpoint], name: str, head: str
) -> None:
    checkpoint = checkpoints(name)
    plain, _ = load(checkpoint, head)
    model, _ = load(checkpoint, head)
    model = HEAD_ALONE.prepare(model)
    batch = encode(checkpoint, TEXTS)
    mask = batch["attention_mask"].bool()
    labels = torch.tensor([0, 1, 2])
    if head == HEADS[1]:
        labels = torch.where(mask, 1, -100)
    with torch.no_grad():
        expected = plain.eval()(**batch, labels=labels)
        for _ in range(2):
            found = model.eval()(**batch, labels=labels)
            torch.testing.assert_close(found.loss, expected.loss, rtol=1e-4, atol=1e-5)
            logits = (found.logits, expected.logits)
            if head == HEADS[1]:
                logits = tuple(each[mask] for each in logits)
            torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-5)
    loss = model.train()(**batch, labels=labels).loss
    loss.backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == trained(model)


@pytest.mark.parametrize("name", ONE_STACK)
def test_a_row_is_the_same_bits_in_every_batch_in_either_mode(
    checkpoints: Callable[[str], Checkpoint], name: str, memory: features._Memory
) -> None:
    checkpoint = checkpoints(name)
    model = HEAD_ALONE.prepare(load(checkpoint)[0])
    alone = body_of(model.train(), encode(checkpoint, TEXTS[:1]))
    memory.of_bodies.clear()
    for side in ("left", "right"):
        batch = encode(checkpoint, TEXTS[::-1], side=side)
        found = body_of(model.eval(), batch)[-1]
        assert torch.equal(found[batch["attention_mask"][-1].bool()], alone[0])


def test_a_row_goes_through_the_body_once_for_all_models_of_a_process(
    checkpoints: Callable[[str], Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = transformers.BertModel.forward

    def watch(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(len(kwargs["input_ids"]))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(transformers.BertModel, "forward", watch)
    checkpoint = checkpoints("bert")
    for texts in (TEXTS, TEXTS[:2], [*TEXTS, "another day"]):
        model = HEAD_ALONE.prepare(load(checkpoint, HEADS[1])[0])
        batch = encode(checkpoint, texts)
        for _ in range(2):
            model(**batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert model.base_model(**batch).last_hidden_state.dtype == torch.float32
    assert seen == [1, 1, 1, 1]
    # other weights are another body, and so are other inputs of a row
    with torch.no_grad():
        model.base_model.embeddings.word_embeddings.weight.mul_(2)
    model = HEAD_ALONE.prepare(HEAD_ALONE.finish(model))
    model(**batch)
    assert len(seen) == 8
    batch["token_type_ids"] = torch.ones_like(batch["input_ids"])
    model(**batch)
    assert len(seen) == 12


def test_inputs_that_are_no_padded_rows_go_through_the_body_as_they_are(
    checkpoints: Callable[[str], Checkpoint], memory: features._Memory
) -> None:
    checkpoint = checkpoints("bert")
    plain, _ = load(checkpoint)
    model = HEAD_ALONE.prepare(load(checkpoint)[0])
    batch = encode(checkpoint, TEXTS)
    gap = batch["attention_mask"].clone()
    gap[2, 1] = 0
    embedded = plain.get_input_embeddings()(batch["input_ids"]).detach()
    for inputs in (
        {**batch, "attention_mask": gap},
        {"inputs_embeds": embedded, "attention_mask": batch["attention_mask"]},
        {**batch, "output_hidden_states": True},
    ):
        with torch.no_grad():
            expected, found = plain.eval()(**inputs), model.eval()(**inputs)
        assert torch.equal(found.logits, expected.logits)
        assert (found.hidden_states is None) == (expected.hidden_states is None)
    assert not any(memory.of_bodies.values())


def test_the_memory_is_bounded_and_other_bodies_are_forgotten_first(
    checkpoints: Callable[[str], Checkpoint], memory: features._Memory
) -> None:
    checkpoint, other = checkpoints("bert"), checkpoints("distilbert")
    batch = encode(checkpoint, TEXTS)
    whole = HEAD_ALONE.prepare(load(checkpoint)[0])
    expected = body_of(whole, batch)
    size = memory.num_bytes
    assert size == sum(
        tensor.nbytes
        for rows in memory.of_bodies.values()
        for row in rows.values()
        for tensor in row.values()
    )
    assert size > 0
    small = Frozen("frozen", num_layers_trained=0, cache_gb=size * 1.1 / 1e9)
    body_of(small.prepare(load(other)[0]), encode(other, TEXTS))
    assert memory.num_bytes <= size * 1.1
    assert len(memory.of_bodies) == 1
    none = Frozen("frozen", num_layers_trained=0, cache_gb=0)
    model = none.prepare(load(checkpoint)[0])
    for _ in range(2):
        assert torch.equal(body_of(model, batch), expected)
    assert memory.num_bytes == 0


@pytest.mark.parametrize("name", ONE_STACK)
def test_the_last_layers_are_trained_where_that_is_asked_for(
    checkpoints: Callable[[str], Checkpoint], name: str
) -> None:
    model, _ = load(checkpoints(name))
    head = trained(model) - {
        f"{model.base_model_prefix}.{n}" for n, _ in model.base_model.named_parameters()
    }
    assert trained(HEAD_ALONE.prepare(model)) == head
    model = HEAD_ALONE.finish(model)
    model = Frozen("frozen", num_layers_trained=1, cache_gb=1).prepare(model)
    layers = find_layers(model.base_model)
    assert len(layers) == model.config.num_hidden_layers == 2
    last = {id(parameter) for parameter in layers[-1].parameters()}
    assert len(trained(model) - head) == len(last)
    assert {id(p) for p in model.base_model.parameters() if p.requires_grad} == last
    assert "forward" not in vars(model.base_model)
    with pytest.raises(InputError) as caught:
        Frozen("frozen", num_layers_trained=3, cache_gb=1).prepare(model)
    message = str(caught.value)
    assert message.startswith("method.num_layers_trained=3: ")
    assert "has 2 layers; give 0 to 2" in message


def test_what_is_new_in_the_body_is_trained_without_dropout(
    checkpoints: Callable[[str], Checkpoint], memory: features._Memory
) -> None:
    """A masked language model has no pooler: the one that the classifier gets is drawn."""
    checkpoint = checkpoints("bert")
    model, new = load(checkpoint)
    assert "bert.pooler.dense.weight" in new
    model = HEAD_ALONE.prepare(model, new=new)
    assert trained(model) == new
    batch = encode(checkpoint, TEXTS)
    first, second = (model.train().base_model(**batch).pooler_output for _ in range(2))
    assert torch.equal(first, second)
    assert first.requires_grad
    assert not memory.of_bodies
    assert "forward" not in vars(HEAD_ALONE.finish(model).base_model)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num_layers_trained": -1}, "method.num_layers_trained=-1: must be a whole number"),
        ({"num_layers_trained": 0.5}, "method.num_layers_trained=0.5: must be a whole number"),
        ({"num_layers_trained": True}, "method.num_layers_trained=True: must be a whole number"),
        ({"cache_gb": -1}, "method.cache_gb=-1: must be a number of 0 or more"),
        ({"cache_gb": "much"}, "method.cache_gb=much: must be a number of 0 or more"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        Frozen("frozen", **{"num_layers_trained": 0, "cache_gb": 1, **values})
    assert str(caught.value).startswith(said)


def test_a_model_that_is_all_body_is_refused() -> None:
    body = transformers.GPT2Model(
        transformers.GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=50)
    )
    with pytest.raises(InputError, match="method=frozen: GPT2Model has no head"):
        HEAD_ALONE.prepare(body)


def test_a_checkpoint_of_the_remembered_model_is_that_of_a_plain_one(
    checkpoints: Callable[[str], Checkpoint], tmp_path: Path
) -> None:
    model = HEAD_ALONE.prepare(load(checkpoints("bert"))[0])
    model.save_pretrained(tmp_path)
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    expected = model.state_dict()
    assert list(again.state_dict()) == list(expected)
    assert all(torch.equal(expected[n], tensor) for n, tensor in again.state_dict().items())
