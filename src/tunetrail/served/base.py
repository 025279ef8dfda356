"""What served models share: loading, batches that fit into memory, and the entry for MLflow."""

import json
import math
import pkgutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from . import load_module
from .blank import is_blank
from .invocations import take_over

# Tokens of a batch, padding included.
BATCH_TOKENS = 4096
# Characters for each token that is read. Few texts have fewer tokens, and then more is tried.
_CHARACTERS = 32
# Key of a model's config.json: its pipeline tag, and with which settings it answers.
SETTINGS = "tunetrail"
# Among them, where a run has fitted one: what logits are divided by.
TEMPERATURE = "temperature"


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
    # Name of a column that it reads -> what it may hold: "text", "tokens" (a list of texts),
    # "messages" (a list of role and content).
    inputs: Mapping[str, tuple[str, ...]] = MappingProxyType({"text": ("text",)})
    # Name of an answer's column -> "string", "float" (32 bits), "integer", or "json" (a list or an
    # object).
    columns: dict[str, str]
    # The same of what MLflow serves, with its own types.
    served_columns: ClassVar[dict[str, str]]
    # Longer inputs are refused in a server, which would be busy with one for minutes; None where
    # only their beginning is read.
    most_characters: ClassVar[int | None] = 100_000
    # Why an input that can be read has no answer.
    no_answer: str = "the tokenizer makes no token of the text"

    def __init__(
        self,
        model_dir: Path,
        tokenizer_dir: Path,
        *,
        max_length: int,
        device: str = "cpu",
        batch_tokens: int | None = None,
    ) -> None:
        self.model = load_model(model_dir, self.auto, purpose=self.purpose).eval()
        self.model.to(device)
        self.tokenizer = load_tokenizer(tokenizer_dir)
        if self.model.config.pad_token_id is None:
            self.model.config.pad_token_id = self.tokenizer.pad_token_id
        self._max_length = max_length
        self._batch_tokens = batch_tokens or BATCH_TOKENS
        self._device = device
        # A server answers in several threads, and truncation changes the tokenizer.
        self._lock = threading.Lock()

    @classmethod
    def list_served(cls, config: Any) -> dict[str, str]:
        """Return what MLflow serves of a model with this config, with the types."""
        del config
        return cls.served_columns

    def answer(self, inputs: Sequence[Any]) -> list[dict[str, Any] | None]:
        """Return the columns of each row's answer; None if it has none, for example no token.

        Args:
            inputs: what each row has in the column that is read. Where :attr:`inputs` names
                several, a tuple of what it has in each.

        """
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


def cut(text: str, tokenizer: PreTrainedTokenizerBase, *, max_length: int) -> str:
    """Cut a text far behind the tokens that are read, if it is much longer.

    To make tokens of all of 5 MB takes half a minute, and all but the first are thrown away.
    """
    size = _CHARACTERS * max_length
    while size < len(text):
        # At a space, if there is one, so that the last word is whole.
        end = text.rfind(" ", size // 2, size)
        beginning = text[: end if end > 0 else size]
        if len(tokenizer(beginning, verbose=False)["input_ids"]) > 2 * max_length:
            return beginning
        size *= 8
    return text


def read_settings(config: Any) -> dict[str, Any]:
    """Return with which settings a model answers, as its training has noted in its config."""
    found = getattr(config, SETTINGS, None)
    return dict(found) if isinstance(found, dict) else {}


def read_temperature(config: Any) -> float:
    """Return what a model's logits are divided by; 1 where its training has noted nothing.

    Raises:
        ValueError: it is no number above 0.

    """
    found = read_settings(config).get(TEMPERATURE, 1.0)
    if not is_temperature(found):
        raise ValueError(f"its config.json has the temperature {found!r:.40}, no number above 0")
    return float(found)


def is_temperature(value: object) -> bool:
    """Whether logits can be divided by a value."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value < math.inf  # type: ignore[operator] # it is a number


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


def load_model(folder: Path, auto: Any, *, purpose: str) -> PreTrainedModel:
    """Load weights in fp32, of safetensors alone; no code beside them is run.

    Raises:
        ValueError: some are missing, so that they were trained for something else.

    """
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


def require_vocabulary(tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a tokenizer knows more than special tokens: without its files it may not.

    Raises:
        ValueError: it does not.

    """
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    known = tokenizer.get_vocab().keys() - added - {*tokenizer.all_special_tokens}
    # Some have a mark for the start of a word among them.
    if len(known) < 2:
        raise ValueError(
            "its tokenizer knows no word: the files of its vocabulary are missing (such as "
            "tokenizer.json, vocab.txt or a .model file); copy them from where the model is from"
        )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load a tokenizer that can pad; no code beside it is run.

    Raises:
        ValueError: its files are missing, or it has no token to pad with.

    """
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    require_vocabulary(tokenizer)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise ValueError("its tokenizer has neither a padding nor an end token")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def find_fault_of_text(text: str) -> str | None:
    """Say why a text cannot be read; None where it can."""
    if is_blank(text):
        return "the text is empty"
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        return "the text holds half a surrogate pair"
    return None


class _Answers:
    """The model that MLflow serves: a table in, a row of answers for each of its rows out."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model

    def get_raw_model(self) -> ServedModel:
        """Return what answers; MLflow passes it on."""
        return self._model

    def predict(self, data: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Answer each row of a table with the columns that the model reads.

        Raises:
            MlflowException: a row has no answer; a server then responds with 400.

        """
        from mlflow.exceptions import MlflowException

        del params
        refuse = MlflowException.invalid_parameter_value
        names = [*self._model.inputs]
        rows = [*data[names].itertuples(index=False, name=None)]
        for number, row in enumerate(rows):
            for name, value in zip(names, row, strict=True):
                if fault := self._find_fault(value, name):
                    raise refuse(f"row {number} has no answer: {fault}")
        served = []
        answers = self._model.answer([row if len(row) > 1 else row[0] for row in rows])
        for number, answer in enumerate(answers):
            if answer is None:
                raise refuse(f"row {number} has no answer: {self._model.no_answer}")
            served.append(self._model.serve(answer))
        return pd.DataFrame(served)

    def _find_fault(self, value: Any, name: str) -> str | None:
        if not isinstance(value, str):
            shown = "null" if value is None or value is pd.NA else json.dumps(value, default=str)
            return f"{name!r} holds {shown[:40]}, and no text"
        most = self._model.most_characters
        if most is not None and len(value) > most:
            return (
                f"{name!r} holds {len(value):,} characters, and {most:,} are the most that are "
                "answered at once; split it, or use `tunetrail predict` on a file"
            )
        return find_fault_of_text(value)


def _find_columns(loaded: Any) -> list[str] | None:
    """Name the columns that a model reads which MLflow has loaded; None if it is none of these."""
    try:
        model = loaded.get_raw_model()
    except NotImplementedError:
        return None
    return [*model.inputs] if isinstance(model, ServedModel) else None


def _load_pyfunc(path: str, model_config: Mapping[str, Any]) -> _Answers:
    """Load a logged model: MLflow calls this by its name."""
    folder = Path(path)
    # All of it now: the files of this model may be gone when another one is loaded.
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        load_module(module.name)
    take_over(_find_columns)
    served: type[ServedModel] = load_module(model_config["pipeline_tag"]).ServedModel
    return _Answers(
        served(
            folder / "model",
            folder / "components" / "tokenizer",
            max_length=int(model_config["max_length"]),
            device="cuda" if torch.cuda.is_available() else "cpu",
        )
    )
