"""What a method must offer."""

from pathlib import Path
from typing import Protocol

from transformers import PreTrainedModel

from tunetrail.models.checkpoints import Checkpoint


class Method(Protocol):
    """What of a model is trained, and what of it is kept."""

    name: str

    def prepare(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return the model ready to train: only what is trained requires a gradient.

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
