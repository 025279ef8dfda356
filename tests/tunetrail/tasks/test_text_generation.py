"""What text generation does by itself: templates, labels, lengths, scores, and its answers."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest
import sacrebleu
import torch
from architectures import ARCHITECTURES
from datasets import Dataset, DatasetDict
from language_models import tokenizer_of
from toys import make_pairs

from tunetrail.errors import InputError
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import Loader
from tunetrail.served.text2text_generation import (
    CHAT,
    encode_prompts,
    generate,
    read_turns,
    write_turns,
)
from tunetrail.tasks.metrics.generation import generation
from tunetrail.tasks.text_generation import TextGeneration

PLAIN = TextGeneration(
    template="{prompt}: ", chat_template=None, max_length=48, too_long="error", max_new_tokens=6,
    num_generated=None, num_samples=2, main_metric="rougeL",
)  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}-{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
TALK = replace(PLAIN, template=CHAT, chat_template=TEMPLATE, max_length=64)
COLUMNS = {name: name for name in TextGeneration.columns}


def pairs(rows: list[tuple[str, str]], task: TextGeneration = PLAIN) -> Dataset:
    names = ("prompt", "completion")
    part = Dataset.from_dict(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    return task.canonicalise(DatasetDict(train=part), COLUMNS, label_names=None)["train"]


def talks(*conversations: Any, task: TextGeneration = TALK) -> Dataset:
    part = Dataset.from_dict({"messages": list(conversations)})
    return task.canonicalise(DatasetDict(train=part), COLUMNS, label_names=None)["train"]


def turns(*contents: str, roles: str = "ua") -> list[dict[str, str]]:
    names = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": names[roles[i % len(roles)]], "content": c} for i, c in enumerate(contents)]


def learnt(row: dict[str, list[int]]) -> list[int]:
    return [label for label in row["labels"] if label != -100]


# Rows


def test_prompt_and_completion_are_text_and_target() -> None:
    rows = pairs([("a good day", "positive"), ("a bad one", " ")])
    assert rows["text"][:] == ["a good day", "a bad one"]
    assert rows["target"][:] == ["positive", None]


@pytest.mark.parametrize(
    ("conversation", "cause"),
    [
        (None, "no list of messages"),
        ([{"role": "user", "content": "\u200b"}], "message 1 has no text"),
        ([], "no message"),
        ([{"role": "bot", "content": "a"}], "message 1 has the role 'bot'"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}],
         "message 2 has no text in 'content'"),
        (turns("a", roles="a"), "nothing stands before"),
    ],
)  # fmt: skip
def test_a_conversation_that_cannot_be_read_is_named_by_its_row(
    conversation: Any, cause: str
) -> None:
    with pytest.raises(
        InputError, match=rf"^data\.columns\.messages=messages: train row 1 .*{cause}"
    ):
        talks(turns("a", "b"), conversation)


def test_columns_that_are_no_conversations_or_both_kinds_are_refused() -> None:
    part = Dataset.from_dict({"messages": ["a text"], "prompt": ["a"], "completion": ["b"]})
    rows = DatasetDict(train=part)
    with pytest.raises(InputError, match=r"set data\.columns\.messages=null, or"):
        TALK.canonicalise(rows, COLUMNS, label_names=None)
    with pytest.raises(InputError, match='no list of messages but "a text"'):
        TALK.canonicalise(rows, {**COLUMNS, "prompt": "none"}, label_names=None)
    with pytest.raises(InputError, match=r"set task\.template=chat$"):
        PLAIN.canonicalise(rows, {**COLUMNS, "prompt": "none"}, label_names=None)
    named = {**COLUMNS, "messages": None}
    assert len(PLAIN.canonicalise(rows, named, label_names=None)["train"]) == 1
    with pytest.raises(InputError, match=r"^no column 'prompt' in train .*data\.columns\.prompt"):
        PLAIN.canonicalise(
            DatasetDict(train=part.select_columns("completion")), COLUMNS, label_names=None
        )


def test_what_stands_before_an_answer_is_one_text_that_can_be_read_back() -> None:
    for conversation in (
        turns("hello"),
        turns("hi", "ho", "he"),
        turns("be kind", "hi", roles="su"),
    ):
        assert read_turns(write_turns(conversation)) == conversation
    odd = turns(write_turns(turns("hi", "ho", "he")))
    assert read_turns(write_turns(odd)) == odd
    assert talks(turns("hello", "day"))["text"][:] == ["hello"]
    rows = talks(turns("hello"), turns("hi", "ho", "he", "ha"))
    assert rows["target"][:] == [None, "ha"]


# Inputs of a model


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "t5", "bart"])
def test_only_the_completion_has_labels_and_it_ends(architecture: str) -> None:
    tokenizer = tokenizer_of(architecture)
    rows = pairs([("good day", "a river"), ("it was", "sad")])
    encoded = PLAIN.encode(rows, tokenizer)
    for row, prompt in zip(
        encoded, encode_prompts(rows["text"][:], tokenizer, template=PLAIN.template), strict=True
    ):
        assert row["input_ids"] == [*prompt, *learnt(row)]
        assert row["labels"] == [-100] * len(prompt) + learnt(row)
        assert learnt(row)[-1] == tokenizer.eos_token_id
        target = rows["target"][row["index"]]
        assert tokenizer.decode(learnt(row), skip_special_tokens=True).strip() == target


def test_of_a_conversation_all_that_the_assistant_says_is_learnt() -> None:
    tokenizer = tokenizer_of("llama")
    rows = talks(turns("be kind", "good day", "a river", "it was", "sad", roles="suaua"))
    (row,) = TALK.encode(rows, tokenizer)
    end = tokenizer.eos_token
    assert tokenizer.decode(learnt(row)).replace(" ", "") == f"ariver{end}sad{end}"
    (prompt,) = encode_prompts(rows["text"][:], tokenizer, template=CHAT)
    assert row["input_ids"][: len(prompt)] == prompt
    # What the template writes after the end of a turn is not learnt, and not there at the end.
    assert row["input_ids"][-1] == tokenizer.eos_token_id


def test_a_template_that_changes_earlier_turns_or_raises_is_refused_with_the_row() -> None:
    changing = "{% for m in messages %}{{ loop.length }}{{ m.content }}{% endfor %}"
    raising = "{{ raise_exception('no system here') }}"
    for template, cause in (
        (changing, "otherwise once an answer follows"),
        (raising, "no system here"),
    ):
        task = replace(TALK, chat_template=template)
        with pytest.raises(InputError, match=rf"^row 0 .*{cause}.*set task\.chat_template$"):
            task.encode(talks(turns("hello", "day"), task=task), ARCHITECTURES["llama"].tokenizer())


def test_a_model_without_a_chat_template_is_refused_with_the_option() -> None:
    task = replace(TALK, chat_template=None)
    with pytest.raises(InputError, match=r"has no chat template; set task\.chat_template, or"):
        task.encode(pairs([("a", "b")], task), ARCHITECTURES["gpt2"].tokenizer())


def test_rows_longer_than_the_model_reads_are_refused_or_left_out_never_cut() -> None:
    tokenizer = tokenizer_of("llama")
    rows = pairs([("good day", "a river"), ("it was " * 20, "sad"), ("it was", "sad " * 60)])
    with pytest.raises(InputError, match=r"^2 rows of 3 .*row 1 .*set task\.too_long=drop$"):
        PLAIN.encode(rows, tokenizer)
    kept = replace(PLAIN, too_long="drop").encode(rows, tokenizer)
    assert kept["index"] == [0]
    with pytest.raises(InputError, match=r"^all 1 rows are longer"):
        replace(PLAIN, too_long="drop").encode(rows.select([1]), tokenizer)
    with pytest.raises(InputError, match=r"^task\.max_new_tokens=48: .*set fewer$"):
        replace(PLAIN, max_new_tokens=48).encode(rows, tokenizer)


@pytest.mark.parametrize(
    ("setting", "cause"),
    [
        ({"template": "no place"}, r"must hold \{prompt\}"),
        ({"num_generated": 3}, "must be 10 or more"),
        ({"too_long": "cut"}, "must be error or drop"),
        ({"chat_template": "x"}, r"is used with task\.template=chat alone"),
        ({"max_new_tokens": 0}, "must be a whole number"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(setting: dict[str, Any], cause: str) -> None:
    with pytest.raises(InputError, match=rf"^task\.{next(iter(setting))}.*{cause}"):
        replace(PLAIN, **setting)


# What models make of them


@pytest.mark.parametrize("architecture", ["llama", "t5", "bart"])
def test_loss_and_generated_texts_are_those_of_each_row_alone(
    saved: Any, architecture: str
) -> None:
    tokenizer = tokenizer_of(architecture)
    rows = pairs([("good", "a river"), ("it was a day", "sad"), ("we saw", "table and train")])
    encoded = PLAIN.encode(rows, tokenizer)
    load = Loader(Checkpoint(str(saved(architecture)), origin="a test"))
    model = PLAIN.load_model(load, tokenizer, rows).eval()
    collate = PLAIN.build_collator(tokenizer, model)
    features = list(encoded.remove_columns("index"))

    def measure(chosen: list[dict[str, Any]]) -> tuple[Any, Any]:
        batch = collate(chosen)
        with torch.inference_mode():
            outputs = model(**batch)
        return PLAIN.predict(model, batch, outputs).numpy(), float(outputs.loss)

    kept, _ = measure(features)
    for row, feature in zip(kept, features, strict=True):
        _, loss = measure([feature])
        # BART's tokenizer puts a token before a text: the model learns to write it.
        assert row[1] == len(learnt(feature)) + (architecture == "bart")
        assert row[0] / row[1] == pytest.approx(loss, rel=1e-4)

    completed = PLAIN.complete(model, tokenizer, rows, encoded, kept)
    prompts = encode_prompts(rows["text"][:], tokenizer, template=PLAIN.template)
    alone = [generate(model, tokenizer, [ids], max_new_tokens=6)[0] for ids in prompts]
    assert list(completed[:, 2]) == alone
    table = PLAIN.tabulate(rows, encoded, completed)
    assert list(PLAIN.answers(table)["generated_text"]) == alone
    assert list(PLAIN.sample(model, tokenizer, rows)["generated"]) == alone[:2]


def test_texts_are_generated_for_as_many_rows_as_asked_and_scores_are_theirs(saved: Any) -> None:
    task, tokenizer = replace(PLAIN, num_generated=10), tokenizer_of("llama")
    rows = pairs(make_pairs(30))
    encoded = task.encode(rows, tokenizer)
    model = task.load_model(Loader(Checkpoint(str(saved("llama")), origin="a")), tokenizer, rows)
    completed = task.complete(model.eval(), tokenizer, rows, encoded, np.ones((30, 2)))
    assert sum(text is not None for text in completed[:, 2]) == 10
    statistics = task.statistics(rows, encoded, completed)
    assert statistics.sum(axis=0)[:3].tolist() == [30, 30, 10]
    assert {*task.score(statistics.sum(axis=0))} == {*TextGeneration.metrics, "loss"}
    answered = task.tabulate(rows, encoded, completed).dropna(subset=["prediction"])
    assert answered["rougeL"].mean() == pytest.approx(
        task.score(statistics.sum(axis=0))["rougeL"], abs=1e-9
    )
    # Baselines are scored on the same rows.
    found = [*task.baselines(rows, rows)]
    assert {one.key for one in found} == {"copy", "commonest", "lead"}
    for one in found:
        assert (one.statistics[:, 2] == statistics[:, 2]).all()


# Scores

FOUND = ["the cat sat on a mat", "", "-1", "Größe 5 m.", "yes it is, of course it is"]
RIGHT = ["a cat is on the mat.", "something", "1", "Größe 5 m.", "yes, it is"]


def test_scores_are_those_of_the_libraries_whose_names_they_have() -> None:
    rows = generation.statistics(FOUND, RIGHT)
    # Only now: what it imports keeps sys.stderr, and closes it once logging is configured.
    from rouge_score.rouge_scorer import RougeScorer

    scores = generation.score(rows.sum(axis=0))
    assert scores["bleu"] == pytest.approx(sacrebleu.corpus_bleu(FOUND, [RIGHT]).score)
    assert scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(FOUND, [RIGHT]).score)
    names = ["rouge1", "rouge2", "rougeL"]
    rouge = [RougeScorer(names).score(r, f) for f, r in zip(FOUND, RIGHT, strict=True)]
    for name in names:
        assert scores[name] == pytest.approx(np.mean([one[name].fmeasure for one in rouge]))
    # SQuAD drops punctuation and articles: -1 is 1 there, and nowhere else.
    assert scores["exact_match"] == pytest.approx(2 / 5)
    assert scores["verbatim_match"] == pytest.approx(1 / 5)
    parts = [2 * 4 / 10 * 10 / 9, 0, 1, 1, 2 * 3 / 10]
    assert scores["f1"] == pytest.approx(generation.score(rows)["f1"].mean())
    assert generation.score(rows)["f1"][[1, 2, 3, 4]] == pytest.approx(parts[1:])
    loaded = evaluate.load(str(Path(generation.__file__).parent))
    assert loaded.compute(predictions=FOUND, references=RIGHT) == pytest.approx(
        {name: float(value) for name, value in scores.items()}
    )


@pytest.mark.slow
def test_scores_close_no_stream_once_logging_is_configured() -> None:
    code = (
        "import io, logging.config, sys\n"
        "real, sys.stderr = sys.stderr, io.StringIO()\n"
        "found = sys.stderr\n"
        "from tunetrail.tasks.metrics.generation import generation\n"
        "generation.statistics(['a'], ['a'])\n"
        "sys.stderr = real\n"
        "logging.config.dictConfig({'version': 1})\n"
        "assert not found.closed\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_scores_of_no_row_are_zero_and_many_sums_are_scored_at_once() -> None:
    rows = generation.statistics(FOUND, RIGHT)
    assert {float(value) for value in generation.score(np.zeros(rows.shape[1])).values()} == {0.0}
    assert generation.score(np.stack([rows, rows]))["chrf"].shape == (2, 5)
