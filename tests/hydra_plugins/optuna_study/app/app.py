"""A toy app: how far a point lies from the origin, reported step by step to its trial."""

import itertools
import logging
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

log = logging.getLogger(__name__)

_jobs = itertools.count(1)
_SHARES = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


def job(cfg: DictConfig) -> Any:
    """Work on one point; ``cfg.behaviour`` says how else a job may end."""
    log.info("job at x=%r", cfg.x)
    if cfg.behaviour == "return text":
        return "0.5"
    if cfg.behaviour is not None:
        _behave(cfg)
    if cfg.trial.number == 1:
        _misbehave(cfg)
    score = abs(cfg.x) + cfg.n + cfg.shape.offset
    if cfg.num_reports:
        _report(cfg, score)
    return score if len(cfg.names or cfg.objectives) == 1 else [score, -cfg.x]


def _behave(cfg: DictConfig) -> None:
    match cfg.behaviour:
        case "slow":
            time.sleep(0.3)
            _print_process()
        case "meet 2" | "meet 4":
            _meet(int(cfg.behaviour.removeprefix("meet ")))
            _print_process()
        case "crawl":
            time.sleep(2.5)
        case "hang" | "hang on" if cfg.trial.number >= 2:
            _hang(cfg)
        case "end together":
            time.sleep(2.5 if cfg.trial.number else 1.5)
        case "raise":
            raise ValueError("broken\nin two lines")
        case "raise on odd" if cfg.trial.number % 2:
            raise ValueError(f"broken at {cfg.trial.number}")


def _print_process() -> None:
    """Print what a long-lived process has, and what it may use."""
    share = {name: os.environ.get(name) for name in _SHARES}
    sys.stdout.write(f"pid {os.getpid()} jobs {next(_jobs)} {share}\n")


def _meet(num_processes: int) -> None:
    """Wait until so many processes have come to a job."""
    Path(f"met-{os.getpid()}").touch()
    while len(list(Path().glob("met-*"))) < num_processes:
        time.sleep(0.05)


def _hang(cfg: DictConfig) -> None:
    try:
        Path(f"hanging-{cfg.trial.number}").touch()
        time.sleep(600)
    except KeyboardInterrupt:
        if cfg.behaviour == "hang on":
            time.sleep(600)
        raise


def _misbehave(cfg: DictConfig) -> None:
    """End trial 1, its process, or its memory."""
    match cfg.behaviour:
        case "end together":
            raise ValueError("broken")
        case "die on 1":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit on 1":
            os._exit(3)
        case "fork and die on 1":
            if os.fork() == 0:
                time.sleep(30)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
        case "enter group and eat memory on 1":
            # A control group with a limit: the kernel kills what exceeds it.
            (Path(cfg.group) / "cgroup.procs").write_text(str(os.getpid()))
            _eat_memory()
        case "eat memory on 1":
            _eat_memory()


def _eat_memory() -> None:
    eaten = []
    while True:
        eaten.append(bytearray(50 << 20))


def _report(cfg: DictConfig, score: float) -> None:
    import optuna

    # WilcoxonPruner and PatientPruner say that their interface may change.
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    pruner = hydra.utils.instantiate(cfg.pruner)
    study = optuna.load_study(study_name=cfg.trial.study, storage=cfg.trial.storage, pruner=pruner)
    trial_id = study._storage.get_trial_id_from_study_id_trial_number(
        study._study_id, cfg.trial.number
    )
    trial = optuna.Trial(study, trial_id)
    for step in range(1, cfg.num_reports + 1):
        trial.report(score, step)
        if trial.should_prune():
            raise optuna.TrialPruned


if __name__ == "__main__":
    hydra.main(config_path="conf", config_name="config", version_base="1.3")(job)()
