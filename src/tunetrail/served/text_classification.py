"""Answer with a trained text classifier: texts in, probabilities out, batched by length.

``tunetrail predict`` uses it. Every logged model has a copy of this one file, which answers
``mlflow.pyfunc.load_model`` and ``mlflow models serve``. So it imports nothing of this package.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

# The columns of a served model's answer, with the types of MLflow.
COLUMNS = {"label": "string", "score": "double"}

# Tokens of a batch, padding included.
BATCH_TOKENS = 4096


class ServedModel:
    """Weights and tokenizer, ready to answer as in training's evaluation: fp32, no dropout.

    Args:
        max_length: longer texts are cut after this many tokens, as in training.
        batch_tokens: how many tokens, padding included, go through the model at once; a single
            longer text still does. None is 4,096.

    Raises:
        ValueError: the files hold no trained classifier of one label a text, or no tokenizer
            that can pad.
        OSError: a file cannot be read.

    """

    inputs = ("text",)

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
        if self.model.config.pad_token_id is None:
            self.model.config.pad_token_id = self.tokenizer.pad_token_id
        self.label_names = _read_labels(self.model.config)
        self.columns = {
            "prediction": "string",
            "confidence": "float",
            **{f"probability_{name}": "float" for name in self.label_names},
        }
        self._max_length = max_length
        self._batch_tokens = batch_tokens or BATCH_TOKENS
        self._device = device
        self._collate = DataCollatorWithPadding(self.tokenizer)
        # A server answers in several threads, and truncation changes the tokenizer.
        self._lock = threading.Lock()

    def answer(self, texts: Sequence[str]) -> list[dict[str, Any] | None]:
        """Return the columns of each text's answer; None if the tokenizer makes no token of it."""
        return [
            None
            if np.isnan(row[0])
            else dict(
                zip(self.columns, (self.label_names[row.argmax()], row.max(), *row), strict=True)
            )
            for row in self.probabilities(texts)
        ]

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Return the probability of each label, shape (texts, labels), float32.

        The row is NaN if the tokenizer makes no token of the text.

        Raises:
            torch.OutOfMemoryError: a single text does not fit into the GPU's memory.

        """
        found = np.full((len(texts), len(self.label_names)), np.nan, dtype=np.float32)
        if not texts:
            return found
        with self._lock:
            encoded = self.tokenizer(list(texts), truncation=True, max_length=self._max_length)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        order = [i for i in np.argsort(lengths, kind="stable")[::-1].tolist() if lengths[i]]
        start = 0
        while start < len(order):
            size = max(self._batch_tokens // lengths[order[start]], 1)
            chosen = order[start : start + size]
            batch = [{name: encoded[name][i] for name in encoded} for i in chosen]
            try:
                found[chosen] = self._classify(batch)
            except torch.OutOfMemoryError:
                if len(chosen) == 1:
                    raise
                # This batch did not fit: use smaller ones from now on.
                self._batch_tokens = len(chosen) // 2 * lengths[order[start]]
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            else:
                start += len(chosen)
        return found

    def describe_use(self, name: str) -> str:
        """Describe in Markdown how transformers alone uses an export in the directory ``name``."""
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
        inputs = {name: tensor.to(self._device) for name, tensor in self._collate(batch).items()}
        with torch.inference_mode():
            logits = self.model(**inputs).logits.float().cpu().numpy()
        shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def _read_labels(config: Any) -> tuple[str, ...]:
    """Return the label names in the order of the model's outputs."""
    if config.problem_type not in (None, "single_label_classification"):
        raise ValueError(f"it is for {config.problem_type}, not for one label a text")
    names = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            f"its labels are {', '.join(names)}; two or more different names are needed in "
            "id2label of config.json"
        )
    return names


def _load_model(folder: Path) -> PreTrainedModel:
    model: PreTrainedModel
    model, loaded = AutoModelForSequenceClassification.from_pretrained(
        folder,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    if loaded["missing_keys"]:
        missing = ", ".join(sorted(loaded["missing_keys"])[:3])
        raise ValueError(f"its weights lack {missing}: it was not trained to classify")
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
    """The model that MLflow serves: the first column of a table in, label and score out."""

    def __init__(self, classifier: ServedModel) -> None:
        self._classifier = classifier

    def predict(self, data: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Answer each text.

        Raises:
            MlflowException: a text has no token; a server then responds with 400.

        """
        from mlflow.exceptions import MlflowException

        del params
        probabilities = self._classifier.probabilities(data.iloc[:, 0].tolist())
        empty = np.flatnonzero(np.isnan(probabilities[:, 0]))
        if len(empty):
            raise MlflowException.invalid_parameter_value(
                f"text {empty[0]} is empty: the tokenizer makes no token of it"
            )
        chosen = probabilities.argmax(axis=-1)
        return pd.DataFrame(
            {
                "label": [self._classifier.label_names[index] for index in chosen],
                "score": probabilities.max(axis=-1).astype(float),
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
