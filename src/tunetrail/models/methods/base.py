"""What a method must offer."""

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from transformers import PreTrainedModel

from tunetrail.models.checkpoints import Checkpoint


class Method(Protocol):
    """What of a model is trained, and what of it is kept."""

    name: str

    def prepare(self, model: PreTrainedModel, *, new: Collection[str] = ()) -> PreTrainedModel:
        """Return the model ready to train: only what is trained requires a gradient.

        Args:
            model: with the weights that training starts from.
            new: names of the weights that no checkpoint has; they are random.

        Raises:
            InputError: the architecture cannot be trained this way.

        """

    def finish(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return the trained model as it is logged: one that ``from_pretrained`` can load."""

    def save_adapter(self, model: PreTrainedModel, folder: Path, checkpoint: Checkpoint) -> bool:
        """Save what was trained beside the model; False where there is no such part.

        Called before :meth:`finish`. ``checkpoint`` is what the model was loaded from.
        """


class WholeModel:
    """For methods that train weights of the model itself: there is nothing to merge or add."""

    def finish(self, model: PreTrainedModel) -> PreTrainedModel:
        return model

    def save_adapter(self, model: PreTrainedModel, folder: Path, checkpoint: Checkpoint) -> bool:
        del model, folder, checkpoint
        return False
