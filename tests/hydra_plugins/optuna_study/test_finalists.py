"""Which points of a study are trained again on fresh seeds."""

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._study.finalists import choose_finalists

from .test_budget import open_trial
from .toy_callback import EVENTS, recorder
from .toy_finals import DEFAULT, FINALS, Task, finalists_of, ranking

ALLOW = "hydra.sweeper.allow_changes=true"


@pytest.mark.slow
def test_a_larger_budget_trains_the_new_finalists_alone(sweep, load_finals):
    task = Task()
    # The score falls from trial to trial, so that new ones are better than all before.
    descending = "hydra.sweeper.enqueue=[{n: 3}, {n: 2}, {n: 1}, {n: 0}]"
    arguments = (*FINALS, "x=interval(0,0.1)", descending, recorder())
    sweep(*arguments, "num_trials=2", task=task)
    assert finalists_of(load_finals()) == [1, 0]
    assert len(task.finals()) == 4
    sweep(*arguments, "num_trials=3", task=task)
    assert finalists_of(load_finals()) == [1, 0, 2]
    assert len(task.finals()) == 6
    # What was trained before stays in the comparison, behind the best of now.
    assert EVENTS[-1][3] == [(2, 2), (1, 0), (0, 1)]


@pytest.mark.slow
def test_a_default_that_is_the_best_is_trained_once_and_takes_no_place(sweep, load_finals):
    study = sweep(*FINALS, DEFAULT, "num_trials=4", recorder())
    first, *best = ranking(study)[:3]
    assert first == 0
    assert finalists_of(load_finals()) == [*best, 0]
    assert load_finals().trials[2].user_attrs["enqueued"] == "default"
    assert [number for number, _ in EVENTS[-1][3]] == finalists_of(load_finals())


def test_a_default_that_was_chosen_for_its_score_needs_fresh_seeds():
    """Trial 1 was the best of the search, and its values became the config."""
    study = optuna.create_study()

    def add(x, value, **attrs):
        distributions = {"x": FloatDistribution(0, 9)}
        attrs |= {"overrides": [f"x={x}"]}
        study.add_trial(
            create_trial(
                params={"x": x}, distributions=distributions, value=value, user_attrs=attrs
            )
        )

    add(0, 1.0, enqueued="default")
    add(1, 0.5)
    add(1, 0.5, enqueued="default", reused_from=1)
    before = create_trial(
        value=0.9, user_attrs={"carried": [[1.0]]}, system_attrs={"fixed_params": {"x": 0}}
    )
    best, default = choose_finalists(study, [before], num_finalists=1)
    # What was the default is a point like others now, and so is what was measured of it.
    assert (best.number, best.carried, best.final) == (0, [], None)
    assert (default.number, default.is_default, default.carried) == (1, True, [])


@pytest.mark.slow
@pytest.mark.parametrize("is_queued", [False, True])
def test_what_was_the_default_before_gets_fresh_seeds(
    sweep, load_finals, workspace, capfd, is_queued
):
    folder = workspace / "more" / "shape"
    folder.mkdir(parents=True)
    file = folder / "oval.yaml"
    package = "# @package _global_\n"
    searchpath = f"hydra.searchpath=[file://{workspace}/more]"
    points = "hydra.sweeper.enqueue=[{x: 0.5, n: 0}]" if is_queued else "hydra.sweeper.enqueue=[]"
    far = "++hydra.sweeper.references={far: {x: 0, n: 9}}"
    command = (searchpath, "shape=oval", "hydra.sweeper.finalists=1", FINALS[1], DEFAULT, far)
    command += (points,)
    task = Task()
    file.write_text(f"{package}x: 0.0\nn: 0\n")
    first = sweep(*command, "num_trials=3", task=task)
    assert finalists_of(load_finals()) == [2, 0, 1]
    carried = "0 (from the search), 2"
    assert f"of the default config (trial 0) and far (trial 1) {carried})" in capfd.readouterr().out
    # The values of trial 2 become those of the file.
    point = first.trials[2].params
    file.write_text(f"{package}x: {point['x']!r}\nn: {point['n']}\n")
    sweep(*command, "num_trials=4", recorder(), task=task)
    said = capfd.readouterr().out
    assert f"(mean over 2 seeds: 1, 2; of far (trial 1) {carried})" in said, said
    *_, again = load_finals().trials
    assert again.user_attrs["finalist_of"] == 0
    assert {"carried", "reused_from"}.isdisjoint(again.user_attrs)
    assert [seed for *_, number, _, seed in task.finals() if number == again.number] == [1, 2]
    assert EVENTS[-1][3] == [(0, again.number), (2, 0), (1, 2)]


def test_a_default_without_a_point_beside_it_is_in_the_finals_alone(sweep, load_finals, capfd):
    sweep(*FINALS, DEFAULT, "num_trials=1")
    assert finalists_of(load_finals()) == [0]
    assert "| 1 of 1, then 1 final, about " in capfd.readouterr().out


@pytest.mark.slow
def test_equal_points_are_one_finalist(sweep, load_finals):
    study = sweep(*FINALS, "x=0", "n=choice(1,2)", "num_trials=6", recorder())
    assert any("reused_from" in trial.user_attrs for trial in study.trials)
    assert len(load_finals().trials) == 2
    assert not any("reused_from" in study.trials[n].user_attrs for n in finalists_of(load_finals()))


@pytest.mark.slow
def test_a_default_that_was_interrupted_takes_part_as_its_second_trial(sweep, load_finals):
    task = Task(break_at=("search", 0, None), error=KeyboardInterrupt())
    command = (*FINALS, DEFAULT, "objectives.score=maximize", "num_trials=4")
    with pytest.raises(SystemExit):
        sweep(*command, task=task)
    task.break_at = None
    study = sweep(*command, task=task)
    (again,) = [t for t in study.trials if t.user_attrs.get("retry_of") == 0]
    assert finalists_of(load_finals())[2] == again.number
    assert load_finals().trials[2].user_attrs["enqueued"] == "default"


@pytest.mark.slow
def test_points_that_violate_a_constraint_are_no_finalists(sweep, load_finals):
    def task(cfg):
        open_trial(cfg).set_constraint("gap", 0.1 if cfg.trial.number == 1 else -0.1)
        if cfg.trial.study != cfg.study:
            return 1.0
        return [2.0, 0.5, 3.0, 1.0][cfg.trial.number]

    sweep(FINALS[0], "hydra.sweeper.final_seeds=1", "num_trials=4", task=task)
    assert finalists_of(load_finals("toy-finals-1")) == [3, 0]


@pytest.mark.slow
def test_the_constraints_of_a_run_of_the_search_count_with_it(sweep, load_finals):
    def task(cfg):
        open_trial(cfg).set_constraint("gap", 0.1 if cfg.trial.number == 0 else -0.1)
        return 1.0

    sweep(*FINALS, DEFAULT, "num_trials=2", task=task)
    finals = {t.user_attrs["finalist_of"]: t.user_attrs for t in load_finals().trials}
    assert finals[0]["carried"] == [[1.0]]
    assert finals[0]["repeat_constraints"] == [{"gap": 0.1}]
    assert "repeat_constraints" not in finals[1]


@pytest.mark.slow
def test_without_a_feasible_point_there_are_no_finals(sweep):
    def task(cfg):
        open_trial(cfg).set_constraint("gap", 1.0)
        return 1.0

    with pytest.raises(SweepError, match="no finals: no complete trial meets every constraint"):
        sweep(*FINALS, DEFAULT, "num_trials=2", task=task)


def test_several_objectives_rank_by_the_first(sweep, load_finals, capfd):
    def task(cfg):
        return [(3.0, 0.0), (1.0, 9.0), (2.0, 9.0), (4.0, 0.0)][cfg.trial.number]

    sweep(*FINALS, "+objectives.more=minimize", "num_trials=4", recorder(), task=task)
    assert finalists_of(load_finals()) == [1, 2]
    results = OmegaConf.load("sweeps/toy/optimization_results.yaml")
    assert len(results.solutions) == 2
    assert len(results.finals.trials[0]["values"]) == 2


@pytest.mark.slow
def test_a_changed_config_has_finals_of_its_own(sweep, load_finals, capfd):
    task = Task()
    sweep(*FINALS, "num_trials=2", task=task)
    before = [trial.value for trial in load_finals().trials]
    changed = (*FINALS, "shape=square", recorder())
    # Nothing ran under the new config: the old trials are none to compare.
    with pytest.raises(SweepError, match="no finals: no complete trial since trial 2"):
        sweep(*changed, ALLOW, "num_trials=2", task=task)
    sweep(*changed, "num_trials=5", task=task)
    assert [trial.value for trial in load_finals().trials] == before
    finals = load_finals("toy-finals-2-since-2")
    assert set(finalists_of(finals)) < {2, 3, 4}
    assert finals.user_attrs["fixed_config"]["shape.offset"] == "1.0"
    assert EVENTS[-1][1:3] == ("toy", "toy-finals-2-since-2")
