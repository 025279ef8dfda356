"""Answer with a trained tagger: texts in, a tag for each word and the entities out."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    PreTrainedTokenizerBase,
)

from . import base

# A window repeats one part in four of the one before, so that words at an edge have context, too.
_OVERLAP = 4


def split_words(text: str) -> list[str]:
    """Split a text into words at spaces, as rows of tokens were joined."""
    return [word for word in text.split(" ") if word.strip()]


def encode_windows(
    texts: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase, *, max_length: int
) -> list[dict[str, Any]]:
    """Encode rows of words; a row longer than the model reads becomes several windows.

    Windows overlap by a quarter, and each word is tagged in the one where it stands furthest from
    an edge. Its tag is that of its first token. A window in which no word is tagged is left out:
    the loss of a batch without a tag would be no number.

    Returns:
        For each window the model's inputs; ``index``, the number of its row; and ``words``, for
        each token the word that it tags, else -1.

    Raises:
        ValueError: the tokenizer cannot give the position of a token in its text, or the length
            leaves no room for a token.

    """
    if not tokenizer.is_fast:
        raise ValueError("its tokenizer gives no positions of tokens; a fast one is needed")
    room = max_length - tokenizer.num_special_tokens_to_add()
    if room < 1:
        raise ValueError(f"a length of {max_length} leaves no room for a token of a word")
    encoded = tokenizer(
        [" ".join(words) for words in texts],
        truncation=True,
        max_length=max_length,
        stride=room // _OVERLAP,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    rows = encoded.pop("overflow_to_sample_mapping")
    offsets = encoded.pop("offset_mapping")
    windows = [
        {name: encoded[name][number] for name in encoded} | {"index": row}
        for number, row in enumerate(rows)
    ]
    places = []
    for number, (row, found) in enumerate(zip(rows, offsets, strict=True)):
        earlier = offsets[number - 1] if number and rows[number - 1] == row else ()
        places.append(_find_words(texts[row], found, earlier))
    owners: dict[tuple[int, int], tuple[int, int]] = {}
    for number, (row, found) in enumerate(zip(rows, places, strict=True)):
        for word, (place, distance) in found.items():
            best = owners.get((row, word))
            if best is None or distance > places[best[0]][word][1]:
                owners[row, word] = (number, place)
    for window in windows:
        window["words"] = [-1] * len(window["input_ids"])
    for (_, word), (number, place) in owners.items():
        windows[number]["words"][place] = word
    return [window for window in windows if max(window["words"], default=-1) >= 0]


def _find_words(
    words: Sequence[str], offsets: Sequence[tuple[int, int]], earlier: Sequence[tuple[int, int]]
) -> dict[int, tuple[int, int]]:
    """Find the first token of each word: word -> its place, and its distance to an edge.

    Args:
        words: of the row.
        offsets: where each token of a window starts and ends in the words, joined by spaces.
        earlier: the same of the window before it in the row; empty for the first one.

    """
    owner = [
        number
        for number, word in enumerate(words)
        for _ in range(len(word) + 1)  # the space after a word belongs to it
    ]
    # A token may begin with the space before its word, so its last character says where it is.
    content = [(place, end) for place, (start, end) in enumerate(offsets) if end > start]
    found: dict[int, tuple[int, int]] = {}
    # If a window begins in the middle of a word, its token there is not the first of it. Where
    # a token starts does not say so: a tokenizer may drop the first characters of a word.
    before = [
        span for span in earlier if span[1] > span[0] and content and span < offsets[content[0][0]]
    ]
    previous = owner[before[-1][1] - 1] if before else -1
    for rank, (place, end) in enumerate(content):
        word = owner[end - 1]
        if word not in found and word != previous:
            found[word] = (place, min(rank, len(content) - 1 - rank))
        previous = word
    return found


def list_entities(text: str, words: Sequence[str], tags: Sequence[str]) -> list[dict[str, Any]]:
    """Return the entities in IOB2 tags: type, text, and the characters where they start and end."""
    entities: list[dict[str, Any]] = []
    position, last = 0, "O"
    for word, tag in zip(words, tags, strict=True):
        start = text.index(word, position)
        position = start + len(word)
        if tag != "O":
            goes_on = tag.startswith("I-") and last != "O" and last[2:] == tag[2:]
            if not goes_on:
                entities.append({"type": tag[2:], "text": "", "start": start, "end": position})
            entities[-1]["text"] = text[entities[-1]["start"] : position]
            entities[-1]["end"] = position
        last = tag
    return entities


class ServedModel(base.ServedModel):
    """Longer texts are read in windows of ``max_length`` tokens, as in training."""

    auto: ClassVar[Any] = AutoModelForTokenClassification
    purpose: ClassVar[str] = "tag words"
    served_columns: ClassVar[dict[str, str]] = {"tags": "string", "entities": "string"}
    inputs = MappingProxyType({"text": ("text", "tokens")})

    def __init__(self, model_dir: Path, tokenizer_dir: Path, **options: Any) -> None:
        super().__init__(model_dir, tokenizer_dir, **options)
        # Outputs are read by the position of their tokens, so padding must come after them.
        self.tokenizer.padding_side = "right"
        self.label_names = base.read_label_names(self.model.config)
        self.columns = {"prediction": "string", "entities": "json"}
        self._collate = DataCollatorForTokenClassification(self.tokenizer)

    def answer(self, inputs: Sequence[str | Sequence[str]]) -> list[dict[str, Any] | None]:
        """Return the columns of each answer; None for a text without a word."""
        texts = [row if isinstance(row, str) else " ".join(row) for row in inputs]
        words = [split_words(row) if isinstance(row, str) else list(row) for row in inputs]
        return [
            {"prediction": " ".join(tags), "entities": list_entities(text, row, tags)}
            if row
            else None
            for text, row, tags in zip(texts, words, self.tag(words), strict=True)
        ]

    def serve(self, answer: dict[str, Any]) -> dict[str, Any]:
        entities = json.dumps(answer["entities"], ensure_ascii=False)
        return {"tags": answer["prediction"], "entities": entities}

    def tag(self, rows: Sequence[Sequence[str]]) -> list[list[str]]:
        """Return a tag for each word of each row; ``O`` for one that has no token."""
        tags = [["O"] * len(words) for words in rows]
        if not any(rows):
            return tags
        with self._lock:
            windows = encode_windows(rows, self.tokenizer, max_length=self._max_length)
        for window, chosen in zip(windows, self.run(windows, self._classify), strict=True):
            for place, word in enumerate(window["words"]):
                if word >= 0:
                    tags[window["index"]][word] = self.label_names[chosen[place]]
        return tags

    def describe_use(self, name: str) -> str:
        stride = self._max_length // _OVERLAP
        return f"""Tags: {", ".join(self.label_names)}.

```python
from transformers import pipeline

tag = pipeline("token-classification", "{name}", aggregation_strategy="first", stride={stride})
tag("a text, its words apart by spaces")
```

A text of more than {self._max_length} tokens is read in windows that overlap by `stride` tokens;
without `stride` it is cut there."""

    def _classify(self, windows: list[dict[str, Any]]) -> np.ndarray:
        features = [
            {name: value for name, value in window.items() if name not in ("index", "words")}
            for window in windows
        ]
        return np.asarray(self.logits(self._collate(features)).argmax(dim=-1).cpu().numpy())
