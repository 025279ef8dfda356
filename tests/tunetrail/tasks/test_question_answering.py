"""Extractive question answering: rows, windows, spans, and what is served."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from architectures import ARCHITECTURES
from datasets import Dataset, DatasetDict
from mlflow.tracking import MlflowClient
from toys import make_questions
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tunetrail.__main__ import main
from tunetrail.data.columns import require_text
from tunetrail.data.sources import load_files
from tunetrail.data.splits import split_off
from tunetrail.errors import InputError
from tunetrail.served.question_answering import encode_windows, find_answer
from tunetrail.tasks.question_answering import QuestionAnswering

Train = Callable[..., Any]
COLUMNS = {role: role for role in QuestionAnswering.columns}
TASK = QuestionAnswering(max_length=32, max_answer_tokens=6, unanswerable=False, main_metric="f1")
SQUAD2 = QuestionAnswering(max_length=32, max_answer_tokens=6, unanswerable=True, main_metric="f1")
LONG = " ".join(f"we saw {place} today and the river" for place in ("a", "it", "was", "good") * 6)


def row(context: str, question: str, *answers: str) -> dict[str, Any]:
    starts = [context.index(answer) for answer in answers]
    found = {"text": list(answers), "answer_start": starts}
    return {"question": question, "context": context, "answers": found}


def canonical(rows: list[dict[str, Any]]) -> Dataset:
    read = DatasetDict({"train": Dataset.from_list(rows)})
    return TASK.canonicalise(read, COLUMNS, label_names=None)["train"]


@pytest.fixture(scope="module", params=["bert", "roberta", "deberta-v2", "modernbert", "gpt2"])
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> PreTrainedTokenizerBase:
    folder = ARCHITECTURES[request.param].save(tmp_path_factory.mktemp(request.param))
    return AutoTokenizer.from_pretrained(folder)


def test_nothing_of_a_context_is_cut_and_every_short_span_is_whole_somewhere(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    question = "we saw it"
    windows = encode_windows([question, "a day"], [LONG, "a day"], tokenizer, max_length=32)
    long = [window for window in windows if window["index"] == 0]
    assert len(long) > 3
    asked = tokenizer(question, add_special_tokens=False)["input_ids"]
    covered = [0] * len(LONG)
    for window in long:
        ids, offsets = window["input_ids"], window["offsets"]
        assert len(ids) == len(offsets) <= 32
        place = next(n for n in range(4) if ids[n : n + len(asked)] == asked)
        assert all(span == [-1, -1] for span in offsets[: place + len(asked)])
        for start, end in offsets:
            for character in range(start, end):
                covered[character] += 1
    assert all(count or LONG[n] == " " for n, count in enumerate(covered))
    starts = [n for n in range(len(LONG)) if n == 0 or LONG[n - 1] == " "]
    texts = [" ".join(LONG[start:].split()[:2]) for start in starts]
    everywhere = canonical(
        [
            {"question": question, "context": LONG,
             "answers": {"text": [text], "answer_start": [start]}}
            for start, text in zip(starts, texts, strict=True)
        ]
    )  # fmt: skip
    # It would be refused if an answer were in no window.
    assert {*TASK.encode(everywhere, tokenizer)["index"]} == {*range(len(starts))}
    spans = [row(LONG, question, "today and"), row(LONG, question, "good today")]
    encoded = TASK.encode(canonical(spans), tokenizer)
    for ids, offsets, first, last, index in zip(
        encoded["input_ids"], encoded["offsets"], encoded["start_positions"],
        encoded["end_positions"], encoded["index"], strict=True,
    ):  # fmt: skip
        assert len(ids) <= 32
        text = spans[index]["answers"]["text"][0]
        if last:
            assert LONG[offsets[first][0] : offsets[last][1]].strip() == text
        else:
            assert (first, last) == (0, 0)
    marked = zip(encoded["index"], encoded["end_positions"], strict=True)
    assert {index for index, last in marked if last} == {0, 1}


def test_the_gold_span_comes_out_again_with_its_characters(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    rows = canonical(
        [row(c, q, a) for c, q, a in make_questions(12)] + [row(LONG, "a day", "good")]
    )
    # One tokenizer has a token for each letter of some words.
    task = replace(TASK, max_answer_tokens=16)
    encoded = task.encode(rows, tokenizer)
    tokens = max(map(len, encoded["input_ids"]))
    logits = np.full((len(encoded), tokens, 2), -100.0)
    for part, found in enumerate(("start_positions", "end_positions")):
        for window, place in enumerate(encoded[found]):
            logits[window, : len(encoded["input_ids"][window]), part] = 0
            logits[window, place, part] = 9 if place else 0
    table = task.tabulate(rows, encoded, logits)
    assert table["prediction"].tolist() == [texts[0] for texts in rows["answer_texts"]]
    # The word stands four times in the long context, and the first one is marked.
    assert table["start"].tolist() == [starts[0] for starts in rows["answer_starts"]]
    for context, start, end, text in zip(
        table["context"], table["start"], table["end"], table["prediction"], strict=True
    ):
        assert context[start:end] == text
    assert np.array_equal(task.statistics(rows, encoded, logits)[:, :3], np.ones((13, 3)))


def test_the_best_span_is_found_by_hand() -> None:
    context = "one two three four"
    offsets = [[-1, -1], [0, 3], [3, 7], [8, 13], [14, 18]]
    logits = np.array([[1.0, 1.0], [2, 0], [5, 1], [0, 4], [0, 6]])

    def find(most: int, *, abstain: bool = False, scale: float = 1.0) -> tuple[Any, ...]:
        scaled = logits * [[scale], [1], [1], [1], [1]]
        padded = np.concatenate([scaled, np.full((2, 2), -100.0)])
        found = find_answer(
            context, [(offsets, padded)], max_answer_tokens=most, may_abstain=abstain
        )
        return found.text, found.start, found.end, found.no_answer_score

    assert find(3) == ("two three four", 4, 18, 2 - 11)
    assert find(2) == ("two three", 4, 13, 2 - 9)
    # The end with the highest logit lies before no start that is better: 0 + 6 against 5 + 1.
    assert find(1)[0] in ("two", "four")
    assert find(3, abstain=True) == find(3)
    assert find(3, abstain=True, scale=6.0) == ("", -1, -1, 12 - 11)
    assert find(3, scale=6.0)[0] == "two three four"
    # A context has no answer if every window says so, by the one that says it least.
    windows = [(offsets, logits), (offsets, logits * [[6.0], [1], [1], [1], [1]])]
    kept = find_answer(context, windows, max_answer_tokens=3, may_abstain=True)
    assert (kept.text, kept.no_answer_score) == ("two three four", 2 - 11)
    starts = np.exp(logits[:, 0]) / np.exp(logits[:, 0]).sum()
    ends = np.exp(logits[:, 1]) / np.exp(logits[:, 1]).sum()
    assert kept.confidence == pytest.approx(starts[2] * ends[4])


def test_an_answer_that_is_not_where_the_row_says_is_named_with_what_is_there() -> None:
    wrong = row("anna was in rome", "anna was in", "rome")
    wrong["answers"]["answer_start"] = [9]
    with pytest.raises(InputError) as caught:
        canonical([row("a day", "a", "day"), wrong])
    assert str(caught.value) == (
        "data.columns.answers=answers: train row 1: the answer is 'rome', and at answer_start=9 "
        "the context has 'in r'; fix the row (characters are counted from 0)"
    )


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"text": ["a", "b"], "answer_start": [0]}, "train row 0 holds "),
        ({"text": [""], "answer_start": [0]}, "train row 0: '' at 0 is no answer"),
        ("a day", "train row 0 holds 'a day'"),
    ],
)
def test_answers_of_another_form_are_named(answers: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        canonical([{"question": "a", "context": "a day", "answers": answers}])


def test_rows_that_cannot_be_read_or_answered_are_named(
    tokenizer: PreTrainedTokenizerBase, caplog: pytest.LogCaptureFixture
) -> None:
    fine = row("we saw a day", "we", "a day")
    none = row("we saw a day", "where")
    with pytest.raises(InputError, match=r"^row 1 \('where'\) has no answer; .*unanswerable=true"):
        TASK.encode(canonical([fine, none]), tokenizer)
    assert SQUAD2.encode(canonical([fine, none]), tokenizer)["end_positions"][1] == 0
    with pytest.raises(InputError, match=r"^row 1 .*more than half of task\.max_length"):
        TASK.encode(canonical([fine, row("a day", "we saw it " * 20, "day")]), tokenizer)
    long = row(LONG, "we", LONG[:200])
    with pytest.raises(InputError, match="no window of 32 tokens has the whole of an answer"):
        TASK.encode(canonical([fine, long]), tokenizer)
    middle = row(LONG, "we", " ".join(LONG.split()[:8]))
    with caplog.at_level(logging.WARNING):
        TASK.encode(canonical([fine, middle]), tokenizer)
    assert "1 answer of 2 have more than task.max_answer_tokens=6 tokens" in caplog.text
    with pytest.raises(InputError, match=r"^train: 1 row with no completion or answer \(1"):
        require_text(DatasetDict({"train": canonical([fine, {**fine, "answers": None}])}))


def test_rows_about_one_context_stay_together_and_rows_without_an_answer_keep_their_share() -> None:
    rows = [
        row(f"we saw {n // 4} a day", f"what {n}", *(["a day"] if n % 4 else []))
        for n in range(160)
    ]
    whole = DatasetDict({"train": canonical(rows)})
    assert whole["train"].features["answers"].feature.names == ["answer", "no answer"]
    split = split_off(whole, validation_fraction=0.25, test_fraction=None, seed=0)
    contexts = [{*part["context"]} for part in split.values()]
    assert not contexts[0] & contexts[1]
    assert len(split["validation"]) == 40
    assert sum(not texts for texts in split["validation"]["answer_texts"]) == 10


def test_the_nested_files_of_squad_are_read_as_rows(tmp_path: Path) -> None:
    asked = [
        {"id": "1", "question": "anna was in", "is_impossible": False,
         "answers": [{"text": "rome", "answer_start": 12}, {"text": "rome", "answer_start": 12}]},
        {"id": "2", "question": "bob was in", "is_impossible": True, "answers": [],
         "plausible_answers": [{"text": "rome", "answer_start": 12}]},
    ]  # fmt: skip
    paragraph = {"context": "anna was in rome", "qas": asked}
    path = tmp_path / "squad.json"
    path.write_text(
        json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": [paragraph]}]})
    )
    rows = SQUAD2.canonicalise(load_files(train=str(path)), COLUMNS, label_names=None)["train"]
    assert rows["question"][:] == ["anna was in", "bob was in"]
    assert rows["answer_texts"][:] == [["rome", "rome"], []]
    assert rows["target"][:] == ["rome", ""]
    assert {*rows["context"]} == {"anna was in rome"}


def test_baselines_give_what_train_has_and_a_whole_sentence() -> None:
    train = canonical([row("it was good", "it", "good"), row("all good", "all", "good")])
    rows = canonical(
        [
            row("Rome is good. Anna was in Paris.", "where was Anna", "Paris"),
            row("a good day", "a", "good"),
        ]
    )
    found = {one.key: TASK.score(one.statistics.sum(axis=0)) for one in TASK.baselines(train, rows)}
    assert {key: round(float(scores["exact_match"]), 2) for key, scores in found.items()} == {
        "frequent": 0.5,
        "sentence": 0.0,
    }
    assert [one.name for one in SQUAD2.baselines(train, rows)][-1] == "no answer at all"


@pytest.mark.slow
def test_a_run_with_rows_without_an_answer_is_scored_and_served(
    train: Train, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(c, q, a) for c, q, a in make_questions(24)]
    rows += [row(c, "the train") for c, _, _ in make_questions(8, seed=5)]
    for split in ("train", "test"):
        lines = [{**found, "context": f"{found['context']} {split}"} for found in rows]
        (tmp_path / f"{split}.json").write_text(json.dumps(lines), "utf-8")
    others = [text for text in tiny if not text.startswith("data")]
    train(
        *others, "task=question_answering", "task.unanswerable=true", "data=files",
        f"data.train={tmp_path / 'train.json'}", f"data.validation={tmp_path / 'test.json'}",
        f"data.test={tmp_path / 'test.json'}", "score_test=true", "trainer.num_train_epochs=1",
    )  # fmt: skip
    client = MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "tunetrail"]
    (run,) = client.search_runs([experiment.experiment_id])
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    table = pd.read_parquet(folder / "predictions/test.parquet")
    for context, start, end, text in zip(
        table["context"], table["start"], table["end"], table["prediction"], strict=True
    ):
        assert (context[start:end] if start >= 0 else "") == text
    assert (folder / "figures/scores_by_question.png").is_file()
    by_label = pd.read_csv(folder / "tables/by_label_test.csv")
    assert by_label[["label", "rows"]].to_numpy().tolist() == [["answer", 24], ["no answer", 8]]
    assert run.data.metrics["test/f1"] == pytest.approx(
        (by_label["f1"] * by_label["rows"]).sum() / 32
    )

    assert main(["export", run.info.run_id, "exported"]) == 0
    longer = [
        {"q": "the train " * 40, "context": "a day"},
        {"q": "we", "context": LONG},
        {"q": "", "context": "a day"},
    ]
    asked = [{"q": r["question"], "context": r["context"]} for r in json.loads(
        (tmp_path / "test.json").read_text("utf-8"))]  # fmt: skip
    Path("in.json").write_text(json.dumps([*asked, *longer]), "utf-8")
    capsys.readouterr()
    how = ("--input", "in.json", "--output", "out.json", "--column", "question=q")
    assert main(["predict", "exported", *how]) == 3
    said = capsys.readouterr().err
    assert "row 33: the tokenizer makes no token of the question or context, or" in said
    assert "row 35: the text is empty" in said
    found = pd.DataFrame(json.loads(Path("out.json").read_text("utf-8")))
    for name in ("prediction", "start", "end"):
        assert found[name].tolist()[:32] == table[name].tolist(), name
    assert found["start"][32] >= -1
