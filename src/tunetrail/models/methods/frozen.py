"""Transfer learning: the pretrained body stays as it is; the head is trained, perhaps the top."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from tunetrail.errors import InputError
from tunetrail.models.features import RememberedForward
from tunetrail.models.methods.base import WholeModel


@dataclass(frozen=True)
class Frozen(WholeModel):
    """Train what lies outside the pretrained body, what is new in it, and its last layers.

    Without such layers the body runs in evaluation mode. If nothing of it is trained, it goes over
    each row once.

    Args:
        num_layers_trained: of the body, counted from its end.
        cache_gb: memory for what the body makes of rows, for all runs of a process.

    Raises:
        InputError: a value that cannot be used.

    """

    name: str
    num_layers_trained: int
    cache_gb: float

    def __post_init__(self) -> None:
        """Check what a person may have set."""
        number, size = self.num_layers_trained, self.cache_gb
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise InputError(
                f"method.num_layers_trained={number}: must be a whole number of 0 or more"
            )
        if isinstance(size, bool) or not isinstance(size, int | float) or not size >= 0:
            raise InputError(f"method.cache_gb={size}: must be a number of 0 or more")

    def prepare(self, model: PreTrainedModel, *, new: Collection[str] = ()) -> PreTrainedModel:
        body = model.base_model
        assert isinstance(body, PreTrainedModel)
        body.requires_grad_(False)
        for layer in self._choose_layers(model):
            layer.requires_grad_(True)
        for name, parameter in model.named_parameters():
            if name in new:
                parameter.requires_grad_(True)
        if body is model or not any(p.requires_grad for p in model.parameters()):
            raise InputError(
                f"method=frozen: {type(model).__name__} has no head outside its body; use "
                "method=full, or method.num_layers_trained=1"
            )
        if self.num_layers_trained == 0:
            is_frozen = not any(p.requires_grad for p in body.parameters())
            limit = int(self.cache_gb * 1e9)
            vars(body)["forward"] = (
                RememberedForward(body, limit=limit) if is_frozen else _without_dropout(body)
            )
        return model

    def finish(self, model: PreTrainedModel) -> PreTrainedModel:
        """Give the body its own ``forward`` back."""
        vars(model.base_model).pop("forward", None)
        return model

    def _choose_layers(self, model: PreTrainedModel) -> list[nn.Module]:
        layers, number = find_layers(model.base_model), self.num_layers_trained
        if number > len(layers):
            raise InputError(
                f"method.num_layers_trained={number}: {type(model).__name__} has {len(layers)} "
                f"layers; give 0 to {len(layers)}"
            )
        return layers[len(layers) - number :]


def find_layers(body: nn.Module) -> list[nn.Module]:
    """Find the layers of a transformer: its longest list of modules that is in no other list.

    Of two lists of the same length it is the later one, which is that of a decoder.
    """
    lists: dict[str, nn.ModuleList] = {}
    for name, module in body.named_modules():
        is_inside = any(name.startswith(f"{outer}.") for outer in lists)
        if isinstance(module, nn.ModuleList) and not is_inside:
            lists[name] = module
    return list(max(reversed(lists.values()), key=len, default=[]))


def _without_dropout(body: PreTrainedModel) -> Callable[..., Any]:
    forward = body.forward

    def run(*args: Any, **kwargs: Any) -> Any:
        body.eval()  # before each step Trainer puts the whole model into training mode
        return forward(*args, **kwargs)

    return run
