"""Which weights are trained. Each function takes a model and returns it, ready to train."""

from transformers import PreTrainedModel

from tunetrail.errors import InputError


def train_all(model: PreTrainedModel) -> PreTrainedModel:
    """Train every weight."""
    return model


def train_head(model: PreTrainedModel) -> PreTrainedModel:
    """Freeze the pretrained body; train what lies outside it.

    Raises:
        InputError: the architecture has nothing outside its body.

    """
    for parameter in model.base_model.parameters():
        parameter.requires_grad_(False)
    if model.base_model is model or not any(p.requires_grad for p in model.parameters()):
        raise InputError(
            f"method=frozen: {type(model).__name__} has no head outside its body; use method=full"
        )
    return model
