"""Whether Hydra's output folder can be written to, asked before Hydra makes it."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class RequireOutputDir(Callback):
    """Ends the program with one line where the folder of the run or sweep cannot be made."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        del kwargs
        _require_writable("hydra.run.dir", str(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        del kwargs
        _require_writable("hydra.sweep.dir", str(config.hydra.sweep.dir))


def _require_writable(key: str, folder: str) -> None:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        # Hydra turns an exception of a callback into a warning and goes on.
        sys.exit(
            f"error: {key}={folder}: cannot be made ({error.strerror}); free the path, or choose "
            "another"
        )
