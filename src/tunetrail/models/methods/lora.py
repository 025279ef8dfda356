"""LoRA: the body keeps its weights, and small matrices beside its linear layers are trained."""

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as DEFAULT_TARGETS
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tunetrail.config.arguments import require_count
from tunetrail.errors import InputError, first_line
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.methods.base import TrainsWeights


@dataclass(frozen=True)
class Lora(TrainsWeights):
    """Train two matrices of a low rank beside each target layer, and a new head in full.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685.

    Args:
        rank: of the matrices.
        alpha: their product is scaled by ``alpha / rank`` before it is added.
        dropout: share of their inputs that is dropped in training.
        target_modules: names of linear layers of the body, or the ends of names with dots, or all
            of them. None: what peft has for the architecture, all of them where it has nothing.

    Raises:
        InputError: a value that cannot be used.

    """

    name: str
    rank: int
    alpha: int
    dropout: float
    target_modules: list[str] | Literal["all-linear"] | None

    def __post_init__(self) -> None:
        require_count("method.rank", self.rank)
        require_count("method.alpha", self.alpha)
        number = isinstance(self.dropout, int | float) and not isinstance(self.dropout, bool)
        if not number or not 0 <= self.dropout < 1:
            raise InputError(f"method.dropout={self.dropout}: must be a number from 0 to below 1")
        targets = self.target_modules
        named = isinstance(targets, list) and targets and all(isinstance(n, str) for n in targets)
        if not named and targets not in (None, "all-linear"):
            raise InputError(
                f"method.target_modules={targets}: must be a list of names such as "
                "[q_proj,v_proj], all-linear, or null for the default of the architecture"
            )

    def prepare(self, model: PreTrainedModel, *, new: Collection[str] = ()) -> Any:
        """Put the matrices into the model; what comes back stands for it in training."""
        del new
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self._targets(model),
            modules_to_save=_heads(model),
            # How GPT-2 stores its weights; peft finds it out by itself, with a warning.
            fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in _layers(model).values()),
        )
        try:
            with warnings.catch_warnings():
                # peft 0.21 uses a name that transformers 5.23 has deprecated.
                warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
                adapted = get_peft_model(model, config)
        except ValueError as error:
            raise InputError(
                f"method.target_modules={self.target_modules}: {type(model).__name__} cannot be "
                f"trained so: {first_line(error)}"
            ) from error
        # With a name peft would ask the hub at each checkpoint whether the vocabulary has grown.
        config.base_model_name_or_path = ""
        return adapted

    def hold(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        """Hold the frozen layers in the type to which each pass casts them.

        A pass would also keep what it has cast until the gradients are computed.
        """
        assert isinstance(model, PeftModel)
        _hold(model, _layers(model.get_base_model()).values(), dtype)

    def restore(self, model: PreTrainedModel, reload: Callable[[], PreTrainedModel]) -> None:
        assert isinstance(model, PeftModel)
        inner = model.get_base_model()
        if any(parameter.dtype != torch.float32 for parameter in inner.parameters()):
            _restore(inner, _layers(reload()))

    def finish(self, model: PreTrainedModel) -> PreTrainedModel:
        """Add the matrices to the weights that they stand beside."""
        assert isinstance(model, PeftModel)
        merged: PreTrainedModel = model.merge_and_unload()
        return merged

    def save_adapter(self, model: PreTrainedModel, folder: Path, checkpoint: Checkpoint) -> bool:
        """Save the matrices and the new head as peft does; ``PeftModel.from_pretrained`` loads."""
        assert isinstance(model, PeftModel)
        config = model.active_peft_config
        on_hub = checkpoint.is_on_hub
        config.base_model_name_or_path = checkpoint.path if on_hub else checkpoint.origin
        config.revision = checkpoint.revision
        model.save_pretrained(str(folder), save_embedding_layers=False)
        # An empty form of a model card, with the path of the weights on this machine.
        (folder / "README.md").unlink()
        return True

    def _targets(self, model: PreTrainedModel) -> list[str] | str:
        if self.target_modules is None:
            default = DEFAULT_TARGETS.get(model.config.model_type, "all-linear")
            return default if isinstance(default, str) else list(default)
        if isinstance(self.target_modules, str):
            return self.target_modules
        layers = _layers(model)
        for target in self.target_modules:
            if not any(f".{name}".endswith(f".{target}") for name in layers):
                found = sorted({name.rpartition(".")[2] for name in layers})
                raise InputError(
                    f"method.target_modules: {type(model).__name__} has no linear layer {target!r} "
                    f"outside its head (found: {', '.join(found)})"
                )
        return self.target_modules


def _heads(model: PreTrainedModel) -> list[str]:
    """Name the parts outside the body that are trained in full, as they may be new.

    Not the one that scores a vocabulary: it is large, and often the same tensor as the embeddings.
    """
    body, output = model.base_model, model.get_output_embeddings()

    def find(module: torch.nn.Module, prefix: str) -> Iterator[str]:
        for name, part in module.named_children():
            if part is body or part is output or not any(True for _ in part.parameters()):
                continue
            if any(inner is output for inner in part.modules()):
                yield from find(part, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}"

    return [] if body is model else [*find(model, "")]


def _layers(model: PreTrainedModel) -> dict[str, torch.nn.Module]:
    """Find the linear layers of the body by name."""
    body = set(model.base_model.modules())
    return {
        name: module
        for name, module in model.named_modules()
        if module in body and isinstance(module, torch.nn.Linear | Conv1D)
    }


def _hold(model: torch.nn.Module, layers: Iterable[torch.nn.Module], dtype: torch.dtype) -> None:
    """Hold what of ``layers`` is frozen in another type."""
    embeddings = [part for part in model.modules() if isinstance(part, torch.nn.Embedding)]
    # A layer may share its weight with one that looks up tokens, which autocast leaves alone.
    shared = {id(parameter) for part in embeddings for parameter in part.parameters()}
    frozen = (p for layer in layers for p in layer.parameters(recurse=False) if not p.requires_grad)
    held = {id(parameter) for parameter in frozen} - shared
    for parameter in model.parameters():
        # What was read from disk maps its file, which stays in memory until nothing uses it.
        data = parameter.data
        parameter.data = data.to(dtype) if id(parameter) in held else data.clone()


def _restore(model: torch.nn.Module, layers: Mapping[str, torch.nn.Module]) -> None:
    """Give the layers of ``model`` that are held in another type the weights of ``layers``.

    Raises:
        InputError: they were other ones.

    """
    for name, layer in layers.items():
        held = model.get_submodule(name)
        if isinstance(held, BaseTunerLayer):
            held = held.get_base_layer()
        for key, original in layer.named_parameters(recurse=False):
            parameter = getattr(held, key)
            data = original.data.to(parameter.device)
            if not torch.equal(data.to(parameter.dtype), parameter.data):
                raise InputError(
                    f"method=lora: {name}.{key} of the checkpoint has changed since the training "
                    "began, so the matrices fit it no more; train again"
                )
            parameter.data = data
