"""Answer with a masked language model: texts in, their masks filled and their perplexity out."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import AutoModelForMaskedLM, PreTrainedTokenizerBase

from . import base
from .language import (
    NOT_COUNTED,
    batch_tokens,
    build_batch,
    find_frame,
    perplexities,
    score_tokens,
    split_evenly,
    tokenize,
)

# Share of the tokens that is masked to measure a model, as BERT was trained. It is no setting:
# models that were trained with other shares are measured on the same masks.
_MEASURED_SHARE = 0.15


def encode_windows(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, max_length: int
) -> list[dict[str, Any]]:
    """Encode texts; one longer than the model reads becomes several windows side by side.

    Some tokens of each window are masked, at least one, and only they are counted. Which ones
    depends on the tokens alone: the same text has the same masks in every run. A window without a
    token that may be masked is left out.

    Returns:
        For each window ``input_ids``, ``labels`` and ``index``, the number of its text.

    Raises:
        ValueError: a window of ``max_length`` has no room for a token.

    """
    windows = []
    special, tokens = {*tokenizer.all_special_ids}, tokenize(texts, tokenizer)
    for index, parts in enumerate(frame_parts(tokens, tokenizer, max_length=max_length)):
        for part in parts:
            masked = _draw(part, special)
            labels = [id_ if place in masked else NOT_COUNTED for place, id_ in enumerate(part)]
            shown = [
                tokenizer.mask_token_id if place in masked else id_
                for place, id_ in enumerate(part)
            ]
            if masked:
                windows.append({"input_ids": shown, "labels": labels, "index": index})
    return windows


def frame_parts(
    texts: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase, *, max_length: int
) -> list[list[list[int]]]:
    """Split the tokens of texts into parts that fit, each between what stands around a text.

    Raises:
        ValueError: there is no room for a token between them.

    """
    before, after = find_frame(tokenizer)
    room = max_length - len(before) - len(after)
    if room < 1:
        raise ValueError(f"a length of {max_length} leaves no room for a token of a text")
    return [[[*before, *part, *after] for part in split_evenly(ids, room)] for ids in texts]


def _draw(ids: Sequence[int], special: set[int]) -> set[int]:
    """Draw the places that are masked; none if every token is special."""
    places = [place for place, id_ in enumerate(ids) if id_ not in special]
    number = min(max(round(_MEASURED_SHARE * len(places)), 1), len(places))
    content = hashlib.sha256(np.asarray(ids, dtype="<i8").tobytes()).digest()
    # What the legacy generator draws never changes; numpy's newer ones may change.
    draw = np.random.RandomState(int.from_bytes(content[:4], "little"))
    return {places[i] for i in draw.permutation(len(places))[:number]}


def fill(logits: torch.Tensor, ids: torch.Tensor, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Put the most probable token in place of each mask, and return the texts.

    Args:
        logits: shape (batch, tokens, vocabulary).
        ids: what the model read, shape (batch, tokens).

    """
    filled = ids.clone()
    places = ids.eq(tokenizer.mask_token_id)
    filled[places] = logits[places].argmax(dim=-1)
    texts: list[str] = tokenizer.batch_decode(filled, skip_special_tokens=True)
    return texts


class ServedModel(base.ServedModel):
    """Fills the masks of a text; of one without masks, those with which its model is measured."""

    auto: ClassVar[Any] = AutoModelForMaskedLM
    purpose: ClassVar[str] = "fill masks"
    served_columns: ClassVar[dict[str, str]] = {"sequence": "string", "perplexity": "double"}

    def __init__(self, model_dir: Path, tokenizer_dir: Path, **options: Any) -> None:
        super().__init__(model_dir, tokenizer_dir, **options)
        if self.tokenizer.mask_token_id is None:
            raise ValueError("its tokenizer has no mask token")
        self.columns = {"prediction": "string", "perplexity": "float"}
        if options.get("batch_tokens") is None:
            self._batch_tokens = batch_tokens(self.model)

    def answer(self, inputs: Sequence[str]) -> list[dict[str, Any] | None]:
        """Return each text with its masks filled, and the perplexity of its other tokens."""
        with self._lock:
            windows = encode_windows(inputs, self.tokenizer, max_length=self._max_length)
            tokens = tokenize(inputs, self.tokenizer)
            framed = frame_parts(tokens, self.tokenizer, max_length=self._max_length)
            windows += [
                {"input_ids": part, "labels": [NOT_COUNTED] * len(part), "index": index}
                for index, parts in enumerate(framed)
                if self.tokenizer.mask_token_id in tokens[index]
                for part in parts
            ]
        indices = [window["index"] for window in windows]
        scores, texts = zip(*self.run(windows, self._measure), strict=True) if windows else ((), ())
        found = perplexities(zip(indices, scores, strict=True), len(inputs))
        # Those of a text's own masks come last, and count instead of what was drawn.
        filled: dict[int, dict[bool, str]] = {index: {} for index in range(len(inputs))}
        for window, text in zip(windows, texts, strict=True):
            parts = filled[window["index"]]
            is_drawn = any(label != NOT_COUNTED for label in window["labels"])
            parts[is_drawn] = f"{parts.get(is_drawn, '')} {text}".strip()
        return [
            None
            if perplexity is None
            else {
                "prediction": filled[index].get(False, filled[index][True]),
                "perplexity": np.float32(perplexity),
            }
            for index, perplexity in enumerate(found)
        ]

    def serve(self, answer: dict[str, Any]) -> dict[str, Any]:
        return {"sequence": answer["prediction"], "perplexity": float(answer["perplexity"])}

    def describe_use(self, name: str) -> str:
        """Describe in Markdown how transformers alone uses an export in the directory ``name``."""
        return f"""```python
from transformers import pipeline

fill = pipeline("fill-mask", "{name}")
fill("a text with a {self.tokenizer.mask_token} in it")  # the most probable tokens, with scores
```

The model was trained on {self._max_length} tokens at once: it has not learnt to use more."""

    def _measure(self, windows: list[dict[str, Any]]) -> list[tuple[np.ndarray, str]]:
        """Return what is counted of each window, shape (tokens, 2), and its text, filled."""
        inputs, labels = build_batch(windows, pad_token_id=int(self.tokenizer.pad_token_id))
        logits = self.logits(inputs)
        scored = score_tokens(logits, labels.to(logits.device)).cpu().numpy()
        texts = fill(logits, inputs["input_ids"].to(logits.device), self.tokenizer)
        return list(zip(scored, texts, strict=True))
