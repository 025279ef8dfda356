"""Find the last complete checkpoint of a run."""

from pathlib import Path

from transformers import TrainerState
from transformers.trainer import OPTIMIZER_NAME, TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from tunetrail.errors import InputError


def find_checkpoint(folder: Path, *, run_id: str) -> Path:
    """Find the last complete checkpoint of a run. One that a kill left incomplete is skipped.

    Raises:
        InputError: there is none, or it lacks the state of the optimizer.

    """
    found = sorted(
        folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=lambda path: -int(path.name.split("-")[-1])
    )
    last = next((checkpoint for checkpoint in found if is_complete(checkpoint)), None)
    if last is None:
        raise InputError(f"resume={run_id}: no checkpoint in {folder}; start a new run")
    if not (last / OPTIMIZER_NAME).is_file():
        raise InputError(
            f"resume={run_id}: {last} has no optimizer state (trainer.save_only_model=true); "
            "start a new run"
        )
    return last


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint has the state of the trainer, which Trainer writes last."""
    try:
        TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    except (OSError, ValueError):
        return False
    return True
