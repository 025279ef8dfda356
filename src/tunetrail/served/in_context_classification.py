"""Answer with a causal language model whose prompt begins with examples of each label."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from . import text_classification

# The name under which the config of a model holds its prompt.
KEY = "in_context"
# Tokens whose keys and values are worked on at once, those of the prompt counted for each text.
_CACHE_TOKENS = 32_768


@dataclass(frozen=True)
class Prompt:
    """A prompt in tokens, for one tokenizer.

    A text is read as ``prefix``, the text, ``middle``, and then one of ``labels``.

    Args:
        prefix: instruction, examples, and what stands before a text: the same for all texts.
        middle: between text and label.
        labels: of each label, in the order of the model's labels.
        frame: how many tokens the tokenizer puts before a text, and after it; they are left out.
        max_text: tokens of a text for which the model has room.
        normalisation: ``sum`` of the log-probabilities of a label's tokens, their ``mean``, ``pmi``
            or ``calibrated``.
        premise: what stands before a label where nothing is said of a text, for ``pmi``.
        blanks: texts that say nothing, for ``calibrated``.

    """

    prefix: list[int]
    middle: list[int]
    labels: list[list[int]]
    frame: list[int]
    max_text: int
    normalisation: str
    premise: list[int]
    blanks: list[list[int]]


class PromptedClassifier(torch.nn.Module):
    """A causal language model that scores labels by how probable they are after a prompt.

    It computes in the type of its weights, also under autocast. What the model makes of the
    beginning of the prompt is computed once; texts go through the model once, and of each label
    those tokens that come before its last one.
    """

    def __init__(self, model: Any, prompt: Prompt) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.prompt = prompt
        # Type and device of the weights -> what they make of the prompt.
        self._known: tuple[object, _Beginning] | None = None

    @property
    def config(self) -> Any:
        """That of the language model."""
        return self.model.config

    def num_parameters(self, *, only_trainable: bool = False) -> int:
        """Count weights as models of transformers do."""
        return int(self.model.num_parameters(only_trainable=only_trainable))

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Score a batch as a model for text classification does: ``logits``, shape (batch, labels).

        With ``labels``, shape (batch,), there is a ``loss``, too.
        """
        texts = [
            row[mask.bool()].tolist() for row, mask in zip(input_ids, attention_mask, strict=True)
        ]
        logits = self.score(texts)
        if labels is None:
            return {"logits": logits}
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    def score(self, texts: Sequence[list[int]]) -> torch.Tensor:
        """Score texts, given as the tokenizer gives them: shape (texts, labels), in nats."""
        before, after = self.prompt.frame
        inner = [ids[before : len(ids) - after] for ids in texts]
        weight = next(self.model.parameters())
        with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
            key = (weight.device, weight.dtype)
            if self._known is None or self._known[0] != key:
                self._known = (key, _Beginning(self.model, self.prompt))
            return self._known[1].score(inner)


class _Beginning:
    """What a model makes of a prompt, with which it scores texts."""

    def __init__(self, model: Any, prompt: Prompt) -> None:
        self._model, self._prompt = model, prompt
        self._device = next(model.parameters()).device
        self._cache = self._read_prefix(prompt.prefix)
        self._prior: torch.Tensor | None = None
        if prompt.normalisation == "pmi":
            cache = self._read_prefix([])
            self._prior = torch.cat([*self._measure([prompt.premise], cache)])
        elif prompt.normalisation == "calibrated":
            blank = torch.stack(self._sum([*prompt.blanks])).softmax(dim=-1)
            self._prior = blank.mean(dim=0, keepdim=True).log()

    def score(self, texts: Sequence[list[int]]) -> torch.Tensor:
        """Return the normalised scores, shape (texts, labels)."""
        scores = torch.stack(self._sum(texts))
        if self._prompt.normalisation == "mean":
            lengths = [len(ids) for ids in self._prompt.labels]
            return scores / torch.tensor(lengths, device=self._device)
        return scores if self._prior is None else scores - self._prior

    def _sum(self, texts: Sequence[list[int]]) -> list[torch.Tensor]:
        """Return the log-probabilities of all labels after each text, shape (labels,) each.

        Texts of the same length go together, so that none is padded: with padding between a text
        and its label, a window of attention would hold fewer tokens.
        """
        found: list[Any] = [None] * len(texts)
        places: dict[int, list[int]] = {}
        for place, ids in enumerate(texts):
            places.setdefault(len(ids), []).append(place)
        for same in places.values():
            ends = [[*texts[place], *self._prompt.middle] for place in same]
            scores = torch.cat([*self._measure(ends, self._cache)])
            for place, score in zip(same, scores, strict=True):
                found[place] = score
        return found

    def _measure(self, ends: list[list[int]], shared: Cache) -> Iterator[torch.Tensor]:
        """Score the labels after some tokens, as many rows of the same length as fit."""
        several = [index for index, ids in enumerate(self._prompt.labels) if len(ids) > 1]
        tokens = shared.get_seq_length() + len(ends[0])
        size = max(_CACHE_TOKENS // (tokens * max(len(several), 1)), 1)
        first = torch.tensor([ids[0] for ids in self._prompt.labels], device=self._device)
        for start in range(0, len(ends), size):
            rows = torch.tensor(ends[start : start + size], device=self._device)
            layers: list[Any] = [_SharedLayer(layer) for layer in shared.layers]
            cache = Cache(layers=layers) if layers else DynamicCache()
            scores = self._log_probabilities(rows, cache, keep=1)[:, 0, first]
            if several:
                scores[:, several] += self._measure_rest(several, len(rows), cache)
            yield scores

    def _measure_rest(self, several: list[int], num_rows: int, cache: Cache) -> torch.Tensor:
        """Score the tokens of labels after their first one, shape (rows, labels)."""
        # What pads a short label on the right comes after all that is read of it.
        rest = [self._prompt.labels[index] for index in several]
        longest = max(len(ids) for ids in rest)
        padded = torch.tensor([ids + [0] * (longest - len(ids)) for ids in rest])
        counted = torch.arange(1, longest) < torch.tensor([[len(ids)] for ids in rest])
        padded, counted = padded.to(self._device), counted.to(self._device)
        cache.batch_repeat_interleave(len(rest))
        known = self._log_probabilities(
            padded[:, :-1].repeat(num_rows, 1), cache, keep=longest - 1
        ).view(num_rows, len(rest), longest - 1, -1)
        targets = padded[:, 1:].expand(num_rows, -1, -1).unsqueeze(dim=-1)
        return (known.gather(-1, targets).squeeze(dim=-1) * counted).sum(dim=-1)

    def _log_probabilities(self, rows: torch.Tensor, cache: Cache, *, keep: int) -> torch.Tensor:
        """Read rows of tokens after those in the cache; return those after the last ``keep``."""
        num_tokens = cache.get_seq_length() + rows.shape[1]
        logits = self._model(
            input_ids=rows,
            # Some models count positions by it.
            attention_mask=torch.ones(len(rows), num_tokens, device=self._device, dtype=torch.long),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep,
        ).logits
        return torch.log_softmax(logits.float(), dim=-1)

    def _read_prefix(self, ids: list[int]) -> Cache:
        # Without the model's config all layers are kept in full, also those with a window.
        cache = DynamicCache()
        if ids:
            self._log_probabilities(torch.tensor([ids], device=self._device), cache, keep=1)
        return cache


class _SharedLayer(DynamicLayer):
    """Keys and values of a prompt, once for all rows, before those of each row."""

    def __init__(self, shared: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._keys, self._values = shared.keys, shared.values

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        size = (len(keys), -1, -1, -1)
        return (
            torch.cat([self._keys.expand(size), keys], dim=-2),
            torch.cat([self._values.expand(size), values], dim=-2),
        )

    def get_seq_length(self) -> int:
        return int(self._keys.shape[-2]) + int(super().get_seq_length())


class ServedModel(text_classification.ServedModel):
    """Longer texts are cut after ``max_length`` tokens, as in the run."""

    auto: ClassVar[Any] = AutoModelForCausalLM
    purpose: ClassVar[str] = "continue texts"

    def __init__(self, model_dir: Path, tokenizer_dir: Path, **options: Any) -> None:
        super().__init__(model_dir, tokenizer_dir, **options)
        prompt = read_prompt(self.model.config)
        self._max_length = min(self._max_length, prompt.max_text)
        self._classifier = PromptedClassifier(self.model, prompt)

    def describe_use(self, name: str) -> str:
        return f"""Labels: {", ".join(self.label_names)}.

The directory holds a causal language model, of which nothing was trained. Its `config.json` holds,
as `{KEY}`, the prompt after which each label is scored. So only Tunetrail answers as the run did:

```
tunetrail predict {name} 'a text'
```

The prompt, as it stands before the label of a text:

```
{describe_prompt(read_prompt(self.model.config), self.tokenizer)}
```"""

    def _classify(self, batch: list[dict[str, Any]]) -> np.ndarray:
        scores = self._classifier.score([row["input_ids"] for row in batch])
        return self._read(scores)


def read_prompt(config: Any) -> Prompt:
    """Read the prompt from the config of a model.

    Raises:
        ValueError: it has none.

    """
    try:
        return Prompt(**getattr(config, KEY))
    except (AttributeError, TypeError) as error:
        raise ValueError(f"its config.json has no {KEY}, which is its prompt") from error


def describe_prompt(prompt: Prompt, tokenizer: Any) -> str:
    """Return the prompt as text, with ``{text}`` for a text."""
    return str(tokenizer.decode(prompt.prefix) + "{text}" + tokenizer.decode(prompt.middle))
