"""The points of a sampler depend on the seed and the study, not on the process."""

import optuna
import pytest

from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._spec.space import build_search_space
from hydra_plugins.optuna_study._study.sampler import StudySampler
from hydra_plugins.optuna_study._study.study import quiet_optuna, sign_next

SAMPLERS = {
    "tpe": {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 3},
    "gp": {"_target_": "optuna.samplers.GPSampler", "n_startup_trials": 3},
    "random": {"_target_": "optuna.samplers.RandomSampler"},
    "grid": {"_target_": "optuna.samplers.GridSampler"},
    "sobol": {"_target_": "optuna.samplers.QMCSampler", "scramble": True},
    "halton": {"_target_": "optuna.samplers.QMCSampler", "qmc_type": "halton"},
    "nsgaii": {"_target_": "optuna.samplers.NSGAIISampler", "population_size": 3},
    "cmaes": {"_target_": "optuna.samplers.CmaEsSampler", "warn_independent_sampling": False},
}


@pytest.fixture
def space(config_loader):
    params = {"x": "range(0,1,0.01)", "k": "range(1,9)", "c": "a,b,null"}
    return build_search_space(params, (), config_loader=config_loader)


@pytest.fixture
def draw(space):
    """Draw points into a study, as one process does."""

    def run(config, storage, num_trials, *, seed=0, worker="w"):
        with quiet_optuna():
            sampler = StudySampler(config, key="sampler", seed=seed, space=space)
            study = optuna.create_study(
                study_name="s", storage=storage, sampler=sampler, load_if_exists=True
            )
            for _ in range(num_trials):
                sign_next(study, (), {"lock": worker})
                trial = study.ask({p.name: p.distribution for p in space.parameters})
                trial.set_user_attr("overrides", space.overrides(trial.params))
                study.tell(trial, (trial.params["x"] - 0.3) ** 2 + trial.params["k"])
        return study

    return run


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name == "gp" else []) for name in SAMPLERS],
)
def test_two_times_five_points_are_the_ten_of_one_process(draw, name):
    whole = draw(SAMPLERS[name], optuna.storages.InMemoryStorage(), 10)
    storage = optuna.storages.InMemoryStorage()
    draw(SAMPLERS[name], storage, 5)
    parts = draw(SAMPLERS[name], storage, 5, worker="another")
    points = [trial.params for trial in parts.trials]
    assert points == [trial.params for trial in whole.trials]
    assert len({tuple(point.values()) for point in points}) > 5
    assert len({point["c"] for point in points}) > 1
    signed = [trial.user_attrs["worker"]["lock"] for trial in parts.trials]
    assert signed == ["w"] * 5 + ["another"] * 5


@pytest.mark.parametrize("name", ["tpe", "random", "grid", "sobol"])
def test_the_seed_makes_the_points(draw, name):
    def points(seed):
        study = draw(SAMPLERS[name], optuna.storages.InMemoryStorage(), 3, seed=seed)
        return [trial.params for trial in study.trials]

    assert points(1) == points(1)
    assert points(1) != points(2)
    if name != "grid":  # its order is fixed when no seed is given
        assert points(None) != points(None)


def test_a_grid_is_exhausted_when_every_cell_was_taken(draw, config_loader):
    space = build_search_space({"x": "1,2"}, (), config_loader=config_loader)
    sampler = StudySampler(SAMPLERS["grid"], key="sampler", seed=0, space=space)
    study = optuna.create_study(sampler=sampler)
    for expected in (False, False, True):
        assert sampler.exhausted(study.trials) is expected
        trial = study.ask({"x": space.parameters[0].distribution})
        trial.set_user_attr("overrides", [])
        study.tell(trial, state=optuna.trial.TrialState.FAIL)


def test_a_sampler_has_no_seed_of_its_own(space):
    config = {"_target_": "optuna.samplers.RandomSampler", "seed": 1}
    with pytest.raises(SweepError, match=r"sampler.seed=1: a study has one seed"):
        StudySampler(config, key="sampler", seed=0, space=space)


def test_a_sampler_that_fails_later_ends_the_sweep_in_one_line_and_leaves_nothing_running(sweep):
    cmaes = "++sampler={_target_: optuna.samplers.CmaEsSampler, popsize: 0}"
    with pytest.raises(SweepError, match=r"^sampler: no sampler can work with it ") as caught:
        sweep(cmaes)
    assert "\n" not in str(caught.value)
    trials = optuna.load_study(study_name="toy", storage="sqlite:///store/optuna.db").trials
    assert "RUNNING" not in [trial.state.name for trial in trials]


CMAES = {
    "plain": {},
    "separable": {"use_separable_cma": True},
    "with a margin": {"with_margin": True},
    "for noise": {"lr_adapt": True},
    "with pruned trials": {"consider_pruned_trials": True},
    "of five": {"popsize": 5},
}


@pytest.mark.parametrize("kind", CMAES)
def test_cma_es_without_its_pickles_draws_the_same_points(config_loader, kind):
    params = {"x": "interval(-1.0,1.0)", "y": "tag(log,interval(1e-5,1.0))", "k": "range(1,9)"}
    space = build_search_space(params, (), config_loader=config_loader)
    config = SAMPLERS["cmaes"] | CMAES[kind]

    def draw(*, replayed):
        with quiet_optuna():
            sampler = StudySampler(config, key="sampler", seed=0, space=space)
            if not replayed:
                sampler._class = optuna.samplers.CmaEsSampler
            study = optuna.create_study(sampler=sampler)
            for number in range(36):
                trial = study.ask({p.name: p.distribution for p in space.parameters})
                trial.set_user_attr("overrides", space.overrides(trial.params))
                value = (trial.params["x"] - 0.3) ** 2 + trial.params["k"] + trial.params["y"]
                trial.report(value, 1)
                if number % 7 == 5:
                    study.tell(trial, state=optuna.trial.TrialState.FAIL)
                elif number % 7 == 6:
                    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                else:
                    study.tell(trial, value)
        return study

    own, theirs = draw(replayed=True), draw(replayed=False)
    assert [trial.params for trial in own.trials] == [trial.params for trial in theirs.trials]
    generations = [
        value
        for trial in own.trials
        for name, value in trial.system_attrs.items()
        if name.endswith("generation")
    ]
    assert max(generations) >= 3
    assert not any("optimizer" in name for trial in own.trials for name in trial.system_attrs)
    assert any("optimizer" in name for trial in theirs.trials for name in trial.system_attrs)
