"""The one entrypoint: ``python train.py`` trains once, ``python train.py -m`` runs a study."""

import os
import signal
import sys
from types import FrameType

import hydra
from omegaconf import DictConfig


@hydra.main(config_path="conf", config_name="config", version_base="1.3")
def main(cfg: DictConfig) -> float | list[float]:
    """Run what the config says and return the objective, or the list of objectives."""
    # torch, transformers and mlflow are imported only once a run starts, so that --help,
    # --cfg and shell completion answer at once.
    from tunetrail.config.secrets import redact
    from tunetrail.errors import InputError
    from tunetrail.pipeline import run

    try:
        return run(cfg)
    except InputError as error:
        # In a sweep the sweeper records the error on the trial and continues.
        if cfg.trial.number is not None or "HYDRA_FULL_ERROR" in os.environ:
            raise
        sys.exit(redact(f"error: {error}"))


def stop(signum: int, frame: FrameType | None) -> None:
    """End in order: open runs are closed as KILLED."""
    del frame
    sys.exit(128 + signum)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    main()
