"""Answer with a trained text classifier: texts, or pairs of them, in; probabilities out.

The config of the model says what it reads and how: ``problem_type`` is the word of transformers for
one label a text, or any number; ``reads_text_pairs`` and ``threshold`` are written by training, and
so is a temperature, by which logits are divided.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding

from . import base
from .pairs import count_added, encode_pairs

_TEXT = ("text",)


class Reading(Protocol):
    """How the logits of a text are read."""

    columns: dict[str, str]
    served_columns: ClassVar[dict[str, str]]

    def __init__(self, config: Any, names: Sequence[str]) -> None: ...

    def normalise(self, logits: np.ndarray) -> np.ndarray:
        """Turn logits into probabilities, of the same shape."""

    def answer(self, probabilities: np.ndarray) -> dict[str, Any]:
        """Return the columns of a text's answer."""

    def serve(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Return what MLflow serves of it."""


class OneLabel(Reading):
    """One of the labels is right."""

    served_columns: ClassVar[dict[str, str]] = {"label": "string", "score": "double"}

    def __init__(self, config: Any, names: Sequence[str]) -> None:
        del config
        self._names = names
        self.columns = {"prediction": "string", "confidence": "float", **_probabilities(names)}

    def normalise(self, logits: np.ndarray) -> np.ndarray:
        return softmax(logits)

    def answer(self, probabilities: np.ndarray) -> dict[str, Any]:
        values = (self._names[int(probabilities.argmax())], probabilities.max(), *probabilities)
        return dict(zip(self.columns, values, strict=True))

    def serve(self, answer: dict[str, Any]) -> dict[str, Any]:
        return {"label": answer["prediction"], "score": float(answer["confidence"])}


class EachLabel(Reading):
    """Any number of the labels is right: those whose probability reaches a threshold."""

    served_columns: ClassVar[dict[str, str]] = {
        "labels": "string",
        "score": "double",
        "scores": "string",
    }

    def __init__(self, config: Any, names: Sequence[str]) -> None:
        self._names = names
        # A model that was trained elsewhere has none.
        threshold = float(getattr(config, "threshold", 0.5))
        self._threshold = temper(threshold, base.read_temperature(config))
        self.columns = {
            "prediction": "string",
            "predicted_labels": "json",
            **_probabilities(names),
        }

    def normalise(self, logits: np.ndarray) -> np.ndarray:
        return sigmoid(logits)

    def answer(self, probabilities: np.ndarray) -> dict[str, Any]:
        chosen = choose_labels(probabilities, self._names, threshold=self._threshold)
        values = (", ".join(chosen), chosen, *probabilities)
        return dict(zip(self.columns, values, strict=True))

    def serve(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Return the labels, the highest probability of any, and those of all; lists as JSON."""
        scores = {name: round(float(answer[f"probability_{name}"]), 6) for name in self._names}
        return {
            "labels": json.dumps(answer["predicted_labels"], ensure_ascii=False),
            "score": max(float(answer[f"probability_{name}"]) for name in self._names),
            "scores": json.dumps(scores, ensure_ascii=False),
        }


# By the config's problem_type; transformers trains on one label where it says nothing.
_READINGS: dict[str | None, type[Reading]] = {
    None: OneLabel,
    "single_label_classification": OneLabel,
    "multi_label_classification": EachLabel,
}


class ServedModel(base.ServedModel):
    """Longer texts are cut after ``max_length`` tokens, as in training."""

    auto: ClassVar[Any] = AutoModelForSequenceClassification
    purpose: ClassVar[str] = "classify"
    most_characters: ClassVar[int | None] = None

    def __init__(self, model_dir: Path, tokenizer_dir: Path, **options: Any) -> None:
        super().__init__(model_dir, tokenizer_dir, **options)
        config = self.model.config
        if config.problem_type not in _READINGS:
            raise ValueError(f"it is for {config.problem_type}, not for labels of a text")
        self.label_names = base.read_label_names(config)
        self._temperature = base.read_temperature(config)
        self._reading = _READINGS[config.problem_type](config, self.label_names)
        self.columns = self._reading.columns
        if getattr(config, "reads_text_pairs", False):
            self.inputs = MappingProxyType({"text": _TEXT, "text_pair": _TEXT})
        self._collate = DataCollatorWithPadding(self.tokenizer)

    @classmethod
    def list_served(cls, config: Any) -> dict[str, str]:
        return _READINGS[config.problem_type].served_columns

    def answer(self, inputs: Sequence[Any]) -> list[dict[str, Any] | None]:
        """Return labels and probabilities of each text, or pair of texts."""
        if not inputs:
            return []
        how: dict[str, Any] = {"truncation": True, "max_length": self._max_length}
        with self._lock:
            if len(self.inputs) == 1:
                encoded = self.tokenizer([self._cut(text) for text in inputs], **how)
            else:
                firsts, seconds = zip(*(map(self._cut, pair) for pair in inputs), strict=True)
                encoded = encode_pairs(self.tokenizer, firsts, seconds, **how)
        features = [{name: encoded[name][i] for name in encoded} for i in range(len(inputs))]
        return [
            None if row is None else self._reading.answer(row)
            for row in self.run(features, self._classify)
        ]

    def serve(self, answer: dict[str, Any]) -> dict[str, Any]:
        return self._reading.serve(answer)

    def describe_use(self, name: str) -> str:
        example, another = '"a text"', '"another one"'
        if len(self.inputs) > 1:
            line_end = "\\n" * count_added(self.tokenizer)
            example = f'{{"text": "a text", "text_pair": "{line_end}its pair"}}'
            another = f'{{"text": "another one", "text_pair": "{line_end}its pair"}}'
        calibrated = (
            ""
            if self._temperature == 1
            else f"""

The probabilities of `tunetrail predict` and of MLflow are of logits divided by
{self._temperature:.6g}, the temperature that the run fitted. A pipeline does not divide: its labels
are the same, its scores are those from before. `function_to_apply="none"` gives the logits."""
        )
        return f"""Labels: {", ".join(self.label_names)}.

```python
from transformers import pipeline

classify = pipeline("text-classification", "{name}", truncation=True)
classify([{example}, {another}])              # label and score
classify([{example}, {another}], top_k=None)  # every label with its score
```

The model was trained on texts of up to {self._max_length} tokens; `truncation=True` cuts longer
ones there, as training did. Without it a longer text is not cut: the model either fails on it, or
answers on more than it was trained to read.{calibrated}"""

    def _cut(self, text: str) -> str:
        return base.cut(text, self.tokenizer, max_length=self._max_length)

    def _classify(self, batch: list[dict[str, Any]]) -> np.ndarray:
        return self._read(self.logits(self._collate(batch)))

    def _read(self, logits: torch.Tensor) -> np.ndarray:
        return self._reading.normalise(logits.float().cpu().numpy() / self._temperature)


def choose_labels(
    probabilities: np.ndarray, names: Sequence[str], *, threshold: float
) -> list[str]:
    """Return the labels of a text whose probability reaches the threshold, in the model's order."""
    return [name for name, share in zip(names, probabilities, strict=True) if share >= threshold]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits, shape (…, labels), into probabilities of which one is right."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Turn logits into probabilities, each by itself; without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))


def temper(probability: float, temperature: float) -> float:
    """Return what a probability becomes where the logit behind it is divided by a temperature."""
    if temperature == 1:
        return probability
    odds: float = (probability / (1 - probability)) ** (1 / temperature)
    return odds / (1 + odds)


def _probabilities(names: Sequence[str]) -> dict[str, str]:
    return {f"probability_{name}": "float" for name in names}
