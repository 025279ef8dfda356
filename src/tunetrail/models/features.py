"""Features of a frozen body: what it makes of each row, computed once and kept in memory.

A row goes through the body alone, without padding, and in fp32. So its features depend on the row
alone: not on the batch that it is in, nor on what the process has computed before. Many rows at
once would take less time, but give the same row other last digits in another batch.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import (
    BaseModelOutputWithPoolingAndCrossAttentions as BodyOutput,
)

from tunetrail.models.fingerprint import fingerprint_weights

log = logging.getLogger(__name__)

# What a body reads, a number for each token, and what heads read of its output.
_INPUTS = ("input_ids", "token_type_ids", "position_ids")
_PER_TOKEN, _PER_ROW = "last_hidden_state", "pooler_output"
# Arguments that change nothing of these.
_IGNORED = ("return_dict", "use_cache", "num_items_in_batch")

# The inputs of a row by name, without padding.
_Key = tuple[tuple[str, bytes], ...]
_Features = Mapping[str, torch.Tensor]


@dataclass
class _Memory:
    """The features that this process has computed, by body; the body used last stands last."""

    of_bodies: OrderedDict[object, dict[_Key, _Features]] = field(default_factory=OrderedDict)
    num_bytes: int = 0

    def open(self, body: object) -> dict[_Key, _Features]:
        features = self.of_bodies.setdefault(body, {})
        self.of_bodies.move_to_end(body)
        return features

    def make_room(self, num_bytes: int, *, limit: int) -> bool:
        """Take room, if need be from other bodies, the longest unused first."""
        while self.num_bytes + num_bytes > limit and len(self.of_bodies) > 1:
            _, forgotten = self.of_bodies.popitem(last=False)
            self.num_bytes -= sum(map(_size, forgotten.values()))
        if self.num_bytes + num_bytes > limit:
            return False
        self.num_bytes += num_bytes
        return True


_memory = _Memory()


class RememberedForward:
    """Stands for the ``forward`` of a body that is frozen: no dropout, no gradient.

    Args:
        body: with the weights that it keeps.
        limit: bytes that all features of the process may take. Rows beyond it are computed anew
            each time.

    """

    def __init__(self, body: PreTrainedModel, *, limit: int) -> None:
        self._body = body
        self._forward = body.forward
        self._limit = limit
        self._is_full = False
        config = body.config.to_json_string()
        self._identity = (type(body).__qualname__, config, fingerprint_weights(body))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what heads read of the body's output, zero where the batch is padded."""
        self._body.eval()  # before each step Trainer puts the whole model into training mode
        # Heads read more than features of what a decoder makes of an encoder's output.
        has_decoder = self._body.config.is_encoder_decoder
        rows = None if has_decoder else _read_batch(args, kwargs)
        device = self._body.device
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            if rows is None:
                return self._forward(*args, **kwargs)
            known = _memory.open((self._identity, device.type, torch.backends.fp32_precision))  # type: ignore[attr-defined]
            return _pad([self._look_up(known, inputs) for inputs in rows.inputs], rows)

    def _look_up(self, known: dict[_Key, _Features], inputs: _Features) -> _Features:
        key = tuple((name, value.numpy().tobytes()) for name, value in inputs.items())
        if key in known:
            return known[key]
        features = self._compute(inputs)
        if _memory.make_room(_size(features), limit=self._limit):
            known[key] = features
        elif not self._is_full:
            self._is_full = True
            log.info("method.cache_gb is used up: all other rows are computed again at each epoch")
        return features

    def _compute(self, inputs: _Features) -> _Features:
        batch = {name: value[None].to(self._body.device) for name, value in inputs.items()}
        output = self._forward(attention_mask=torch.ones_like(batch["input_ids"]), **batch)
        return {name: output[name][0].cpu() for name in (_PER_TOKEN, _PER_ROW) if name in output}


@dataclass(frozen=True)
class _Rows:
    """The rows of a batch without their padding; ``spans`` say where each stood."""

    inputs: Sequence[_Features]
    spans: Sequence[slice]
    num_tokens: int
    device: torch.device


def _read_batch(args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Rows | None:
    """Take a batch apart; None if it is no batch of rows that are padded at their ends."""
    given = {**dict(zip(("input_ids",), args, strict=False)), **kwargs}
    given = {n: v for n, v in given.items() if v is not None and n not in _IGNORED}
    ids = given.get("input_ids")
    mask = given.pop("attention_mask", None if ids is None else torch.ones_like(ids))
    if len(args) > 1 or ids is None or not given.keys() <= {*_INPUTS}:
        return None
    if any(value.shape != ids.shape for value in (mask, *given.values())):
        return None
    spans = [span for row in mask.cpu().numpy() if (span := _find_span(row)) is not None]
    if len(spans) < len(ids):
        return None
    found = {name: value.cpu() for name, value in sorted(given.items())}
    inputs = [
        {name: value[row, span].contiguous() for name, value in found.items()}
        for row, span in enumerate(spans)
    ]
    return _Rows(inputs, spans, ids.shape[1], ids.device)


def _find_span(mask: np.ndarray) -> slice | None:
    """Find the tokens of a row between its padding; None if there is a gap, or no token."""
    places = np.flatnonzero(mask)
    if len(places) == 0 or places[-1] - places[0] + 1 != len(places):
        return None
    return slice(int(places[0]), int(places[-1]) + 1)


def _pad(features: Sequence[_Features], rows: _Rows) -> BodyOutput:
    tokens = features[0][_PER_TOKEN]
    padded = tokens.new_zeros(len(features), rows.num_tokens, tokens.shape[-1])
    for row, (found, span) in enumerate(zip(features, rows.spans, strict=True)):
        padded[row, span] = found[_PER_TOKEN]
    pooled = None
    if _PER_ROW in features[0]:
        pooled = torch.stack([found[_PER_ROW] for found in features]).to(rows.device)
    # It has all the fields that bodies have; those that no head reads are None.
    return BodyOutput(last_hidden_state=padded.to(rows.device), pooler_output=pooled)


def _size(features: _Features) -> int:
    return sum(tensor.nbytes for tensor in features.values())
