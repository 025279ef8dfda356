"""A job's config is the one that Hydra would compose, whatever is overridden."""

from dataclasses import dataclass
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import OmegaConf, ValidationError, open_dict

from hydra_plugins.optuna_study._configs import Composer, number_job, without_hydra

from .conftest import CONF

JOBS = [
    [],
    ["x=0.5", "n=2"],
    ["shape=square", "x=-1"],
    ["shape=square", "shape.offset=3.5", "++trial.number=4"],
    ["shape.offset=2", "shape=square"],
    ["+extra={a: [1, 2], b: null}", "extra.a=[3]"],
    ["~shape.offset", "+shape.offset=7"],
    ["name='a b'", "hydra.job.chdir=true", "++hydra.job_logging.handlers.console.level=ERROR"],
    ["sampler={_target_: optuna.samplers.TPESampler}"],
    ["~shape"],
    ["+shape@other=square", "other.offset=9"],
    ["name=${now:%H}", "x=${n}"],
]


@pytest.fixture
def hydra():
    with initialize_config_dir(CONF, version_base="1.3"):
        yield GlobalHydra.instance().hydra


@pytest.fixture
def master(hydra):
    return hydra.compose_config(
        "config",
        ["study=composed", "hydra.sweep.subdir=job-${hydra.job.num}"],
        run_mode=RunMode.MULTIRUN,
        with_log_configuration=False,
    )


@pytest.mark.parametrize("overrides", JOBS, ids=" ".join)
def test_it_is_what_hydra_composes(hydra, master, overrides):
    composer = Composer(hydra.config_loader, master)
    composer.compose(["n=3", "shape=round"])  # what an earlier job had leaves no trace
    for _ in range(2):
        ours = composer.compose(overrides)
        number_job(ours, 3)
    theirs = hydra.config_loader.load_sweep_config(master, overrides)
    with open_dict(theirs):
        theirs.hydra.job.id = "3"
        theirs.hydra.job.num = 3
    assert OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(theirs)
    assert OmegaConf.to_container(ours, resolve=False) == OmegaConf.to_container(theirs)
    assert OmegaConf.is_struct(ours)
    for config in (ours, theirs):
        with pytest.raises(Exception, match="nowhere"):
            OmegaConf.update(config, "nowhere", 1)


@pytest.mark.parametrize("override", ["nowhere=1", "shape=hexagon", "+x=1", "~nowhere"])
def test_it_refuses_what_hydra_refuses(hydra, master, override):
    with pytest.raises(ConfigCompositionException) as theirs:
        hydra.config_loader.load_sweep_config(master, [override])
    with pytest.raises(ConfigCompositionException) as ours:
        Composer(hydra.config_loader, master).compose([override])
    assert str(ours.value) == str(theirs.value)


def test_many_combinations_of_groups_do_not_fill_the_memory(hydra, master, monkeypatch):
    monkeypatch.setattr("hydra_plugins.optuna_study._configs.CACHE_SIZE", 1)
    composer = Composer(hydra.config_loader, master)
    offsets = [composer.compose([f"shape={s}"]).shape.offset for s in ("round", "square", "round")]
    assert offsets == [0.0, 1.0, 0.0]


@dataclass
class Schema:
    x: float = 0.0
    hydra: Any = None


def test_a_job_keeps_its_schema_and_flags():
    config = OmegaConf.structured(Schema)
    OmegaConf.set_readonly(config, True)
    app = without_hydra(config)
    assert list(app) == ["x"]
    assert OmegaConf.get_type(app) is Schema
    assert OmegaConf.is_readonly(app)
    OmegaConf.set_readonly(app, False)
    with pytest.raises(ValidationError):
        app.x = "text"
