"""How much of a reference a model knows: by its language head, or by a probe on its features."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tunetrail.evaluation.forgetting.references import Reference
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import from_pretrained
from tunetrail.served import fill_mask, text_generation
from tunetrail.served.language import (
    NOT_COUNTED,
    batch_tokens,
    build_batch,
    find_frame,
    score_tokens,
    tokenize,
)
from tunetrail.tasks.base import Array

# Tokens of a text that are read, and texts in a batch.
LENGTH, BATCH = 128, 16
_NUM_FOLDS = 5

# ``input_ids``, ``labels`` and ``index``, the number of its text.
Window = dict[str, Any]
Load = Callable[[], PreTrainedModel]


class Measure(Protocol):
    """What a text costs a model, such as a loss: the mean cost rises when it forgets."""

    name: ClassVar[str]  # in the names of metrics
    title: ClassVar[str]  # in a sentence
    unit: ClassVar[str]  # of the cost
    fewest_rows: ClassVar[int]  # with fewer texts chance decides

    def encode(self, reference: Reference, tokenizer: PreTrainedTokenizerBase) -> list[Window]:
        """Turn each text into one input; those of which nothing can be measured are left out."""

    def load(self, checkpoint: Checkpoint) -> PreTrainedModel | None:
        """Load what training started from; None: it has no part that this measure needs."""

    def select(self, model: PreTrainedModel) -> torch.nn.Module:
        """Return the part of a model that is measured: what is not trained in it is not forgotten.

        Args:
            model: of the task, or as :meth:`load` returned it.

        """

    def adopt(self, model: PreTrainedModel, load: Load) -> PreTrainedModel | None:
        """Return the tuned model in the form that is measured; None: there is none.

        Args:
            model: of the task.
            load: what training started from, once more.

        """

    def costs(self, model: PreTrainedModel, windows: Sequence[Window]) -> Array:
        """Return of each input the sum of its costs and of how many, shape (windows, 2)."""

    def value(self, cost: float) -> float:
        """Turn a mean cost into what people know: a perplexity, an accuracy."""


class _Perplexity:
    """The cost of a token is its loss."""

    title: ClassVar[str] = "perplexity"
    unit: ClassVar[str] = "nats a token"
    fewest_rows: ClassVar[int] = 8
    _auto: ClassVar[Any] = AutoModelForCausalLM

    def load(self, checkpoint: Checkpoint) -> PreTrainedModel | None:
        model, lacking = _load(self._auto, checkpoint)
        # A new head says nothing of what the model knew.
        return None if lacking else model

    def select(self, model: PreTrainedModel) -> torch.nn.Module:
        return model

    def adopt(self, model: PreTrainedModel, load: Load) -> PreTrainedModel | None:
        del load
        return model

    def costs(self, model: PreTrainedModel, windows: Sequence[Window]) -> Array:
        found = np.zeros((len(windows), 2))
        for places, inputs, targets in _batches(model, windows, most=batch_tokens(model)):
            scored = self._score(model(**inputs).logits, targets)
            counted = scored[..., 0] != NOT_COUNTED
            losses = torch.where(counted, scored[..., 0].double(), 0).sum(dim=1)
            found[places] = torch.stack([losses, counted.sum(dim=1)], dim=1).cpu().numpy()
        return found

    def value(self, cost: float) -> float:
        return math.exp(min(cost, 100.0))

    def _score(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class OwnPerplexity(_Perplexity):
    """Of a causal language model, with the head that is tuned with it."""

    name: ClassVar[str] = "perplexity"

    def encode(self, reference: Reference, tokenizer: PreTrainedTokenizerBase) -> list[Window]:
        length = min(LENGTH, tokenizer.model_max_length)
        windows = text_generation.encode_windows(reference.texts, tokenizer, max_length=length)
        return _first_of_each(windows)

    def _score(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return text_generation.score_next_tokens(logits, targets)


class HeadPerplexity(OwnPerplexity):
    """Of a decoder that is tuned for something else: its body under the head that it came with.

    That head is often the matrix of the embeddings, which is tuned with the body. So the head is
    read from the checkpoint again.
    """

    def select(self, model: PreTrainedModel) -> torch.nn.Module:
        return model.base_model

    def adopt(self, model: PreTrainedModel, load: Load) -> PreTrainedModel | None:
        whole, body = load(), model.base_model
        if type(whole.base_model) is not type(body):
            return None
        setattr(whole, whole.base_model_prefix, body)
        return whole


class MaskedPerplexity(_Perplexity):
    """Of a masked language model: of each masked token among all others, a pseudo-perplexity."""

    name: ClassVar[str] = "pseudo_perplexity"
    title: ClassVar[str] = "pseudo-perplexity"
    _auto: ClassVar[Any] = AutoModelForMaskedLM

    def encode(self, reference: Reference, tokenizer: PreTrainedTokenizerBase) -> list[Window]:
        length = min(LENGTH, tokenizer.model_max_length)
        windows = fill_mask.encode_windows(reference.texts, tokenizer, max_length=length)
        return _first_of_each(windows)

    def _score(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return score_tokens(logits, targets)


class Probe:
    """Of an encoder: whether a logistic regression on its frozen features tells labels apart.

    The features of a text are the mean of those of its tokens. Each text is judged by a regression
    that was fitted without it. The cost is 1 where it is wrong.
    """

    name: ClassVar[str] = "probe_accuracy"
    title: ClassVar[str] = "accuracy of a linear probe"
    unit: ClassVar[str] = "accuracy"
    fewest_rows: ClassVar[int] = 60

    def encode(self, reference: Reference, tokenizer: PreTrainedTokenizerBase) -> list[Window]:
        before, after = find_frame(tokenizer)
        room = min(LENGTH, tokenizer.model_max_length) - len(before) - len(after)
        codes = {label: code for code, label in enumerate(sorted({*reference.labels}))}
        return [
            {"input_ids": [*before, *ids[:room], *after], "labels": [codes[label]], "index": index}
            for index, (ids, label) in enumerate(
                zip(tokenize(reference.texts, tokenizer), reference.labels, strict=True)
            )
            if ids and room > 0
        ]

    def load(self, checkpoint: Checkpoint) -> PreTrainedModel | None:
        model, lacking = _load(AutoModel, checkpoint)
        # Features are read before the pooler, which language models do not have.
        return None if any("pooler" not in name for name in lacking) else model

    def select(self, model: PreTrainedModel) -> torch.nn.Module:
        return _encoder(model)

    def adopt(self, model: PreTrainedModel, load: Load) -> PreTrainedModel | None:
        del load
        return model

    def costs(self, model: PreTrainedModel, windows: Sequence[Window]) -> Array:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold, cross_val_predict
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        encoder, rows = _encoder(model), []
        order = []
        for places, inputs, _ in _batches(model, windows):
            states = encoder(**inputs).last_hidden_state.float()
            mask = inputs["attention_mask"][..., None]
            rows.append(((states * mask).sum(dim=1) / mask.sum(dim=1)).cpu().numpy())
            order += places
        features = np.concatenate(rows)[np.argsort(order)]
        codes = np.array([window["labels"][0] for window in windows])
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))
        folds = StratifiedKFold(_NUM_FOLDS, shuffle=True, random_state=0)
        wrong = cross_val_predict(probe, features.astype(float), codes, cv=folds) != codes
        return np.stack([wrong, np.ones(len(wrong))], axis=1).astype(float)

    def value(self, cost: float) -> float:
        return 1 - cost


def _encoder(model: PreTrainedModel) -> torch.nn.Module:
    """Return the body of a model, and of one with a decoder beside it the encoder."""
    body: torch.nn.Module = model.get_encoder() if model.config.is_encoder_decoder else model
    return body.base_model if isinstance(body, PreTrainedModel) else body


def _load(auto: Any, checkpoint: Checkpoint) -> tuple[PreTrainedModel, list[str]]:
    """Load a model, and name its weights that the checkpoint lacks."""
    model, loaded = from_pretrained(
        auto,
        checkpoint,
        dtype="float32",
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        return_dict=True,
    )
    return model, sorted({*loaded["missing_keys"], *(key for key, *_ in loaded["mismatched_keys"])})


def _first_of_each(windows: Sequence[Window]) -> list[Window]:
    """Keep the first window of each text."""
    return [*{window["index"]: window for window in reversed(windows)}.values()][::-1]


def _batches(
    model: PreTrainedModel, windows: Sequence[Window], *, most: int = BATCH * LENGTH
) -> Iterator[tuple[list[int], dict[str, torch.Tensor], torch.Tensor]]:
    """Yield the places of inputs of about the same length, and them, on the model's device.

    Args:
        most: tokens at once.

    """
    device = next(model.parameters()).device
    # What is padded is not read; some models count positions by it.
    padding = int(model.config.pad_token_id or 0)
    order = sorted(range(len(windows)), key=lambda place: -len(windows[place]["input_ids"]))
    while order:
        size = max(1, min(BATCH, most // len(windows[order[0]]["input_ids"])))
        places, order = order[:size], order[size:]
        inputs, targets = build_batch([windows[place] for place in places], pad_token_id=padding)
        yield places, {name: one.to(device) for name, one in inputs.items()}, targets.to(device)
