"""A trained tagger of words at work: texts in, a tag for each word and the entities out.

``tunetrail predict`` uses it, and every logged model holds a copy of this one file as the code
that answers ``mlflow.pyfunc.load_model`` and ``mlflow models serve``. So it imports nothing of
this package, and works where the package is not installed.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

# What a served model says of each text, with the types of MLflow.
COLUMNS = {"tags": "string", "entities": "string"}

# Tokens of a batch, padding included.
BATCH_TOKENS = 4096
# Share of a window that the next one repeats, so that words at its edge have context, too.
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
        For each window the model's inputs; ``index``, the row that it is of; and ``words``, for
        each token the word that is tagged there, else -1.

    Raises:
        ValueError: the tokenizer cannot say where in a text a token stands, or the length leaves
            no room for a token.

    """
    if not tokenizer.is_fast:
        raise ValueError("its tokenizer cannot say where a token stands; a fast one is needed")
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
    places = [_find_words(texts[row], found) for row, found in zip(rows, offsets, strict=True)]
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
    words: Sequence[str], offsets: Sequence[tuple[int, int]]
) -> dict[int, tuple[int, int]]:
    """Find the first token of each word: word -> its place, and how far from an edge that is."""
    owner = [
        number
        for number, word in enumerate(words)
        for _ in range(len(word) + 1)  # the space after a word counts as its own
    ]
    starts = np.cumsum([0, *(len(word) + 1 for word in words)])
    # A token may begin with the space before its word, so its last character says where it is.
    content = [(place, end) for place, (start, end) in enumerate(offsets) if end > start]
    found: dict[int, tuple[int, int]] = {}
    previous = -1 if not content else owner[offsets[content[0][0]][0]]
    for rank, (place, end) in enumerate(content):
        word = owner[end - 1]
        # What follows the cut of a window in the middle of a word is not its first token.
        begins = offsets[place][0] <= starts[word] or word != previous
        if word not in found and begins:
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


class ServedModel:
    """Weights and tokenizer, ready to answer as in training's evaluation: fp32, no dropout.

    Args:
        max_length: of a window, in tokens, as in training.
        batch_tokens: how many tokens, padding included, go through the model at once; None is
            4,096.

    Raises:
        ValueError: the files hold no trained tagger, or no tokenizer that can pad.
        OSError: a file cannot be read.

    """

    inputs = ("text", "tokens")
    columns: Mapping[str, str] = {"prediction": "string", "entities": "json"}

    def __init__(
        self,
        model_dir: Path,
        tokenizer_dir: Path,
        *,
        max_length: int,
        device: str = "cpu",
        batch_tokens: int | None = None,
    ) -> None:
        self.model = _load_model(model_dir).eval()
        self.model.to(device)
        self.tokenizer = _load_tokenizer(tokenizer_dir)
        # What comes out is read by the place of its token: padding must come after it.
        self.tokenizer.padding_side = "right"
        names = self.model.config.id2label
        self.label_names = tuple(str(names[index]) for index in range(self.model.config.num_labels))
        self._max_length = max_length
        self._batch_tokens = batch_tokens or BATCH_TOKENS
        self._device = device
        self._collate = DataCollatorForTokenClassification(self.tokenizer)
        # A server answers in several threads, and a tokenizer that is told to cut is changed.
        self._lock = threading.Lock()

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

    def tag(self, rows: Sequence[Sequence[str]]) -> list[list[str]]:
        """Return a tag for each word of each row; ``O`` for one that has no token."""
        tags = [["O"] * len(words) for words in rows]
        if not any(rows):
            return tags
        with self._lock:
            windows = encode_windows(rows, self.tokenizer, max_length=self._max_length)
        windows.sort(key=lambda window: -len(window["input_ids"]))
        while windows:
            size = max(self._batch_tokens // max(len(windows[0]["input_ids"]), 1), 1)
            batch, windows = windows[:size], windows[size:]
            for window, chosen in zip(batch, self._classify(batch), strict=True):
                for place, word in enumerate(window["words"]):
                    if word >= 0:
                        tags[window["index"]][word] = self.label_names[chosen[place]]
        return tags

    def describe_use(self, name: str) -> str:
        """Describe in Markdown how transformers alone uses an export in the directory ``name``."""
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
        inputs = {name: tensor.to(self._device) for name, tensor in self._collate(features).items()}
        with torch.inference_mode():
            logits = self.model(**inputs).logits
        return np.asarray(logits.argmax(dim=-1).cpu().numpy())


def _load_model(folder: Path) -> PreTrainedModel:
    model: PreTrainedModel
    model, loaded = AutoModelForTokenClassification.from_pretrained(
        folder,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    if loaded["missing_keys"]:
        missing = ", ".join(sorted(loaded["missing_keys"])[:3])
        raise ValueError(f"its weights lack {missing}: it was not trained to tag words")
    return model


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise ValueError("its tokenizer has neither a padding nor an end token")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


class _Answers:
    """What MLflow serves: the first column of a table in, tags and entities out."""

    def __init__(self, tagger: ServedModel) -> None:
        self._tagger = tagger

    def predict(self, data: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Answer each text.

        Raises:
            MlflowException: there is a text without a word, which a server answers with 400.

        """
        from mlflow.exceptions import MlflowException

        del params
        answers = self._tagger.answer(data.iloc[:, 0].tolist())
        for number, answer in enumerate(answers):
            if answer is None:
                raise MlflowException.invalid_parameter_value(f"text {number} has no word")
        found = [answer for answer in answers if answer is not None]
        return pd.DataFrame(
            {
                "tags": [answer["prediction"] for answer in found],
                "entities": [json.dumps(a["entities"], ensure_ascii=False) for a in found],
            }
        )


def _load_pyfunc(path: str, model_config: Mapping[str, Any]) -> _Answers:
    """Load a logged model: MLflow calls this by its name."""
    folder = Path(path)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return _Answers(
        ServedModel(
            folder / "model",
            folder / "components" / "tokenizer",
            max_length=int(model_config["max_length"]),
            device=device,
        )
    )
