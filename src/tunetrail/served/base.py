"""What served models share: loading, batches that fit into memory, and the entry for MLflow."""

import pkgutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from . import load_module

# Tokens of a batch, padding included.
BATCH_TOKENS = 4096


class ServedModel:
    """Weights and tokenizer, ready to answer as in training's evaluation: fp32, no dropout.

    Args:
        max_length: how many tokens are read at once, as in training.
        batch_tokens: how many tokens, padding included, go through the model at once; a single
            longer input still does. None is 4,096.

    Raises:
        ValueError: the files hold no model that was trained for this, or no tokenizer that can pad.
        OSError: a file cannot be read.

    """

    # The class of transformers that loads it, and what it was trained to do.
    auto: ClassVar[Any]
    purpose: ClassVar[str]
    # What it reads: "text", "tokens" (a list of texts), or both.
    inputs: tuple[str, ...] = ("text",)
    # Name of an answer's column -> "string", "float" (32 bits), or "json" (a list or an object).
    columns: dict[str, str]
    # The same of what MLflow serves, with its own types.
    served_columns: ClassVar[dict[str, str]]

    def __init__(
        self,
        model_dir: Path,
        tokenizer_dir: Path,
        *,
        max_length: int,
        device: str = "cpu",
        batch_tokens: int | None = None,
    ) -> None:
        self.model = _load_model(model_dir, self.auto, purpose=self.purpose).eval()
        self.model.to(device)
        self.tokenizer = _load_tokenizer(tokenizer_dir)
        if self.model.config.pad_token_id is None:
            self.model.config.pad_token_id = self.tokenizer.pad_token_id
        self._max_length = max_length
        self._batch_tokens = batch_tokens or BATCH_TOKENS
        self._device = device
        # A server answers in several threads, and truncation changes the tokenizer.
        self._lock = threading.Lock()

    def answer(self, inputs: Sequence[Any]) -> list[dict[str, Any] | None]:
        """Return the columns of each input's answer; None if the tokenizer makes no token of it."""
        raise NotImplementedError

    def describe_use(self, name: str) -> str:
        """Describe in Markdown how transformers alone uses an export in the directory ``name``."""
        raise NotImplementedError

    def serve(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Return what MLflow serves of an answer."""
        raise NotImplementedError

    def run(
        self,
        features: Sequence[dict[str, Any]],
        compute: Callable[[list[dict[str, Any]]], Iterable[Any]],
    ) -> list[Any]:
        """Compute something of each row of features, the longest first, as many as fit at once.

        Args:
            features: with ``input_ids``; a row without a token gives None.
            compute: takes rows of features and returns a value for each, in their order.

        Raises:
            torch.OutOfMemoryError: a single row does not fit into the GPU's memory.

        """
        found: list[Any] = [None] * len(features)
        lengths = [len(row["input_ids"]) for row in features]
        order = [i for i in np.argsort(lengths, kind="stable")[::-1].tolist() if lengths[i]]
        start = 0
        while start < len(order):
            size = max(self._batch_tokens // lengths[order[start]], 1)
            chosen = order[start : start + size]
            try:
                computed = compute([features[i] for i in chosen])
            except torch.OutOfMemoryError:
                if len(chosen) == 1:
                    raise
                # This batch did not fit: use smaller ones from now on.
                self._batch_tokens = len(chosen) // 2 * lengths[order[start]]
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            else:
                for i, value in zip(chosen, computed, strict=True):
                    found[i] = value
                start += len(chosen)
        return found

    def logits(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Run a collated batch through the model."""
        inputs = {name: tensor.to(self._device) for name, tensor in batch.items()}
        with torch.inference_mode():
            logits: torch.Tensor = self.model(**inputs).logits
        return logits


def read_label_names(config: Any) -> tuple[str, ...]:
    """Return the label names in the order of the model's outputs.

    Raises:
        ValueError: there are fewer than two, or two are equal.

    """
    names = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            f"its labels are {', '.join(names)}; two or more different names are needed in "
            "id2label of config.json"
        )
    return names


def _load_model(folder: Path, auto: Any, *, purpose: str) -> PreTrainedModel:
    model: PreTrainedModel
    model, loaded = auto.from_pretrained(
        folder,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    if loaded["missing_keys"]:
        missing = ", ".join(sorted(loaded["missing_keys"])[:3])
        raise ValueError(f"its weights lack {missing}: it was not trained to {purpose}")
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
    """The model that MLflow serves: the first column of a table in, the served columns out."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model

    def predict(self, data: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Answer each text.

        Raises:
            MlflowException: a text has no token; a server then responds with 400.

        """
        from mlflow.exceptions import MlflowException

        del params
        served = []
        for number, answer in enumerate(self._model.answer(data.iloc[:, 0].tolist())):
            if answer is None:
                raise MlflowException.invalid_parameter_value(
                    f"text {number} is empty: the tokenizer makes no token of it"
                )
            served.append(self._model.serve(answer))
        return pd.DataFrame(served, columns=list(self._model.served_columns))


def _load_pyfunc(path: str, model_config: Mapping[str, Any]) -> _Answers:
    """Load a logged model: MLflow calls this by its name."""
    folder = Path(path)
    # All of it now: the files of this model may be gone when another one is loaded.
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        load_module(module.name)
    served: type[ServedModel] = load_module(model_config["pipeline_tag"]).ServedModel
    return _Answers(
        served(
            folder / "model",
            folder / "components" / "tokenizer",
            max_length=int(model_config["max_length"]),
            device="cuda" if torch.cuda.is_available() else "cpu",
        )
    )
