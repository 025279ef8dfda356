"""Prompts with completions, and conversations: how they are read, and encoded with answers."""

from collections.abc import Iterator, Mapping, Sequence

import jinja2
from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerBase

from tunetrail.data.columns import canonical_split, read_texts, require_columns
from tunetrail.errors import InputError, first_line
from tunetrail.served.blank import is_blank
from tunetrail.served.language import NOT_COUNTED, tokenize
from tunetrail.served.text2text_generation import (
    CHAT,
    encode_prompts,
    find_fault_of_turns,
    read_turns,
    render,
    write_turns,
)


def read_rows(rows: DatasetDict, columns: Mapping[str, str], *, template: str) -> DatasetDict:
    """Read canonical rows from the columns prompt and completion, or from messages.

    Raises:
        InputError: columns are missing, of both kinds, or hold something else.

    """
    train, messages = rows["train"].column_names, columns["messages"]
    if messages not in train:
        keys = {f"data.columns.{role}": columns[role] for role in ("prompt", "completion")}
        require_columns(rows, keys)
        return DatasetDict({split: _read_pairs(part, split, keys) for split, part in rows.items()})
    if {columns["prompt"], columns["completion"]} <= {*train}:
        raise InputError(
            f"train has {messages!r}, and {columns['prompt']!r} with {columns['completion']!r} "
            "too; set data.columns.messages=null, or data.columns.prompt=null"
        )
    if template != CHAT:
        raise InputError(
            f"{messages!r} of train are conversations, which the model's chat template writes; "
            f"set task.template={CHAT}"
        )
    require_columns(rows, {"data.columns.messages": messages})
    return DatasetDict(
        {split: _read_conversations(part, split, messages) for split, part in rows.items()}
    )


def _read_pairs(part: Dataset, split: str, keys: Mapping[str, str]) -> Dataset:
    """Read prompts and completions; a completion without a character is missing."""
    prompts, completions = (
        read_texts(part, column, split=split, key=key) for key, column in keys.items()
    )
    targets = [None if is_blank(text) else text for text in completions]
    return canonical_split(part, text=prompts, target=targets)


def _read_conversations(part: Dataset, split: str, column: str) -> Dataset:
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


def _encode_turns(
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


def encode_rows(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, *, template: str
) -> Iterator[dict[str, list[int]]]:
    """Encode rows whatever their length, as a decoder reads them.

    Raises:
        InputError: the chat template cannot write a conversation.

    """
    end = int(tokenizer.eos_token_id)
    if template != CHAT:
        prompts = encode_prompts(rows["text"][:], tokenizer, template=template)
        for ids, answer in zip(prompts, tokenize(rows["target"][:], tokenizer), strict=True):
            learnt = [*answer, end]
            labels = [NOT_COUNTED] * len(ids) + learnt
            yield {"input_ids": [*ids, *learnt], "labels": labels}
        return
    for number, prompt, target in zip(rows["row"], rows["text"], rows["target"], strict=True):
        turns = [*read_turns(prompt), {"role": "assistant", "content": target}]
        try:
            yield _encode_turns(turns, tokenizer, end=end)
        except (ValueError, jinja2.TemplateError) as error:
            raise InputError(
                f"row {number} (from 0): the chat template cannot write this conversation: "
                f"{first_line(error)}; fix it, or set task.chat_template"
            ) from error
