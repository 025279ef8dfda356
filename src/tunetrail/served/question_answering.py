"""Answer with a trained reader: questions and contexts in, spans of the contexts out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from transformers import (
    AutoModelForQuestionAnswering,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
)

from . import base
from .pairs import count_added, encode_pairs

# Windows overlap by a quarter of their length.
_OVERLAP = 4
# With fewer tokens a window has no room for a question, its context, and the overlap.
_LEAST = 24
# Longest answer, in tokens, of a model that was not trained here; the SQuAD scripts have it.
_ANSWER_TOKENS = 30
_LOWEST = -1e30


@dataclass(frozen=True)
class Answer:
    """A span of a context, or the statement that it holds no answer: an empty text at -1.

    ``confidence`` is the probability of its start times that of its end, in its window;
    ``no_answer_score`` is how much higher the logits of "no answer" are than those of the span.
    """

    text: str
    start: int
    end: int
    confidence: float
    no_answer_score: float


def encode_windows(
    questions: Sequence[str],
    contexts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
) -> list[dict[str, Any]]:
    """Encode questions with their contexts; a context that does not fit becomes several windows.

    Each window has the whole question. Windows overlap by a quarter of ``max_length``: every span
    of fewer tokens lies whole in one of them.

    Returns:
        For each window the model's inputs; ``index``, the number of its row; and ``offsets``, for
        each token where it starts and ends in the context, else [-1, -1]. A row has no window if
        its question has no token, or more than half of ``max_length``, or its context has none.

    Raises:
        ValueError: the tokenizer cannot give the position of a token in its text, or the length
            leaves no room for a context.

    """
    if not tokenizer.is_fast:
        raise ValueError("its tokenizer gives no positions of tokens; a fast one is needed")
    if max_length < _LEAST:
        raise ValueError(f"a length of {max_length} leaves no room; {_LEAST} is the least")
    lengths = [
        len(ids) for ids in tokenizer(list(questions), add_special_tokens=False)["input_ids"]
    ]
    kept = [row for row, length in enumerate(lengths) if 0 < length <= max_length // 2]
    if not kept:
        return []
    encoded = encode_pairs(
        tokenizer,
        [questions[row] for row in kept],
        [contexts[row] for row in kept],
        truncation="only_second",
        max_length=max_length,
        stride=max_length // _OVERLAP,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    rows = encoded.pop("overflow_to_sample_mapping")
    offsets = encoded.pop("offset_mapping")
    added = count_added(tokenizer)
    windows = []
    for number, row in enumerate(rows):
        spans = [
            # A token of the line end before the context may have the context's first character.
            [max(start - added, 0), end - added]
            if part == 1 and end > max(start, added)
            else [-1, -1]
            for part, (start, end) in zip(
                encoded.sequence_ids(number), offsets[number], strict=True
            )
        ]
        if any(end > 0 for _, end in spans):
            inputs = {name: encoded[name][number] for name in encoded}
            windows.append({**inputs, "index": kept[row], "offsets": spans})
    return windows


def find_answer(
    context: str,
    windows: Sequence[tuple[Sequence[Sequence[int]], np.ndarray]],
    *,
    max_answer_tokens: int,
    may_abstain: bool,
) -> Answer:
    """Find the best span of a context over its windows.

    A span's score is the logit of its start plus that of its end. "No answer" is scored by the
    first token of a window, and a context has none if every window says so.

    Args:
        windows: offsets as :func:`encode_windows` gives them, and logits of shape (tokens, 2), in
            which padding may follow.
        max_answer_tokens: spans are at most this long.
        may_abstain: whether "no answer" is an answer, where its score is higher than any span's.

    """
    spans = [_find_span(offsets, logits, max_answer_tokens) for offsets, logits in windows]
    best = max(spans, key=lambda span: span[0])
    # The window that would least say so.
    nulls = [float(logits[0].sum()) for _, logits in windows]
    least = int(np.argmin(nulls))
    difference = nulls[least] - best[0]
    if may_abstain and difference > 0:
        offsets, logits = windows[least]
        return Answer("", -1, -1, _confidence(offsets, logits, 0, 0), difference)
    number = spans.index(best)
    offsets, logits = windows[number]
    _, first, last = best
    start, end = offsets[first][0], offsets[last][1]
    text = context[start:end]
    # A token may begin with the space before its word.
    start += len(text) - len(text.lstrip())
    confidence = _confidence(offsets, logits, first, last)
    return Answer(text.strip(), start, start + len(text.strip()), confidence, difference)


def _find_span(
    offsets: Sequence[Sequence[int]], logits: np.ndarray, max_answer_tokens: int
) -> tuple[float, int, int]:
    """Return the score of the best span of a window, its first token and its last."""
    is_context = np.asarray(offsets)[:, 1] > 0
    starts, ends = np.where(is_context[:, None], logits[: len(offsets)], _LOWEST).T
    padded = np.concatenate([ends, np.full(max_answer_tokens - 1, _LOWEST)])
    reachable = sliding_window_view(padded, max_answer_tokens)
    scores = starts + reachable.max(axis=1)
    first = int(scores.argmax())
    return float(scores[first]), first, first + int(reachable[first].argmax())


def _confidence(
    offsets: Sequence[Sequence[int]], logits: np.ndarray, first: int, last: int
) -> float:
    """Return the probability of a start times that of an end, of all places that can be one."""
    can_be = np.asarray(offsets)[:, 1] > 0
    can_be[0] = True
    found = np.where(can_be[:, None], logits[: len(offsets)], -np.inf).astype(np.float64)
    shifted = np.exp(found - found.max(axis=0))
    shares = shifted / shifted.sum(axis=0)
    return float(shares[first, 0] * shares[last, 1])


class ServedModel(base.ServedModel):
    """Longer contexts are read in windows of ``max_length`` tokens, as in training."""

    auto: ClassVar[Any] = AutoModelForQuestionAnswering
    purpose: ClassVar[str] = "answer questions"
    served_columns: ClassVar[dict[str, str]] = {
        "answer": "string",
        "score": "double",
        "start": "long",
        "end": "long",
    }
    inputs = MappingProxyType({"question": ("text",), "context": ("text",)})
    no_answer: str = (
        "the tokenizer makes no token of the question or context, or the question has more than "
        "half of the tokens that the model reads"
    )

    def __init__(self, model_dir: Path, tokenizer_dir: Path, **options: Any) -> None:
        super().__init__(model_dir, tokenizer_dir, **options)
        # Outputs are read by the position of their tokens, so padding must come after them.
        self.tokenizer.padding_side = "right"
        self.columns = {
            "prediction": "string",
            "start": "integer",
            "end": "integer",
            "confidence": "float",
            "no_answer_score": "float",
        }
        config = self.model.config
        self._how: dict[str, Any] = {
            "max_answer_tokens": int(getattr(config, "max_answer_tokens", _ANSWER_TOKENS)),
            "may_abstain": bool(getattr(config, "may_abstain", False)),
        }
        self._collate = DataCollatorWithPadding(self.tokenizer)

    def answer(self, inputs: Sequence[tuple[str, str]]) -> list[dict[str, Any] | None]:
        """Return the answer to each question in its context, with the characters where it is."""
        if not inputs:
            return []
        questions, contexts = zip(*inputs, strict=True)
        with self._lock:
            windows = encode_windows(
                questions, contexts, self.tokenizer, max_length=self._max_length
            )
        of_rows: list[list[tuple[Any, np.ndarray]]] = [[] for _ in inputs]
        for window, logits in zip(windows, self.run(windows, self._read), strict=True):
            of_rows[window["index"]].append((window["offsets"], logits))
        return [
            self._describe(find_answer(context, found, **self._how)) if found else None
            for context, found in zip(contexts, of_rows, strict=True)
        ]

    def _describe(self, answer: Answer) -> dict[str, Any]:
        return {
            "prediction": answer.text,
            "start": answer.start,
            "end": answer.end,
            "confidence": np.float32(answer.confidence),
            "no_answer_score": np.float32(answer.no_answer_score),
        }

    def serve(self, answer: dict[str, Any]) -> dict[str, Any]:
        return {
            "answer": answer["prediction"],
            "score": float(answer["confidence"]),
            "start": answer["start"],
            "end": answer["end"],
        }

    def describe_use(self, name: str) -> str:
        line_end = "\\n" * count_added(self.tokenizer)
        return f"""transformers 5 has no pipeline for it. With a question and a context of up to
{self._max_length} tokens:

```python
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForQuestionAnswering.from_pretrained("{name}")
inputs = tokenizer("a question", "{line_end}its context", return_tensors="pt")
with torch.inference_mode():
    outputs = model(**inputs)
first, last = int(outputs.start_logits.argmax()), int(outputs.end_logits.argmax())
tokenizer.decode(inputs["input_ids"][0, first : last + 1])  # the first token: no answer
```

`tunetrail predict {name} --input FILE` reads longer contexts in windows, and gives the characters
at which an answer starts and ends."""

    def _read(self, windows: list[dict[str, Any]]) -> np.ndarray:
        """Return the logits of start and end, shape (windows, tokens, 2)."""
        features = [
            {name: value for name, value in window.items() if name not in ("index", "offsets")}
            for window in windows
        ]
        batch = {name: value.to(self._device) for name, value in self._collate(features).items()}
        with torch.inference_mode():
            outputs = self.model(**batch)
        return stack_logits(outputs).float().cpu().numpy()


def stack_logits(outputs: Any) -> torch.Tensor:
    """Put the logits of starts and ends together, shape (batch, tokens, 2)."""
    return torch.stack([outputs["start_logits"], outputs["end_logits"]], dim=-1)
