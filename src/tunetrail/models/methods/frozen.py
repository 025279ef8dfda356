"""Transfer learning: the pretrained body stays as it is, only the head is trained."""

from dataclasses import dataclass

from transformers import PreTrainedModel

from tunetrail.errors import InputError
from tunetrail.models.methods.base import WholeModel


@dataclass(frozen=True)
class Frozen(WholeModel):
    """Train what lies outside the pretrained body."""

    name: str

    def prepare(self, model: PreTrainedModel) -> PreTrainedModel:
        for parameter in model.base_model.parameters():
            parameter.requires_grad_(False)
        if model.base_model is model or not any(p.requires_grad for p in model.parameters()):
            raise InputError(
                f"method=frozen: {type(model).__name__} has no head outside its body; use "
                "method=full"
            )
        return model
