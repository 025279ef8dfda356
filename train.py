"""The one entrypoint: ``python train.py`` trains once, ``python train.py -m`` runs a study."""

import os
import signal
import sys
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def leave(signum: int, frame: FrameType | None) -> None:
    """End at once: before a run starts, nothing is open."""
    del frame
    os.write(2, b"interrupted\n")
    os._exit(128 + signum)


def stop(signum: int, frame: FrameType | None) -> None:
    """End in order: open runs are closed as KILLED."""
    del frame
    sys.exit(128 + signum)


if __name__ == "__main__":
    for number in _SIGNALS:
        # nohup and background shells ignore signals on purpose.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)

# Only now: importing takes a moment, in which Ctrl-C would show a traceback.
import hydra  # noqa: E402
from omegaconf import DictConfig  # noqa: E402

from tunetrail.config.refusals import refuse_in_one_line  # noqa: E402

refuse_in_one_line()
# argparse takes overrides before and after an option for two lists, and refuses the second.
sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))


@hydra.main(config_path="conf", config_name="config", version_base="1.3")
def main(cfg: DictConfig) -> float | list[float]:
    """Run what the config says and return the objective, or the list of objectives."""
    # torch, transformers and mlflow are imported only once a run starts, so that --help,
    # --cfg and shell completion answer at once.
    from tunetrail.config.terminal import clean
    from tunetrail.errors import InputError
    from tunetrail.pipeline import run

    # A sweep has its own way to stop its jobs.
    for number in _SIGNALS:
        if signal.getsignal(number) is leave:
            signal.signal(number, stop)
    try:
        return run(cfg)
    except InputError as error:
        # In a sweep the sweeper records the error on the trial and continues.
        if cfg.trial.number is not None or "HYDRA_FULL_ERROR" in os.environ:
            raise
        sys.exit(clean(f"error: {error}"))
    except SystemExit:
        # Last, below the progress bar.
        sys.stderr.write("interrupted\n")
        raise


if __name__ == "__main__":
    main()
