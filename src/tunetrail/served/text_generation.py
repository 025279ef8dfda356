"""Answer with a causal language model: texts in, how they go on and their perplexity out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from . import base
from .language import (
    NOT_COUNTED,
    batch_tokens,
    build_batch,
    find_frame,
    perplexities,
    score_tokens,
    tokenize,
)

# A window repeats one part in four of the one before, so that its first tokens have context, too.
_OVERLAP = 4
# What transformers takes where a model's own settings name no number.
_NEW_TOKENS = 20


def find_ends(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """Return the token that stands before a text, and the one that ends it.

    The first is what the tokenizer puts there, else the end of the text before.

    Raises:
        ValueError: the tokenizer has no token that ends a text.

    """
    end = tokenizer.eos_token_id
    if end is None:
        raise ValueError("its tokenizer has no token that ends a text")
    before, _ = find_frame(tokenizer)
    return (before[-1] if before else end), end


def encode_windows(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, max_length: int
) -> list[dict[str, Any]]:
    """Encode texts; one longer than the model reads becomes several windows.

    Every token of a text is counted once: it has a label in the first window that it is in. The
    tokens before it in that window are its context, at least a quarter of a window.

    Returns:
        For each window ``input_ids``, ``labels`` and ``index``, the number of its text.

    Raises:
        ValueError: the tokenizer has no token that ends a text, or a window of ``max_length`` has
            no room for a token and what stands before it.

    """
    if max_length < 2:
        raise ValueError(f"a length of {max_length} leaves no room for what stands before a token")
    start, _ = find_ends(tokenizer)
    context = max(max_length // _OVERLAP, 1)
    windows = []
    for index, ids in enumerate(tokenize(texts, tokenizer)):
        place = 0
        while place < len(ids):
            new = ids[place : place + max_length - (context if place else 1)]
            known = ids[max(place + len(new) - max_length, 0) : place] if place else [start]
            labels = [NOT_COUNTED] * len(known) + new
            windows.append({"input_ids": known + new, "labels": labels, "index": index})
            place += len(new)
    return windows


def continue_texts(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
) -> list[str]:
    """Return how texts go on, by the most probable token each time, all in one batch.

    Args:
        texts: their tokens; each has one at least.
        max_new_tokens: a continuation is shorter where the model ends the text.

    """
    # The continuation follows the last token, so padding must come before the text.
    batch = tokenizer.pad(
        {"input_ids": [list(ids) for ids in texts]}, padding_side="left", return_tensors="pt"
    ).to(next(model.parameters()).device)
    with torch.inference_mode():
        found = model.generate(
            **batch,
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )
    new = found[:, batch["input_ids"].shape[1] :]
    decoded: list[str] = tokenizer.batch_decode(new, skip_special_tokens=True)
    return decoded


class ServedModel(base.ServedModel):
    """Perplexity is measured as in training's evaluation: all of a text, in windows."""

    auto: ClassVar[Any] = AutoModelForCausalLM
    purpose: ClassVar[str] = "continue texts"
    served_columns: ClassVar[dict[str, str]] = {"generated_text": "string", "perplexity": "double"}

    def __init__(self, model_dir: Path, tokenizer_dir: Path, **options: Any) -> None:
        super().__init__(model_dir, tokenizer_dir, **options)
        self.columns = {"prediction": "string", "perplexity": "float"}
        if options.get("batch_tokens") is None:
            self._batch_tokens = batch_tokens(self.model)
        wanted = self.model.generation_config.max_new_tokens or _NEW_TOKENS
        self._new_tokens = min(wanted, max(self._max_length - 1, 1))

    def answer(self, inputs: Sequence[str]) -> list[dict[str, Any] | None]:
        """Return the continuation of each text, without the text, and the text's perplexity."""
        with self._lock:
            windows = encode_windows(inputs, self.tokenizer, max_length=self._max_length)
            tokens = tokenize(inputs, self.tokenizer)
            start, _ = find_ends(self.tokenizer)
        room = self._max_length - self._new_tokens
        prompts = [{"input_ids": [start, *ids][-room:] if ids else []} for ids in tokens]
        found = perplexities(
            zip([w["index"] for w in windows], self.run(windows, self._score), strict=True),
            len(inputs),
        )
        return [
            None
            if perplexity is None
            else {"prediction": continuation, "perplexity": np.float32(perplexity)}
            for continuation, perplexity in zip(
                self.run(prompts, self._continue), found, strict=True
            )
        ]

    def serve(self, answer: dict[str, Any]) -> dict[str, Any]:
        return {
            "generated_text": answer["prediction"],
            "perplexity": float(answer["perplexity"]),
        }

    def describe_use(self, name: str) -> str:
        """Describe in Markdown how transformers alone uses an export in the directory ``name``."""
        return f"""```python
from transformers import pipeline

continue_ = pipeline("text-generation", "{name}")
continue_("a beginning", do_sample=False, return_full_text=False)
```

`max_new_tokens` is {self._new_tokens} unless the call gives another number. The model was trained
on blocks of {self._max_length} tokens: it has not learnt to use more context."""

    def _score(self, windows: list[dict[str, Any]]) -> np.ndarray:
        """Return what is counted of each window, shape (windows, tokens, 2)."""
        inputs, labels = build_batch(windows, pad_token_id=int(self.tokenizer.pad_token_id))
        logits = self.logits(inputs)
        return score_next_tokens(logits, labels.to(logits.device)).cpu().numpy()

    def _continue(self, prompts: list[dict[str, Any]]) -> list[str]:
        texts = [prompt["input_ids"] for prompt in prompts]
        return continue_texts(self.model, self.tokenizer, texts, max_new_tokens=self._new_tokens)


def score_next_tokens(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Score tokens of which the logits stand one place before: shape (batch, tokens - 1, 2)."""
    return score_tokens(logits[:, :-1], labels[:, 1:])
