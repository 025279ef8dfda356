"""Whether what is about to be written fits on its disk: half a file helps nobody."""

import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import torch

from tunetrail.errors import DiskFullError

# What stands beside the weights (tokenizer, states, JSON), and what others write meanwhile.
_MARGIN = 1.05
_BESIDE = 16 * 2**20


def weights_size(model: torch.nn.Module) -> int:
    """Return the bytes that a model's parameters and buffers take; tied ones count once."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(tensor.nbytes for tensor in tensors)


def optimizer_size(optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes that an optimizer's state takes; it has one after its first step."""
    states = optimizer.state.values()
    return sum(
        value.nbytes for state in states for value in state.values() if torch.is_tensor(value)
    )


def require_space(num_bytes: int, folder: Path, *, what: str, key: str) -> None:
    """Check that a folder's disk takes ``num_bytes`` and what is written beside them.

    Args:
        what: what is about to be written, as the message names it.
        key: the config key that says where.

    Raises:
        DiskFullError: it does not.

    """
    folder = next(found for found in (folder, *folder.absolute().parents) if found.exists())
    needed = int(num_bytes * _MARGIN) + _BESIDE
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFullError(
            f"the disk is full: {what} needs {_readable(needed)} and {_readable(free)} are free "
            f"in {folder}; free space there, or set {key} to another disk"
        )


def require_space_for_model(num_bytes: int, artifact_uri: str) -> None:
    """Check that a model can be logged: it is laid down in a temporary folder, then copied.

    Where artifacts go to a server, only the temporary folder can be looked at.

    Raises:
        DiskFullError: one of the two disks is too full.

    """
    temporary = Path(tempfile.gettempdir())
    parts = urlsplit(artifact_uri)
    copies = 1
    if parts.scheme in ("", "file"):
        folder = Path(url2pathname(parts.path))
        folder = next(found for found in (folder, *folder.absolute().parents) if found.exists())
        # On one disk both copies stand side by side for a moment.
        if folder.stat().st_dev == temporary.stat().st_dev:
            copies = 2
        require_space(copies * num_bytes, folder, what="the model", key="tracking.artifact_dir")
    if copies == 1:
        require_space(num_bytes, temporary, what="a copy of the model", key="TMPDIR")


def _readable(num_bytes: int) -> str:
    if num_bytes >= 1e9:
        return f"{num_bytes / 1e9:.1f} GB"
    return f"{num_bytes / 1e6:.1f} MB"
