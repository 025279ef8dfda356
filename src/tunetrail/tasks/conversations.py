"""Prompts with completions, and conversations: how they are read, and encoded with their answers."""

from collections.abc import Mapping, Sequence

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from tunetrail.data.columns import canonical_split, read_texts
from tunetrail.errors import InputError
from tunetrail.served.language import NOT_COUNTED, tokenize
from tunetrail.served.text2text_generation import find_fault_of_turns, render, write_turns


def read_pairs(part: Dataset, split: str, keys: Mapping[str, str]) -> Dataset:
    """Read prompts and completions; a completion without a character is missing."""
    prompts, completions = (
        read_texts(part, column, split=split, key=key) for key, column in keys.items()
    )
    targets = [text if text and text.strip() else None for text in completions]
    return canonical_split(part, text=prompts, target=targets)


def read_conversations(part: Dataset, split: str, column: str) -> Dataset:
    """Read conversations; one that does not end with an answer has none.

    Raises:
        InputError: a row holds no conversation.

    """
    texts: list[str | None] = []
    targets: list[str | None] = []
    for number, turns in enumerate(part[column][:]):
        fault = find_fault_of_turns(turns)
        if fault is None and turns[0]["role"] == "assistant":
            fault = "nothing stands before the assistant's first message"
        if fault is not None:
            raise InputError(
                f"data.columns.messages={column}: {split} row {number} (from 0): {fault}; fix it"
            )
        plain = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
        is_answered = plain[-1]["role"] == "assistant"
        texts.append(write_turns(plain[:-1] if is_answered else plain))
        targets.append(plain[-1]["content"] if is_answered else None)
    return canonical_split(part, text=texts, target=targets)


def encode_turns(
    turns: Sequence[dict[str, str]], tokenizer: PreTrainedTokenizerBase, *, end: int
) -> dict[str, list[int]]:
    """Encode a conversation; what the assistant says has labels, up to what ends its turn.

    All before the last answer is encoded as it is where that is generated.
    """
    changes = ValueError("it writes a turn otherwise once an answer follows")
    asked = render(turns[:-1], tokenizer, ask=True)
    found = tokenizer(asked, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids = list(found["input_ids"])
    labels = [NOT_COUNTED] * len(ids)
    for number, turn in enumerate(turns[:-1]):
        if turn["role"] != "assistant":
            continue
        before = render(turns[:number], tokenizer, ask=True)
        after = render(turns[: number + 1], tokenizer, ask=False)
        if not asked.startswith(after) or not after.startswith(before):
            raise changes
        spans = enumerate(found["offset_mapping"])
        places = [p for p, (start, stop) in spans if stop > len(before) and start < len(after)]
        # What the template writes after the end of a turn is not the assistant's.
        last = max((place for place in places if ids[place] == end), default=len(ids))
        for place in places:
            labels[place] = ids[place] if place <= last else NOT_COUNTED
    whole = render(turns, tokenizer, ask=False)
    if not whole.startswith(asked):
        raise changes
    (answer,) = tokenize([whole[len(asked) :]], tokenizer)
    answer = answer[: len(answer) - answer[::-1].index(end)] if end in answer else [*answer, end]
    return {"input_ids": [*ids, *answer], "labels": [*labels, *answer]}


def find_answer(labels: Sequence[int]) -> tuple[int, list[int]]:
    """Return where the last answer of a row begins, and its tokens."""
    stop = next(place for place in range(len(labels), 0, -1) if labels[place - 1] != NOT_COUNTED)
    start = next((p for p in range(stop, 0, -1) if labels[p - 1] == NOT_COUNTED), 0)
    return start, list(labels[start:stop])
