"""In-context learning: a cached prompt scores as whole passes do, and bad input is refused."""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES, DECODERS, MAX_LENGTH, NO_TAGGER
from mlflow.tracking import MlflowClient
from toys import run_here, tiny_overrides
from transformers import AutoModelForCausalLM, AutoTokenizer, MistralConfig, MistralForCausalLM

from tunetrail.errors import InputError
from tunetrail.models.methods.base import Examples
from tunetrail.models.methods.in_context import InContext
from tunetrail.served.in_context_classification import Prompt, PromptedClassifier

NAMES = ["bad", "good good table", "train"]
TEXTS = ["the day was sad", "we saw a happy river", "bad", "it was and then love best", ""]
EXAMPLES = ["awful hate", "great love today", "paper cloud"]


def method(**values: Any) -> InContext:
    given = {
        "name": "in_context",
        "instruction": "day: {labels}. ",
        "template": "it {text} was: {label}, ",
        "verbalizers": None,
        "normalisation": "sum",
        "blanks": ["table", ""],
    }
    return InContext(**(given | values))


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Any, Any]]:
    """A model and its tokenizer by the name of the architecture."""
    folder = tmp_path_factory.mktemp("decoders")
    known = {**ARCHITECTURES, "opt": NO_TAGGER}

    @lru_cache
    def make(name: str) -> Path:
        return known[name].save(folder / name)

    def read(name: str, **options: Any) -> tuple[Any, Any]:
        path = make("llama" if name == "mistral" else name)
        tokenizer = AutoTokenizer.from_pretrained(path)
        if name == "mistral":
            torch.manual_seed(0)
            config = MistralConfig(
                vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, head_dim=16,
                num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                sliding_window=7, max_position_embeddings=MAX_LENGTH, **options,
            )  # fmt: skip
            model: Any = MistralForCausalLM(config)
        else:
            model = AutoModelForCausalLM.from_pretrained(path, **options)
        with torch.no_grad():  # so that what is far away in a text matters, too
            for parameter in model.parameters():
                parameter.mul_(6 if parameter.dim() > 1 else 1)
        return model, tokenizer

    return read


def build(tokenizer: Any, examples: list[str] = EXAMPLES, **values: Any) -> Prompt:
    texts = [tokenizer(text)["input_ids"] for text in examples]
    shown = Examples(texts, [index % len(NAMES) for index in range(len(texts))], 0)
    return method(**values).build_prompt(tokenizer, NAMES, shown, limit=MAX_LENGTH)


def score_naively(model: Any, before: list[int], label: list[int]) -> float:
    """A forward pass over all tokens for each text and label: the sum of log-probabilities."""
    ids = torch.tensor([[*before, *label]])
    with torch.no_grad():
        logs = model(input_ids=ids).logits[0].log_softmax(dim=-1)
    places = range(len(before) - 1, len(before) - 1 + len(label))
    return float(sum(logs[place, token] for place, token in zip(places, label, strict=True)))


def naive_sums(model: Any, tokenizer: Any, prompt: Prompt, texts: list[str]) -> torch.Tensor:
    head, tail = prompt.frame
    rows = []
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        before = [*prompt.prefix, *ids[head : len(ids) - tail], *prompt.middle]
        rows.append([score_naively(model, before, label) for label in prompt.labels])
    return torch.tensor(rows)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", [*sorted(DECODERS), "opt", "mistral"])
def test_a_cached_prompt_scores_as_whole_forward_passes_do(
    load: Callable[..., tuple[Any, Any]], name: str, attention: str
) -> None:
    """Labels have unequal numbers of tokens; Mistral's window is shorter than the prompt."""
    model, tokenizer = load(name, attn_implementation=attention)
    prompt = build(tokenizer)
    assert len({len(label) for label in prompt.labels}) > 1
    assert len(prompt.prefix) > 12
    texts = [tokenizer(text)["input_ids"] for text in TEXTS]
    found = PromptedClassifier(model, prompt).score(texts)
    expected = naive_sums(model, tokenizer, prompt, TEXTS)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    assert float((expected - expected[0]).abs().max()) > 0.1


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", sorted(DECODERS))
def test_padding_of_a_batch_changes_nothing(
    load: Callable[..., tuple[Any, Any]], name: str, side: str
) -> None:
    model, tokenizer = load(name)
    tokenizer.padding_side = side
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    batch = tokenizer(TEXTS[:4], padding=True, return_tensors="pt")
    prompt = build(tokenizer)
    outputs = PromptedClassifier(model, prompt)(
        batch["input_ids"], batch["attention_mask"], labels=torch.tensor([0, 1, 2, 0])
    )
    expected = naive_sums(model, tokenizer, prompt, TEXTS[:4])
    torch.testing.assert_close(outputs["logits"], expected, rtol=1e-5, atol=1e-4)
    loss = torch.nn.functional.cross_entropy(expected, torch.tensor([0, 1, 2, 0]))
    torch.testing.assert_close(outputs["loss"], loss, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("examples", [[], EXAMPLES], ids=["zero-shot", "examples"])
def test_scores_are_normalised_as_the_papers_say(
    load: Callable[..., tuple[Any, Any]], examples: list[str]
) -> None:
    model, tokenizer = load("gpt2")

    def score(normalisation: str) -> torch.Tensor:
        prompt = build(tokenizer, examples, normalisation=normalisation)
        texts = [tokenizer(text)["input_ids"] for text in TEXTS]
        return PromptedClassifier(model, prompt).score(texts)

    prompt = build(tokenizer, examples)
    sums = naive_sums(model, tokenizer, prompt, TEXTS)
    lengths = torch.tensor([len(label) for label in prompt.labels])
    alone = torch.tensor([score_naively(model, prompt.middle, ids) for ids in prompt.labels])
    blank = naive_sums(model, tokenizer, prompt, ["table", ""]).softmax(dim=-1).mean(dim=0)
    close = {"rtol": 1e-5, "atol": 1e-4}
    torch.testing.assert_close(score("mean"), sums / lengths, **close)
    torch.testing.assert_close(score("pmi"), sums - alone, **close)
    torch.testing.assert_close(score("calibrated"), sums - blank.log(), **close)


def test_texts_in_small_batches_score_the_same(
    load: Callable[..., tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = load("llama")
    texts = [tokenizer(text)["input_ids"] for text in TEXTS * 3]
    expected = PromptedClassifier(model, build(tokenizer)).score(texts)
    monkeypatch.setattr("tunetrail.served.in_context_classification._CACHE_TOKENS", 1)
    found = PromptedClassifier(model, build(tokenizer)).score(texts)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_prompt_is_read_once(load: Callable[..., tuple[Any, Any]]) -> None:
    model, tokenizer = load("gpt2")
    read: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(
        lambda _, __, kwargs: read.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    prompt = build(tokenizer)
    classifier = PromptedClassifier(model, prompt)
    for text in TEXTS:
        classifier.score([tokenizer(text)["input_ids"]])
    assert read.count((1, len(prompt.prefix))) == 1
    assert all(width < len(prompt.prefix) for _, width in read[1:])


def test_a_prompt_reads_as_its_template_says(load: Callable[..., tuple[Any, Any]]) -> None:
    _, tokenizer = load("gpt2")
    words = {"bad": "awful", "train": "the train"}
    prompt = build(tokenizer, EXAMPLES[:2], verbalizers=words)
    assert tokenizer.decode(prompt.prefix) == (
        "day: awful, good good table, the train. it awful hate was: awful, it great love today was:"
        " good good table, it "
    )
    assert tokenizer.decode(prompt.middle) == " was:"
    assert [tokenizer.decode(ids) for ids in prompt.labels] == [
        " awful", " good good table", " the train",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"normalisation": "max"}, "method.normalisation=max: must be one of sum, mean, pmi, cal"),
        ({"template": "{label} {text}"}, "method.template='{label} {text}': must hold {text} once"),
        ({"template": "{text}{label}"}, "method.template='{text}{label}': must hold {text} once"),
        ({"verbalizers": {"bad": " "}}, "method.verbalizers.bad=' ': must be one word or more"),
        ({"normalisation": "calibrated", "blanks": []}, "method.blanks=[]: method.normalisation=c"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        method(**values)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"worse": "sad"}, "method.verbalizers.worse: there is no such label (found: bad, good go"),
        ({"bad": "train"}, "method.verbalizers: two labels are 'train'"),
        ({"bad": "good"}, "method.verbalizers: the tokens of 'good' are those with which 'good go"),
    ],
)
def test_words_that_cannot_be_told_apart_are_refused(
    load: Callable[..., tuple[Any, Any]], words: dict[str, str], message: str
) -> None:
    _, tokenizer = load("gpt2")
    with pytest.raises(InputError) as caught:
        build(tokenizer, verbalizers=words)
    assert str(caught.value).startswith(message)


PROMPT = ("method.instruction=''", "method.template='{text} = {label} '", "task.max_length=16")


@pytest.fixture
def answer_in_context(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, load: Callable[..., Any]
) -> Callable[..., str]:
    """A run of the method on a tiny decoder; returns the message of a run that is refused."""
    path = Path(load("llama")[1].name_or_path)

    def run(*overrides: str, mode: str = "--run") -> str:
        given = [*tiny_overrides(path), "method=in_context", *PROMPT, *overrides]
        try:
            run_here(monkeypatch, mode, *given)
        except SystemExit as error:
            return str(error.code).removeprefix("error: ")
        return ""

    return run


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.per_label=8"], "data.per_label: a prompt of 24 examples (8 of a label) has "),
        ([], "data.per_label: a prompt of 60 examples (20 of a label) has "),
        (["data.per_label=21"], "data.per_label=21: train has 20 rows of 'negative'; ask for few"),
        (["data.per_label=-1"], "data.per_label=-1: must be a whole number of 0 or more, or null"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    answer_in_context: Callable[..., str], overrides: list[str], message: str
) -> None:
    found = answer_in_context(*overrides)
    assert found.startswith(message)
    assert "\n" not in found


def test_a_search_over_what_only_training_reads_is_refused(
    answer_in_context: Callable[..., str],
) -> None:
    said = answer_in_context("trainer.learning_rate=1e-3,1e-2", mode="--multirun")
    assert said.startswith("trainer.learning_rate: method=in_context trains nothing")


@pytest.mark.slow
def test_a_study_over_examples_has_a_curve_and_a_zero_shot_run(
    answer_in_context: Callable[..., str], workspace: Path
) -> None:
    """Zero-shot is the same for every seed; each seed draws other examples."""
    assert not answer_in_context(
        "experiment=in_context", "data.per_label=0,1", "sweep.num_seeds=2", "study=s",
        "data.num_validation=null", mode="--multirun",
    )  # fmt: skip
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tunetrail")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.info.run_name == "s"]
    figures = Path(parent.info.artifact_uri.removeprefix("file://")) / "figures"
    drawn = {path.name for path in figures.iterdir()}
    assert drawn == {"over_per_label.png", "study.html"}
    by_k: dict[str, list[Any]] = {}
    for run in runs:
        if run is not parent:
            by_k.setdefault(run.data.params["data.per_label"], []).append(run)
    assert {k: len(found) for k, found in by_k.items()} == {"0": 2, "1": 2}
    losses = {k: {r.data.metrics["validation/loss"] for r in found} for k, found in by_k.items()}
    assert {k: len(found) for k, found in losses.items()} == {"0": 1, "1": 2}
    for run in by_k["0"] + by_k["1"]:
        assert run.data.metrics["model/trainable_parameters"] == 0
        assert run.data.tags["tunetrail.verdict"] in (
            "no better than the baseline", "better than the baseline",
        )  # fmt: skip


@pytest.mark.slow
def test_a_model_that_is_tuned_from_one_with_a_prompt_has_none(
    answer_in_context: Callable[..., str], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def logged_config() -> dict[str, Any]:
        newest = max(
            Path("mlruns").rglob("model/config.json"), key=lambda path: path.stat().st_mtime
        )
        found: dict[str, Any] = json.loads(newest.read_text())
        return found

    assert not answer_in_context("data.per_label=1")
    assert "in_context" in logged_config()
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tunetrail")
    (run,) = client.search_runs([experiment.experiment_id])
    tiny = [given for given in tiny_overrides(workspace) if not given.startswith("model")]
    run_here(monkeypatch, *tiny, "model=run", f"model.run_id={run.info.run_id}")
    assert "in_context" not in logged_config()
