"""Supervised fine-tuning: every weight is trained."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from tunetrail.models.methods.base import WholeModel


@dataclass(frozen=True)
class Full(WholeModel):
    """Train every weight."""

    name: str

    def prepare(
        self,
        model: PreTrainedModel,
        *,
        new: Collection[str] = (),
        autocast: torch.dtype | None = None,
    ) -> PreTrainedModel:
        del new, autocast
        return model
