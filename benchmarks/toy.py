"""The Hydra app that sweeper.py sweeps: its job costs nothing."""

import hydra
from omegaconf import DictConfig


def job(cfg: DictConfig) -> float:
    return float(cfg.x**2 + cfg.y)


if __name__ == "__main__":
    hydra.main(config_path="conf", config_name="config", version_base="1.3")(job)()
