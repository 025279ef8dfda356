"""What a method must offer."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import Kind, Loader


@dataclass(frozen=True)
class Examples:
    """Rows that a method shows to a model without training on them.

    Args:
        texts: their tokens, as the task encodes them, in the order in which they were drawn.
        labels: their labels, as the task encodes them.
        longest: tokens of the longest row that will be measured.

    """

    texts: Sequence[list[int]]
    labels: Sequence[Any]
    longest: int


class Method(Protocol):
    """What of a model is trained, and what of it is kept."""

    name: str
    # False: the model is measured once, as it is. The rows of train are only drawn from.
    trains: ClassVar[bool]
    # Architectures that it makes no sense for, each with what to do instead: known before loading.
    unsuited: ClassVar[Mapping[Kind, str]]

    def serve_as(self, pipeline_tag: str) -> str:
        """Name the module in ``served/`` that answers for a task.

        Called before anything is loaded.

        Args:
            pipeline_tag: of the task.

        Raises:
            InputError: the method cannot be used for this task.

        """

    def choose_loader(
        self, load: Loader, tokenizer: PreTrainedTokenizerBase, examples: Examples | None
    ) -> Loader:
        """Return what loads the model for the task.

        Args:
            load: loads it as the task asks for it.
            tokenizer: of the model.
            examples: None for a method that trains.

        """

    def prepare(self, model: PreTrainedModel, *, new: Collection[str] = ()) -> PreTrainedModel:
        """Return the model ready to train: only what is trained requires a gradient.

        Args:
            model: with the weights that training starts from.
            new: names of the weights that no checkpoint has; they are random.

        Raises:
            InputError: the architecture cannot be trained this way.

        """

    def describe(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> Mapping[str, str]:
        """Return texts that are logged with the run, by the name of their file; may be empty."""

    def hold(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        """Hold weights in the type to which each pass casts them, where that changes no result.

        Args:
            model: as :meth:`prepare` returned it.
            dtype: of autocast; not called in full precision.

        """

    def restore(self, model: PreTrainedModel, reload: Callable[[], PreTrainedModel]) -> None:
        """Undo :meth:`hold`, once the model is trained.

        Args:
            model: as :meth:`prepare` returned it.
            reload: loads what :meth:`prepare` was given once more.

        Raises:
            InputError: the checkpoint is no longer what it was.

        """

    def finish(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return the trained model as it is logged: one that ``from_pretrained`` can load.

        Called after :meth:`restore`.
        """

    def reopen(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return a model that :meth:`finish` has returned as the task reads it."""

    def save_adapter(self, model: PreTrainedModel, folder: Path, checkpoint: Checkpoint) -> bool:
        """Save what was trained beside the model; False where there is no such part.

        Called before :meth:`finish`. ``checkpoint`` is what the model was loaded from.
        """


class TrainsWeights:
    """For methods that train: the model is loaded, logged and served as the task says."""

    trains: ClassVar[bool] = True
    unsuited: ClassVar[Mapping[Kind, str]] = {}

    def serve_as(self, pipeline_tag: str) -> str:
        return pipeline_tag

    def choose_loader(
        self, load: Loader, tokenizer: PreTrainedTokenizerBase, examples: Examples | None
    ) -> Loader:
        del tokenizer, examples
        return load

    def describe(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> Mapping[str, str]:
        del model, tokenizer
        return {}

    def hold(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        del model, dtype

    def restore(self, model: PreTrainedModel, reload: Callable[[], PreTrainedModel]) -> None:
        del model, reload

    def reopen(self, model: PreTrainedModel) -> PreTrainedModel:
        return model


class WholeModel(TrainsWeights):
    """For methods that train weights of the model itself: there is nothing to merge or add."""

    def finish(self, model: PreTrainedModel) -> PreTrainedModel:
        return model

    def save_adapter(self, model: PreTrainedModel, folder: Path, checkpoint: Checkpoint) -> bool:
        del model, folder, checkpoint
        return False
