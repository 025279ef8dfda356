"""Checkpoints of a training: which of them are whole, and which is the last."""

from pathlib import Path

from transformers import TrainerState
from transformers.trainer import OPTIMIZER_NAME, TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from tunetrail.errors import InputError


def find_checkpoint(folder: Path, *, run_id: str) -> Path:
    """Find the last whole checkpoint of a run: one that was being written at a kill is passed over.

    Raises:
        InputError: there is none, or it lacks the state of the optimizer.

    """
    found = sorted(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=_step_of, reverse=True)
    whole = next((checkpoint for checkpoint in found if is_whole(checkpoint)), None)
    if whole is None:
        raise InputError(f"resume={run_id}: no checkpoint in {folder}; start the run anew")
    if not (whole / OPTIMIZER_NAME).is_file():
        raise InputError(
            f"resume={run_id}: {whole} has no optimizer state (trainer.save_only_model=true); "
            "start the run anew"
        )
    return whole


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def is_whole(checkpoint: Path) -> bool:
    """Whether the state of the trainer is there in full, which Trainer writes last."""
    try:
        TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    except (OSError, ValueError):
        return False
    return True
