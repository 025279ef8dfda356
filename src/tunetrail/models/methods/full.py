"""Supervised fine-tuning: every weight is trained."""

from collections.abc import Collection
from dataclasses import dataclass

from transformers import PreTrainedModel

from tunetrail.models.methods.base import WholeModel


@dataclass(frozen=True)
class Full(WholeModel):
    """Train every weight."""

    name: str

    def prepare(self, model: PreTrainedModel, *, new: Collection[str] = ()) -> PreTrainedModel:
        del new
        return model
