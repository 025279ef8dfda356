"""What tagging words does by itself: windows, alignment, IOB2, strata, scores, baselines."""

import random
import re
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES, ONE_STACK
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from seqeval.metrics import accuracy_score, f1_score, precision_score, recall_score
from toys import make_tagged
from transformers import AutoModelForTokenClassification, PreTrainedTokenizerBase
from transformers.models.canine import CanineTokenizer

from tunetrail.data.quality.check import check_quality
from tunetrail.errors import InputError
from tunetrail.served.token_classification import (
    ServedModel,
    encode_windows,
    list_entities,
    split_words,
)
from tunetrail.tasks.token_classification import TokenClassification

TAG = TokenClassification(max_length=16, tag_scheme="iob2", main_metric="f1")
IOB1 = replace(TAG, tag_scheme="iob1")
TAGS = ["O", "B-person", "I-person", "B-place", "I-place"]
Tagged = list[tuple[list[str], list[str]]]


@lru_cache
def tokenizer_of(architecture: str) -> PreTrainedTokenizerBase:
    return ARCHITECTURES[architecture].tokenizer()


def canonical(
    names: list[Any] | None = None, task: TokenClassification = TAG, **rows_of: Tagged
) -> DatasetDict:
    rows = DatasetDict(
        {
            split: Dataset.from_dict({"words": [r[0] for r in rows], "ner": [r[1] for r in rows]})
            for split, rows in rows_of.items()
        }
    )  # fmt: skip
    return task.canonicalise(rows, {"tokens": "words", "tags": "ner"}, label_names=names)


def some_words(draw: random.Random) -> list[str]:
    """Words that tokenizers know, that they split up, and some that are longer than a window.

    BERT's tokenizer drops the zero-width space that one begins with.
    """
    known = ["good", "day", "the", "table", "happy", "it", "\u200bwe", "train"]
    made = ["".join(draw.choices("abcdefgh.,-'()", k=draw.choice([3, 9, 50]))) for _ in range(4)]
    return draw.choices([*known, *known, *made], k=draw.randrange(1, 40))


# Windows


@pytest.mark.parametrize("max_length", [6, 9, 64])
@pytest.mark.parametrize("architecture", ONE_STACK)
def test_each_word_is_tagged_once_at_its_first_token_and_nothing_is_cut(
    architecture: str, max_length: int
) -> None:
    tokenizer, draw = tokenizer_of(architecture), random.Random(0)
    texts = [some_words(draw) for _ in range(20)]
    windows = encode_windows(texts, tokenizer, max_length=max_length)
    assert max(len(window["input_ids"]) for window in windows) <= max_length
    whole = encode_windows(texts, tokenizer, max_length=10_000)
    assert [window["index"] for window in whole] == [*range(20)]
    for index, words in enumerate(texts):
        first = tagged([whole[index]])
        assert [word for word, _ in first] == [*range(len(words))]
        mine = [window for window in windows if window["index"] == index]
        # The same tokens stand for the words, in whatever window.
        assert sorted(tagged(mine)) == first
        assert all(any(word >= 0 for word in window["words"]) for window in mine)


def tagged(windows: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Each tagged word with the token that stands for it."""
    return [
        (word, token)
        for window in windows
        for word, token in zip(window["words"], window["input_ids"], strict=True)
        if word >= 0
    ]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "deberta-v2", "llama"])
def test_the_token_of_a_word_is_the_one_that_begins_it(architecture: str) -> None:
    tokenizer = tokenizer_of(architecture)
    words = ["happy", "(day)", "table"]
    (window,) = encode_windows([words], tokenizer, max_length=64)
    for word, token in tagged([window]):
        piece = tokenizer.convert_ids_to_tokens(token).strip("Ġ▁")
        assert words[word].startswith(piece), piece


@pytest.mark.parametrize("dropped", ["\u200b", "\ufeff", "\u0301"])
def test_a_word_whose_first_character_the_tokenizer_drops_is_tagged(dropped: str) -> None:
    words = [f"{dropped}anna", "was", "it"]
    (window,) = encode_windows([words], tokenizer_of("bert"), max_length=64)
    assert [word for word in window["words"] if word >= 0] == [0, 1, 2]


def test_a_word_is_tagged_where_it_has_most_context() -> None:
    tokenizer = tokenizer_of("bert")
    words = ["good"] * 30
    windows = encode_windows([words], tokenizer, max_length=12)
    # Ten words fit, the next window repeats two: one of them is nearer to the edge here, one there.
    assert [sum(word >= 0 for word in window["words"]) for window in windows] == [9, 8, 8, 5]
    assert sorted(word for word, _ in tagged(windows)) == [*range(30)]


def test_a_word_without_a_token_keeps_the_others_in_place() -> None:
    """BERT's tokenizer drops the character that stands for bytes of another encoding."""
    tokenizer = tokenizer_of("bert")
    (window,) = encode_windows([["\ufffd", "good", "\ufffd", "day"]], tokenizer, max_length=64)
    assert [word for word, _ in tagged([window])] == [1, 3]
    assert encode_windows([["\ufffd"]], tokenizer, max_length=64) == []


def test_encoded_rows_hold_a_label_for_each_word_and_point_at_their_row() -> None:
    rows = canonical(train=[(["anna", *["good"] * 40], ["B-person", *["O"] * 40]), *make_tagged(9)])
    encoded = TAG.encode(rows["train"], tokenizer_of("roberta"))
    assert len(encoded) > 10
    for index, row in enumerate(rows["train"]):
        found = {
            word: label
            for window in encoded.filter(lambda window, i=index: window["index"] == i)
            for word, label in zip(window["words"], window["labels"], strict=True)
            if word >= 0
        }
        assert [found[word] for word in range(len(row["tokens"]))] == row["tags"]
    for window in encoded:
        pairs = zip(window["words"], window["labels"], strict=True)
        assert all((word < 0) == (label == -100) for word, label in pairs)


def test_a_length_without_room_and_a_tokenizer_without_places_are_refused() -> None:
    rows = canonical(train=make_tagged(5))["train"]
    short = TokenClassification(max_length=2, tag_scheme="iob2", main_metric="f1")
    with pytest.raises(InputError, match=r"^task\.max_length=2: .* no room for a token"):
        short.encode(rows, tokenizer_of("bert"))
    with pytest.raises(InputError, match=r"^model: its CanineTokenizer cannot say where"):
        TAG.encode(rows, CanineTokenizer())
    with pytest.raises(InputError, match=r"^task\.max_length=0: must be a whole number"):
        TokenClassification(max_length=0, tag_scheme="iob2", main_metric="f1")


def test_a_tokenizer_that_pads_on_the_left_pads_on_the_right_here() -> None:
    tokenizer = tokenizer_of("llama")
    tokenizer.pad_token = tokenizer.eos_token
    assert tokenizer.padding_side == "left"
    rows = canonical(train=make_tagged(5))["train"]
    encoded = TAG.encode(rows, tokenizer)
    collate = TAG.build_collator(tokenizer, torch.nn.Module())
    batch = collate([{k: row[k] for k in ("input_ids", "labels")} for row in encoded])
    lengths = [len(row["input_ids"]) for row in encoded]
    assert len(set(lengths)) > 1
    for labels, length, row in zip(batch["labels"].tolist(), lengths, encoded, strict=True):
        assert labels == [*row["labels"], *[-100] * (max(lengths) - length)]
    assert tokenizer.padding_side == "left"


# Rows


def test_rows_become_canonical_and_types_get_both_tags() -> None:
    rows = canonical(
        train=[(["anna", "saw", "rome"], ["B-person", "O", "B-place"])],
        validation=[(["new", "york"], ["B-place", "I-place"])],
    )
    assert rows["train"].features["tags"] == List(ClassLabel(names=TAGS))
    assert rows["validation"][0] == {
        "text": "new york", "target": "B-place I-place", "stratum": 0, "row": 0,
        "answers": [1], "group": None, "tokens": ["new", "york"], "tags": [3, 4],
    }  # fmt: skip


def test_tags_may_be_class_labels_and_their_order_may_be_given() -> None:
    hub = Features({"tokens": List(Value("string")), "tags": List(ClassLabel(names=TAGS))})
    rows = Dataset.from_dict({"tokens": [["anna", "left"]], "tags": [[1, 0]]}, features=hub)
    found = TAG.canonicalise(
        DatasetDict(train=rows), {"tokens": "tokens", "tags": "tags"}, label_names=None
    )
    assert found["train"]["target"][:] == ["B-person O"]
    named = canonical(["I-place", "B-place", "O"], train=[(["york"], ["B-place"])])
    assert named["train"].features["tags"].feature.names == ["O", "I-place", "B-place"]


GOOD = (["anna", "left"], ["B-person", "O"])


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ((["anna", "left"], ["B-person"]), ": 2 tokens and 1 tag; give"),
        ((["new york"], ["B-place"]), ": the token 'new york' is empty or holds a space"),
        ((["\t"], ["O"]), ": the token '\\t' is empty or holds a space"),
        ((["anna", None], ["O", "O"]), ": the token None is empty"),
        ((["anna"], [None]), ": the tag None of 'anna' is not in IOB2; tags are O, B-TYPE"),
        ((["anna"], ["person"]), ": the tag 'person' of 'anna' is not in IOB2"),
        ((["anna"], ["S-person"]), ": the tag 'S-person' of 'anna' is not in IOB2"),
        ((["anna"], ["B-"]), ": the tag 'B-' of 'anna' is not in IOB2"),
        ((["anna"], ["B-a person"]), ": the tag 'B-a person' of 'anna' is not in IOB2"),
        ((["anna"], ["I-person"]), ": the tag 'I-person' of 'anna' goes on with an entity"),
        ((["mr", "x"], ["O", "I-person"]), ": the tag 'I-person' of 'x' goes on with an entity"),
        ((["a", "b"], ["B-place", "I-person"]), ": the tag 'I-person' of 'b' goes on with an"),
    ],
)
def test_a_row_that_cannot_be_tagged_is_named_in_one_line(row: Any, found: str) -> None:
    with pytest.raises(InputError, match=rf"^train row 1 \('.*'…\){re.escape(found)}") as error:
        canonical(train=[GOOD, row])
    assert "\n" not in str(error.value)


def test_iob1_is_read_as_iob2() -> None:
    words = ["anna", "lee", "bo", "of", "rome", "and"]
    tags = ["I-person", "I-person", "B-person", "O", "I-place", "O"]
    read = canonical(task=IOB1, train=[(words, tags)])["train"]
    assert read["target"] == ["B-person I-person B-person O B-place O"]
    with pytest.raises(InputError, match=r"^task\.tag_scheme=iob: must be iob2 or iob1"):
        TokenClassification(max_length=16, tag_scheme="iob", main_metric="f1")  # type: ignore[arg-type]


def test_a_tag_that_train_does_not_have_is_named() -> None:
    with pytest.raises(
        InputError, match=r"^validation row 1 \('.*'…\): the tag 'B-place' is not among .*O, B-p"
    ):
        canonical(train=[GOOD], validation=[GOOD, (["rome"], ["B-place"])])
    names = ["O", "B-person", "I-person", "B-place", "I-place"]
    assert canonical(names, train=[GOOD], validation=[(["rome"], ["B-place"])])


@pytest.mark.parametrize("names", [["B-x"], ["O", "O", "B-x"], ["O", "x"]])
def test_names_that_are_no_tags_are_refused(names: list[str]) -> None:
    with pytest.raises(InputError, match=r"^data\.label_names=\[.*: must hold O and each tag once"):
        canonical(names, train=[GOOD])


def test_what_teaches_nothing_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"^train has no entity: every tag is O; set data\.columns"
    ):
        canonical(train=[(["we", "left"], ["O", "O"])])  # fmt: skip
    rows = canonical(train=[GOOD, (["we", "left"], ["O", "O"])])["train"]
    TAG.require_learnable(rows)
    with pytest.raises(InputError, match=r"^train has no entity, .* raise data\.num_train or set"):
        TAG.require_learnable(rows.select([1]))


def test_a_column_that_holds_no_lists_is_named() -> None:
    rows = DatasetDict(train=Dataset.from_dict({"tokens": ["a b"], "tags": ["O B-x"]}))
    with pytest.raises(InputError, match=r"^data\.columns\.tokens=tokens of train holds no lists"):
        TAG.canonicalise(rows, {"tokens": "tokens", "tags": "tags"}, label_names=None)
    with pytest.raises(InputError, match=r"^no column 'ner' .*; name one in data\.columns\.tags,"):
        TAG.canonicalise(rows, {"tokens": "tokens", "tags": "ner"}, label_names=None)


def test_strata_are_the_rarest_type_and_small_ones_join_the_largest() -> None:
    person, place = (["anna"], ["B-person"]), (["rome"], ["B-place"])
    both, none = (["anna", "rome"], ["B-person", "B-place"]), (["we"], ["O"])
    rows = canonical(
        train=[person] * 40 + [place] * 20 + [both] * 15 + [none] * 50, test=[both, person, none]
    )
    names = rows["train"].features["stratum"].names
    assert names == ["no entity", "person", "place"]
    strata = [names[code] for code in rows["test"]["stratum"]]
    assert strata == ["place", "person", "no entity"]
    few = canonical(train=[person] * 40 + [place] * 5 + [none] * 50, test=[place, person])["test"]
    assert few.features["stratum"].names == ["no entity", "person"]
    assert few["stratum"][:] == [0, 1]


def test_the_report_of_quality_counts_entities_by_type() -> None:
    both = (["new", "york", "saw", "anna"], ["B-place", "I-place", "O", "B-person"])
    rows = canonical(train=[both, (["rome"], ["B-place"]), (["we"], ["O"])])
    (train,) = check_quality(rows).splits
    assert [(one.label, one.number) for one in train.labels] == [("person", 1), ("place", 2)]


# Scores


def random_tags(draw: random.Random, length: int) -> list[str]:
    """Any order of tags, also those that IOB2 does not have."""
    return draw.choices(TAGS, weights=[6, 2, 2, 1, 1], k=length)


def test_scores_are_those_of_seqeval() -> None:
    draw = random.Random(3)
    targets = [random_tags(draw, draw.randrange(1, 12)) for _ in range(60)]
    found = [random_tags(draw, len(tags)) for tags in targets]
    found[:20] = targets[:20]
    words = [[f"w{n}" for n in range(len(tags))] for tags in targets]
    # Every entity of the targets has its beginning; those that are found need not.
    rows = canonical(TAGS, IOB1, train=[*zip(words, targets, strict=True)])["train"]
    targets = [tags.split() for tags in rows["target"]]
    encoded, outputs = answered(rows, found)
    sums = TAG.statistics(rows, encoded, outputs).sum(axis=0)
    assert {name: float(value) for name, value in TAG.score(sums).items()} == pytest.approx(
        {
            "f1": f1_score(targets, found),
            "precision": precision_score(targets, found),
            "recall": recall_score(targets, found),
            "token_accuracy": accuracy_score(targets, found),
        }
    )
    by_type = TAG.break_down(rows, sums).set_index("label")
    assert list(by_type.index) == ["person", "place"]
    for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        assert list(by_type[name]) == pytest.approx(list(score(targets, found, average=None)))
    assert by_type["entities"].sum() == sum(len(list_of(tags)) for tags in targets)

    table = TAG.tabulate(rows, encoded, outputs)
    assert list(table["prediction"]) == [" ".join(tags) for tags in found]
    assert list(table["target"]) == rows["target"][:]
    assert list(TAG.answers(table)["tags"]) == list(table["prediction"])
    (name,) = TAG.plot(rows, table, by_type.reset_index(), split="test")
    assert name == "scores_by_type"


def list_of(tags: list[str]) -> list[dict[str, Any]]:
    words = [f"w{n}" for n in range(len(tags))]
    return list_entities(" ".join(words), words, tags)


def answered(rows: Dataset, found: list[list[str]]) -> tuple[Dataset, np.ndarray]:
    """What the model read, and outputs as if it had found these tags; padded as Trainer pads."""
    encoded = TAG.encode(rows, tokenizer_of("deberta-v2"))
    outputs = np.full((len(encoded), 16), -100)
    names = rows.features["tags"].feature.names
    for number, window in enumerate(encoded):
        for place, word in enumerate(window["words"]):
            # Where no word is tagged anything may come out.
            outputs[number, place] = 1
            if word >= 0:
                outputs[number, place] = names.index(found[window["index"]][word])
    return encoded, outputs


def test_nothing_found_scores_zero_and_not_a_number_that_is_none() -> None:
    rows = canonical(train=[GOOD, (["we"], ["O"])])["train"]
    sums = TAG.statistics(rows, *answered(rows, [["O", "O"], ["O"]]))
    scores = TAG.score(sums)
    assert list(scores["f1"]) == list(scores["precision"]) == list(scores["recall"]) == [0, 0]
    assert list(scores["token_accuracy"]) == [0.5, 1]


def test_the_baselines_give_each_word_its_usual_tag_and_find_nothing() -> None:
    train = [
        (["new", "york"], ["B-place", "I-place"]),
        (["new", "york"], ["B-place", "I-place"]),
        (["a", "new", "day"], ["O", "O", "O"]),
    ]
    rows = canonical(
        train=train, validation=[(["new", "york"], ["B-place", "I-place"]), (["rome"], ["B-place"])]
    )
    usual, none = (
        one.statistics.sum(axis=0) for one in TAG.baselines(rows["train"], rows["validation"])
    )
    scores = {name: float(value) for name, value in TAG.score(usual).items()}
    assert scores == pytest.approx(
        {"f1": 2 / 3, "precision": 1.0, "recall": 0.5, "token_accuracy": 2 / 3}
    )
    assert float(TAG.score(none)["f1"]) == 0


# Answers


@pytest.mark.parametrize(
    ("text", "tags", "entities"),
    [
        ("anna saw new york", "B-a O B-b I-b", [("a", "anna", 0), ("b", "new york", 9)]),
        ("an  an   new  york ", "O B-a B-b I-b", [("a", "an", 4), ("b", "new  york", 9)]),
        ("anna bob", "I-a I-a", [("a", "anna bob", 0)]),
        ("anna bob", "B-a B-a", [("a", "anna", 0), ("a", "bob", 5)]),
        ("anna bob", "B-a I-b", [("a", "anna", 0), ("b", "bob", 5)]),
        ("we", "O", []),
    ],
)
def test_entities_are_where_they_stand_in_the_text(
    text: str, tags: str, entities: list[tuple[str, str, int]]
) -> None:
    found = list_entities(text, split_words(text), tags.split(" "))
    assert found == [
        {"type": type_, "text": part, "start": start, "end": start + len(part)}
        for type_, part, start in entities
    ]
    assert all(text[entity["start"] : entity["end"]] == entity["text"] for entity in found)


@pytest.fixture(scope="module", params=["bert", "llama"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    folder = ARCHITECTURES[request.param].save(tmp_path_factory.mktemp(request.param))
    torch.manual_seed(1)
    labels = {"id2label": dict(enumerate(TAGS)), "label2id": {t: n for n, t in enumerate(TAGS)}}
    AutoModelForTokenClassification.from_pretrained(folder, **labels).save_pretrained(folder)
    return ServedModel(folder, folder, max_length=12, batch_tokens=40)


def test_a_served_model_tags_texts_and_lists_of_any_length_alike(served: ServedModel) -> None:
    texts = [" ".join(words) for words, _ in make_tagged(12)] + ["good " * 60]
    answers = served.answer([*texts, "  ", *(split_words(text) for text in texts)])
    assert answers[len(texts)] is None
    del answers[len(texts)]
    for text, answer, again in zip(
        texts, answers[: len(texts)], answers[len(texts) :], strict=True
    ):
        assert answer is not None
        assert again is not None
        assert answer["prediction"] == again["prediction"]
        assert len(answer["prediction"].split(" ")) == len(split_words(text))
    alone = [served.answer([text])[0] for text in texts]
    assert alone == answers[: len(texts)]
    assert len({tag for answer in answers if answer for tag in answer["prediction"].split()}) > 1


def test_a_text_of_which_the_tokenizer_makes_no_token_holds_no_entity(served: ServedModel) -> None:
    if type(served.tokenizer).__name__ == "BertTokenizer":
        assert served.answer(["\ufffd"]) == [{"prediction": "O", "entities": []}]
