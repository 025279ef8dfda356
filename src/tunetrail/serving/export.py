"""Write a model to a directory for tools that know nothing of MLflow."""

import os
from pathlib import Path

from tunetrail.config.scratch import scratch
from tunetrail.errors import InputError, is_disk_full
from tunetrail.serving.find import SavedModel
from tunetrail.serving.load import load_model

_HEADING = "## Use this directory"


def require_empty(folder: Path) -> None:
    """Check before any work that a model can be written to a directory.

    Raises:
        InputError: it is not empty, or its parent does not exist.

    """
    if folder.is_dir() and not folder.is_symlink():
        if any(folder.iterdir()):
            raise InputError(f"{folder} is not empty; give an empty directory or a new one")
    elif folder.exists() or folder.is_symlink():
        raise InputError(f"{folder} is no directory; give an empty directory or a new one")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"{folder}: there is no folder {folder.absolute().parent}; make it first")
    if not os.access(folder.absolute().parent, os.W_OK):
        raise InputError(f"{folder}: {folder.absolute().parent} cannot be written to; name another")


def export_model(saved: SavedModel, folder: Path) -> None:
    """Write config, safetensors, tokenizer and ``README.md``; they appear all at once.

    The tokenizer gets the model's length, so that ``truncation=True`` cuts where training did.

    Raises:
        InputError: the model cannot be loaded, or the directory cannot be written.

    """
    require_empty(folder)
    served = load_model(saved, device="cpu")
    served.tokenizer.model_max_length = saved.max_length
    folder = folder.absolute()
    try:
        with scratch(folder.parent) as beside:
            part = beside / "model"
            part.mkdir()
            served.model.save_pretrained(part)
            served.tokenizer.save_pretrained(part)
            (part / "README.md").write_text(
                _describe(saved, served.describe_use(folder.name), folder.name), "utf-8"
            )
            # Replaces an empty directory, and nothing else.
            part.rename(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}") from error
    except Exception as error:
        # safetensors and tokenizers have errors of their own.
        if not is_disk_full(error):
            raise
        raise InputError(f"{folder} cannot be written: the disk is full; free space") from error


def _describe(saved: SavedModel, use: str, name: str) -> str:
    card = (saved.card or f"---\nlibrary_name: transformers\n---\n\n# {name}").strip()
    if f"\n{_HEADING}\n" in card:
        return card + "\n"  # it was exported before
    return f"{card}\n\n{_HEADING}\n\nExported from {saved.source}.\n\n{use}\n"
