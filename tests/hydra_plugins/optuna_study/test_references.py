"""Configs that are run beside the search, as they are: no sampler sees them."""

import optuna
import pytest

from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study.attributes import (
    FINALIST_OF,
    OVERRIDES,
    REFERENCE,
    REFERENCE_VALUES,
    RETRY_OF,
)

# Outside of the search space, with a key that is not searched.
FAR = "++hydra.sweeper.references={far:{x:5,name:outside}}"
SAMPLERS = {
    "tpe": ["++sampler={_target_:optuna.samplers.TPESampler,n_startup_trials:2,multivariate:true}"],
    "grid": ["++sampler={_target_:optuna.samplers.GridSampler}", "x=choice(-1,0,1)", "n=0,1"],
    "cmaes": ["++sampler={_target_:optuna.samplers.CmaEsSampler}", "n=interval(0.0,1.0)"],
    "qmc": ["++sampler={_target_:optuna.samplers.QMCSampler}"],
    "hyperband": [
        "++sampler={_target_:optuna.samplers.TPESampler,n_startup_trials:2}",
        "++pruner={_target_:optuna.pruners.HyperbandPruner,min_resource:1,max_resource:4}",
        "num_reports=4",
    ],
}


def searched(study):
    return [t.params for t in study.trials if REFERENCE not in t.user_attrs]


@pytest.mark.parametrize(
    "kind", [k if k == "tpe" else pytest.param(k, marks=pytest.mark.slow) for k in SAMPLERS]
)
def test_the_points_of_the_search_are_those_that_it_would_have_without(sweep, kind):
    given = SAMPLERS[kind]
    without = sweep(*given, "num_trials=6", study="without")
    beside = sweep(*given, "num_trials=7", FAR, study="beside")
    points = [searched(study) for study in (beside, without)]
    if kind == "grid":  # its order goes by the numbers of trials
        points = [sorted(map(str, each)) for each in points]
    assert points[0] == points[1]
    [reference] = [t for t in beside.trials if REFERENCE in t.user_attrs]
    assert reference.user_attrs[OVERRIDES] == ["x=5", "name=outside"]
    assert (reference.number, reference.params, reference.value) == (0, {}, 5.0)
    assert reference.user_attrs[REFERENCE_VALUES] == {"x": 5, "n": 0, "name": "outside"}


def test_a_grid_ends_after_its_points_and_the_references(sweep):
    grid = [*SAMPLERS["grid"], "num_trials=20"]
    assert len(searched(sweep(*grid, FAR))) == 6


def test_it_runs_once_however_often_the_study_continues_and_in_its_finals(sweep):
    given = ["hydra.sweeper.final_seeds=2"]
    for num_trials in (3, 5):
        study = sweep(*given, FAR, f"num_trials={num_trials}")
        assert len(study.trials) == num_trials
        assert [t.number for t in study.trials if REFERENCE in t.user_attrs] == [0]
    finals = optuna.load_study(study_name="toy-finals-2", storage="sqlite:///store/optuna.db")
    [final] = [t for t in finals.trials if REFERENCE in t.user_attrs]
    assert (final.user_attrs[FINALIST_OF], final.value) == (0, 5.0)
    # It takes the place of no point of the search.
    best = [t.user_attrs[FINALIST_OF] for t in finals.trials if REFERENCE not in t.user_attrs]
    assert len(best) >= 2


def test_one_that_was_changed_is_another_and_one_that_is_gone_is_not_in_the_finals(sweep):
    other = FAR.replace("x:5", "x:6")
    sweep(FAR, "num_trials=2")
    study = sweep(other, "num_trials=4", "hydra.sweeper.final_seeds=1")
    assert [t.value for t in study.trials if REFERENCE in t.user_attrs] == [5.0, 6.0]
    finals = optuna.load_study(study_name="toy-finals-1", storage="sqlite:///store/optuna.db")
    assert [t.value for t in finals.trials if REFERENCE in t.user_attrs] == [6.0]


def test_an_interrupted_one_is_run_again_as_what_it_is(sweep):
    study = sweep("behaviour=raise on odd", "num_trials=1", FAR)
    trial = study.ask()
    trial.set_user_attr(REFERENCE, "far")
    trial.set_user_attr(REFERENCE_VALUES, study.trials[0].user_attrs[REFERENCE_VALUES])
    trial.set_user_attr(OVERRIDES, ["x=5", "name=outside"])
    study._storage.set_trial_system_attr(trial._trial_id, "fixed_params", {})
    study = sweep("num_trials=3", FAR)
    [again] = [t for t in study.trials if t.user_attrs.get(RETRY_OF) == trial.number]
    # It has finished before, so it is not trained again.
    assert again.user_attrs[REFERENCE] == "far"
    assert again.value == 5.0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{far:{y:5}}", r"references\.far: .*Could not override 'y'"),
        ("{far:5}", r"references=.*names, each with a mapping"),
        ("{far:{}}", r"references=.*names, each with a mapping"),
        ("{far:no.such}", r"references\.far"),
    ],
)
def test_a_reference_that_cannot_be_composed_ends_the_sweep_in_one_line(sweep, given, said):
    with pytest.raises(SweepError, match=said):
        sweep(f"++hydra.sweeper.references={given}")


def test_one_that_changes_nothing_or_is_null_is_not_run(sweep):
    study = sweep("++hydra.sweeper.references={same:{n:0},none:null}", "num_trials=2")
    assert not any(REFERENCE in trial.user_attrs for trial in study.trials)
    study = sweep("hydra.sweeper.references=null", "num_trials=2", study="without")
    assert len(study.trials) == 2


def test_what_somebody_else_queued_as_a_reference_is_not_run(sweep):
    study = sweep("num_trials=1")
    study.enqueue_trial({}, user_attrs={REFERENCE: "evil", REFERENCE_VALUES: {"x": 99}})
    study = sweep("num_trials=3")
    assert "no reference evil" in study.trials[1].user_attrs["failure"]
