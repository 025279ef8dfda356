"""Every sampler and pruner that conf/ ships builds and takes part in a study."""

import inspect
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from hydra_plugins.optuna_study._spec.plan import build_plan
from hydra_plugins.optuna_study._spec.settings import read_settings
from hydra_plugins.optuna_study._spec.space import build_search_space
from hydra_plugins.optuna_study._study.sampler import StudySampler
from hydra_plugins.optuna_study._study.study import build_pruner, open_study, quiet_optuna
from hydra_plugins.optuna_study.sweeper import OptunaStudyConf

CONF = Path(__file__).parents[3] / "conf"
# The parameters that are not plain values, or that Optuna deprecates, stay out of the YAML.
LEFT_OUT = {
    "seed",  # hydra.sweeper.seed
    "search_space",  # from the sweep itself
    "independent_sampler",
    "constraints_func",
    "gamma",
    "weights",
    "x0",
    "sigma0",
    "source_trials",
    "restart_strategy",
    "inc_popsize",
    "consider_prior",
    "consider_magic_clip",
    "consider_endpoints",
    "prior_weight",
    "warn_independent_sampling",
    "warn_asynchronous_seeding",
    "group",
    "mutation",
    "crossover",
    "elite_population_selection_strategy",
    "child_generation_strategy",
    "after_trial_strategy",
}


def configs(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def load(group, name):
    return OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))


def run_study(config_loader, sampler, pruner, *, num_trials):
    values = {
        "study_name": "s",
        "storage": "sqlite:///unused.db",
        "seed": 0,
        "sampler": sampler,
        "pruner": pruner,
        "objectives": {"score": "maximize"},
        "num_trials": num_trials,
        "params": {
            "lr": "tag(log,range(1,33))",
            "batch": "choice(8,16,32)",
            "epochs": "range(1,4)",
        },
    }
    values = {**asdict(OptunaStudyConf()), **values}
    settings = read_settings(values, OmegaConf.create({"hydra": {"sweeper": {}}}))
    space = build_search_space(settings.params, (), config_loader=config_loader)
    with quiet_optuna():
        chosen = StudySampler(sampler, key="sampler", seed=0, space=space)
        plan = build_plan(OmegaConf.create(), settings, space, settings.objectives)
        spec = SimpleNamespace(references=(), settings=settings, space=space, plan=plan, points=[])
        study = open_study(optuna.storages.InMemoryStorage(), spec, chosen, build_pruner(spec))
        for _ in range(num_trials):
            trial = study.ask({p.name: p.distribution for p in space.parameters})
            trial.set_user_attr("overrides", space.overrides(trial.params))
            study.tell(trial, **score(trial))
    return study


def score(trial):
    """Learning curves that flatten at a height that the point decides."""
    height = 0.05 * trial.params["epochs"] - 0.01 * trial.params["batch"]
    for step in range(1, 9):
        value = height + 0.1 * step
        trial.report(value, step)
        if trial.should_prune():
            return {"state": optuna.trial.TrialState.PRUNED}
    return {"values": value}


@pytest.mark.parametrize("name", configs("sampler"))
def test_sampler_runs(config_loader, name):
    study = run_study(config_loader, load("sampler", name), load("pruner", "median"), num_trials=7)
    assert len({tuple(trial.params.values()) for trial in study.trials}) > 3


@pytest.mark.parametrize("name", configs("pruner"))
def test_pruner_runs(config_loader, name):
    study = run_study(config_loader, load("sampler", "random"), load("pruner", name), num_trials=9)
    pruned = [t for t in study.trials if t.state is optuna.trial.TrialState.PRUNED]
    # The curves rise all the time, which is all that patience asks for.
    assert bool(pruned) == (name not in {"none", "patient"})


@pytest.mark.parametrize(
    ("group", "name"), [(g, name) for g in ("sampler", "pruner") for name in configs(g)]
)
def test_yaml_shows_every_parameter(group, name):
    config = load(group, name)
    known = set(inspect.signature(get_object(config.pop("_target_"))).parameters)
    assert known - LEFT_OUT <= set(config) <= known
    text = (CONF / group / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")
