"""Answer with a trained text classifier: texts in, probabilities out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding

from . import base


class ServedModel(base.ServedModel):
    """Longer texts are cut after ``max_length`` tokens, as in training."""

    auto: ClassVar[Any] = AutoModelForSequenceClassification
    purpose: ClassVar[str] = "classify"
    served_columns: ClassVar[dict[str, str]] = {"label": "string", "score": "double"}

    def __init__(self, model_dir: Path, tokenizer_dir: Path, **options: Any) -> None:
        super().__init__(model_dir, tokenizer_dir, **options)
        config = self.model.config
        if config.problem_type not in (None, "single_label_classification"):
            raise ValueError(f"it is for {config.problem_type}, not for one label a text")
        self.label_names = base.read_label_names(config)
        self.columns = {
            "prediction": "string",
            "confidence": "float",
            **{f"probability_{name}": "float" for name in self.label_names},
        }
        self._collate = DataCollatorWithPadding(self.tokenizer)

    def answer(self, inputs: Sequence[str]) -> list[dict[str, Any] | None]:
        """Return label, confidence and probabilities of each text."""
        if not inputs:
            return []
        with self._lock:
            encoded = self.tokenizer(list(inputs), truncation=True, max_length=self._max_length)
        features = [{name: encoded[name][i] for name in encoded} for i in range(len(inputs))]
        return [
            None if row is None else dict(zip(self.columns, self._name(row), strict=True))
            for row in self.run(features, self._classify)
        ]

    def _name(self, probabilities: np.ndarray) -> tuple[Any, ...]:
        return self.label_names[probabilities.argmax()], probabilities.max(), *probabilities

    def serve(self, answer: dict[str, Any]) -> dict[str, Any]:
        return {"label": answer["prediction"], "score": float(answer["confidence"])}

    def describe_use(self, name: str) -> str:
        return f"""Labels: {", ".join(self.label_names)}.

```python
from transformers import pipeline

classify = pipeline("text-classification", "{name}", truncation=True)
classify(["a text", "another one"])              # label and score
classify(["a text", "another one"], top_k=None)  # every label with its score
```

The model was trained on texts of up to {self._max_length} tokens; `truncation=True` cuts longer
ones there, as training did. Without it a longer text is not cut: the model either fails on it, or
answers on more than it was trained to read."""

    def _classify(self, batch: list[dict[str, Any]]) -> np.ndarray:
        return softmax(self.logits(self._collate(batch)).float().cpu().numpy())


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits, shape (…, labels), into probabilities."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
