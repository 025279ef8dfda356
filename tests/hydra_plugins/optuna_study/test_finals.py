"""The best points of a study again on fresh seeds: how finals run and end, and their results."""

import time
from pathlib import Path

import optuna
import pytest
from omegaconf import OmegaConf

from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study.callbacks import StudyCallback

from .test_search import CUSTOM
from .test_sweep import states
from .toy_callback import EVENTS, recorder
from .toy_finals import DEFAULT, FINALS, Task, finalists_of, ranking


def test_the_best_points_and_the_default_are_trained_again_on_fresh_seeds(
    sweep, load_finals, capfd
):
    task = Task()
    # The default, x=0 and n=0, is the worst point.
    study = sweep(*FINALS, DEFAULT, "objectives.score=maximize", "num_trials=5", task=task)
    finals = load_finals()
    best = ranking(study)[:-3:-1]
    expected = [*best, 0]
    assert finals.user_attrs["final_of"] == "toy"
    assert finals.user_attrs["seeds"] == [1, 2]
    assert finalists_of(finals) == expected
    for final in finals.trials:
        searched = study.trials[final.user_attrs["finalist_of"]]
        assert final.params == searched.params
        assert final.user_attrs["overrides"] == searched.user_attrs["overrides"]
        # The search has not chosen the default: what it has measured counts as the first seed.
        more = [0.0, 0.002] if searched.number == 0 else [0.001, 0.002]
        assert final.value == pytest.approx(searched.value + sum(more) / 2)
        assert [values[0] for values in final.user_attrs["repeats"]] == pytest.approx(
            [searched.value + added for added in more]
        )
    jobs = [("final", number, repeat, 1 + repeat) for number in range(3) for repeat in (0, 1)]
    assert task.finals() == [job for job in jobs if job[1:3] != (2, 0)]
    # Beside the search's folders, not in them.
    assert Path("sweeps/toy/finals-2/trial-0/.hydra").is_dir()
    assert Path("sweeps/toy/finals-2/trial-0/seed-1/.hydra").is_dir()
    said = capfd.readouterr().out
    names = f"trial {best[0]}, trial {best[1]} and the default config (trial 0)"
    assert f"finals: {names} again, 2 seeds each; the runs of the default" in said
    assert f"final of trial {best[0]} | complete | score" in said
    own = "of the default config (trial 0) 0 (from the search), 2"
    assert f"finals of study toy (mean over 2 seeds: 1, 2; {own}):" in said
    assert said.rstrip().endswith(f"{study.best_value:.5g} in the search: 0.0015 better")
    results = OmegaConf.load("sweeps/toy/optimization_results.yaml")
    assert results.best_params == study.best_params
    assert [trial.trial for trial in results.finals.trials] == expected
    assert [trial.seeds for trial in results.finals.trials] == [[1, 2], [1, 2], [0, 2]]
    assert results.finals.trials[0]["values"] == finals.trials[0].values
    assert results.finals.trials[0].search_values == [study.best_value]


def test_callbacks_of_the_finals_come_after_the_search(sweep):
    study = sweep(*FINALS, "num_trials=3", recorder())
    best = ranking(study)[:2]
    assert [event[:2] for event in EVENTS] == [
        ("start", "toy"), ("trial", 0), ("trial", 1), ("trial", 2), ("end", 3),
        ("start", "toy-finals-2"), ("trial", 0), ("trial", 1), ("end", 2),
        ("finals", "toy"),
    ]  # fmt: skip
    assert EVENTS[-1] == ("finals", "toy", "toy-finals-2", [(best[0], 0), (best[1], 1)], 0)


def test_without_final_seeds_there_are_none(sweep, load_study, capfd):
    sweep("hydra.sweeper.final_seeds=0", "num_trials=2", recorder())
    assert optuna.get_all_study_names("sqlite:///store/optuna.db") == ["toy"]
    assert "finals" not in capfd.readouterr().out
    assert EVENTS[-1][0] == "end"


def test_the_same_command_again_trains_nothing_and_reports_the_same(sweep, load_finals):
    task = Task()
    sweep(*FINALS, DEFAULT, "num_trials=3", recorder(), task=task)
    num_jobs, reported = len(task.calls), EVENTS[-1]
    sweep(*FINALS, DEFAULT, "num_trials=3", recorder(), task=task)
    assert len(task.calls) == num_jobs
    assert EVENTS[-1] == reported
    assert set(states(load_finals())) == {"COMPLETE"}
    results = OmegaConf.load("sweeps/toy/optimization_results.yaml")
    assert len(results.finals.trials) == len(reported[3])


def test_an_interruption_of_the_finals_loses_nothing_that_was_finished(sweep, load_finals, capfd):
    task = Task(break_at=("final", 1, 1), error=KeyboardInterrupt())
    with pytest.raises(SystemExit) as caught:
        sweep(*FINALS, "num_trials=3", recorder(), task=task)
    assert caught.value.code == 130
    assert EVENTS[-1] == ("end", 3, True, None)
    said = capfd.readouterr().out
    assert "has no result there: " in said
    assert "interrupted; to continue: python app.py -m study=toy" in said
    num_jobs = len(task.calls)
    sweep(*FINALS, "num_trials=3", recorder(), task=task)
    finals = load_finals()
    assert states(finals) == ["COMPLETE", "FAIL", "COMPLETE"]
    assert finalists_of(finals)[2] == finalists_of(finals)[1]
    # The second trial from its start; the first not at all.
    assert task.calls[num_jobs:] == [("final", 2, 0, 1), ("final", 2, 1, 2)]
    assert [final for _, final in EVENTS[-1][3]] == [0, 2]


@pytest.mark.slow
def test_an_interrupted_final_of_the_default_keeps_its_run_in_the_search(sweep, load_finals):
    given = (*FINALS, DEFAULT, "objectives.score=maximize", "num_trials=5")
    with pytest.raises(SystemExit):
        sweep(*given, task=Task(("final", 2, 1), KeyboardInterrupt()))
    task = Task()
    sweep(*given, task=task)
    assert task.finals() == [("final", 3, 1, 2)]
    assert load_finals().trials[3].user_attrs["repeats"] == [[0.0], [0.002]]


def test_an_interrupted_search_has_no_finals_yet(sweep):
    task = Task(break_at=("search", 1, None), error=KeyboardInterrupt())
    with pytest.raises(SystemExit):
        sweep(*FINALS, "num_trials=3", task=task)
    assert optuna.get_all_study_names("sqlite:///store/optuna.db") == ["toy"]


@pytest.mark.slow
def test_finals_that_fail_keep_the_search_and_continue_later(sweep, load_finals, load_study):
    def broken(cfg):
        if cfg.trial.study != cfg.study:
            raise ValueError("no room\nat all")
        return abs(cfg.x)

    command = (*FINALS, "num_trials=4", "hydra.sweeper.max_repeated_failures=2", recorder())
    with pytest.raises(SweepError) as caught:
        sweep(*command, task=broken)
    said = str(caught.value)
    assert said.startswith("finals: 2 trials in a row failed with ValueError: no room; ")
    assert said.endswith("to continue: python app.py -m study=toy")
    assert states(load_study()) == ["COMPLETE"] * 4
    assert EVENTS[-1][0] == "end"
    results = OmegaConf.load("sweeps/toy/optimization_results.yaml")
    assert results.best_value == load_study().best_value
    sweep(*command)
    assert states(load_finals()) == ["FAIL"] * 2 + ["COMPLETE"] * 2
    assert [final for _, final in EVENTS[-1][3]] == [2, 3]


@pytest.mark.slow
def test_a_finalist_without_a_result_is_named_and_the_others_are_compared(
    sweep, load_finals, capfd
):
    task = Task(break_at=("final", 0, 1), error=ValueError("broken"))
    command = ("hydra.sweeper.finalists=3", FINALS[1], "num_trials=4", recorder())
    study = sweep(*command, task=task)
    best = ranking(study)[:3]
    assert f"trial {best[0]} has no result there: ValueError: broken" in capfd.readouterr().out
    assert EVENTS[-1][3] == [(best[1], 1), (best[2], 2)]
    # The error may be gone the next time.
    task.break_at = None
    sweep(*command, task=task)
    assert EVENTS[-1][3] == [(best[0], 3), (best[1], 1), (best[2], 2)]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_a_fresh_seed_is_a_result(sweep, load_finals):
    task = Task(break_at=("final", 0, 0), error=FloatingPointError("loss is nan"))
    command = ("hydra.sweeper.finalists=3", FINALS[1], "num_trials=4", recorder())
    sweep(*command, task=task)
    num_jobs = len(task.calls)
    sweep(*command, task=task)
    assert len(task.calls) == num_jobs
    assert states(load_finals()) == ["FAIL", "COMPLETE", "COMPLETE"]


def test_one_final_seed_is_one_job_without_repeats(sweep, load_finals):
    task = Task()
    sweep(FINALS[0], "hydra.sweeper.final_seeds=1", "hydra.sweeper.num_seeds=3", "num_trials=2",
          task=task)  # fmt: skip
    assert task.finals() == [("final", 0, None, 3), ("final", 1, None, 3)]
    assert not Path("sweeps/toy/finals-1/trial-0/seed-0").exists()


@pytest.mark.slow
def test_a_function_gets_its_own_parameters_in_the_finals(sweep, load_finals):
    seen = []

    def task(cfg):
        seen.append((cfg.trial.study, cfg.x, cfg.n, cfg.name))
        return -cfg.x

    study = sweep(*FINALS, f"{CUSTOM}.more", "~space.n", "num_trials=6", task=task)
    finals = load_finals()
    for final in finals.trials:
        searched = study.trials[final.user_attrs["finalist_of"]]
        assert final.params == searched.params
        assert {"n", "name"} <= final.params.keys()
    in_search, in_finals = (
        {call[1:] for call in seen if call[0] == name} for name in ("toy", "toy-finals-2")
    )
    assert in_finals < in_search


@pytest.mark.slow
def test_after_a_timeout_and_an_exhausted_grid_there_are_finals(sweep, load_finals):
    def slow(cfg):
        time.sleep(0.2)
        return cfg.n

    sweep(*FINALS, "hydra.sweeper.timeout=0.3", "num_trials=100", task=slow)
    # They take longer than was left, and are not bound by it. How many trials there were by then
    # is the machine's affair.
    assert set(states(load_finals())) == {"COMPLETE"}
    grid = "sampler={_target_: optuna.samplers.GridSampler}"
    sweep(*FINALS, grid, "x=0,1", "n=0,1", "num_trials=100", study="grid")
    assert states(load_finals("grid-finals-2")) == ["COMPLETE"] * 2


@pytest.mark.slow
def test_another_number_of_seeds_in_the_search_is_refused_once_there_are_finals(sweep):
    sweep(*FINALS, "num_trials=2")
    with pytest.raises(SweepError, match=r"on the seeds \[1, 2\], which are \[2, 3\] now"):
        sweep(*FINALS, "num_trials=2", "hydra.sweeper.num_seeds=2")


@pytest.mark.slow
def test_how_many_finalists_and_seeds_may_change(sweep, load_finals):
    task = Task()
    sweep("hydra.sweeper.finalists=1", FINALS[1], "num_trials=3", task=task)
    sweep(*FINALS, "num_trials=3", task=task)
    assert len(load_finals().trials) == 2
    sweep(FINALS[0], "hydra.sweeper.final_seeds=3", "num_trials=3", task=task)
    assert len(load_finals("toy-finals-3").trials) == 2
    assert len(task.finals()) == 4 + 6


@pytest.mark.parametrize("key", ["seed", "job_seed"])
def test_a_seed_that_is_searched_leaves_none_fresh(sweep, key):
    own = ("hydra.sweeper.seed=0", "+job_seed=${seed}", f"hydra.sweeper.seed_key={key}")
    with pytest.raises(SweepError, match=f"^{key} is searched, so there is no fresh seed for fin"):
        sweep(*FINALS, *own, "seed=1,2,3", "num_trials=2")
    assert not Path("sweeps").exists()


@pytest.mark.slow
def test_the_finals_are_no_study_to_search_in(sweep):
    sweep(*FINALS, "num_trials=2")
    with pytest.raises(
        SweepError, match=r"^study=toy-finals-2: that study holds the finals of study toy; "
    ):
        sweep("num_trials=9", study="toy-finals-2")


@pytest.mark.slow
def test_another_study_with_their_name_is_not_changed(sweep, load_study):
    sweep("num_trials=1", study="toy-finals-2")
    with pytest.raises(SweepError, match="which has trials of its own; set study to a new name"):
        sweep(*FINALS, "num_trials=2")
    assert len(load_study("toy-finals-2").trials) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("hydra.sweeper.finalists=0", "hydra.sweeper.finalists=0: give a whole number from 1 up"),
        ("hydra.sweeper.final_seeds=-1", "final_seeds=-1: give a whole number from 0 up"),
        ("hydra.sweeper.final_seeds=two", "final_seeds='two': give a whole number from 0 up"),
    ],
)
def test_a_bad_setting_is_one_line(sweep, override, message):
    with pytest.raises(SweepError) as caught:
        sweep(override)
    assert message in str(caught.value)


def test_finals_need_a_first_seed(sweep):
    with pytest.raises(SweepError, match=r"^name=None: hydra.sweeper.final_seeds=2 needs a whole"):
        sweep(*FINALS, "hydra.sweeper.seed_key=name")


@pytest.mark.slow
def test_a_broken_callback_loses_no_finals(sweep, load_finals, capfd):
    message = r"broken failed \(RuntimeError: broken at finals\); .* is fixed, to continue: python"
    with pytest.raises(SweepError, match=message):
        sweep(*FINALS, "num_trials=2", recorder("broken", broken="finals"), recorder("good"))
    assert "callbacks.broken failed (RuntimeError: broken at finals)" in capfd.readouterr().out
    assert EVENTS[-1][0] == "finals"
    assert states(load_finals()) == ["COMPLETE"] * 2


class Stopped(StudyCallback):
    """A person stops it in the middle of its comparison."""

    def on_finals_end(self, study, finals, finalists, config):
        raise KeyboardInterrupt


@pytest.mark.slow
def test_a_stop_while_finals_are_compared_is_reported_like_any_other(sweep, capfd):
    stopped = f"+hydra.sweeper.callbacks.stopped={{_target_: {__name__}.Stopped}}"
    with pytest.raises(SystemExit) as caught:
        sweep(*FINALS, "num_trials=2", stopped)
    assert caught.value.code == 130
    assert "interrupted; to continue: python app.py -m study=toy" in capfd.readouterr().out
    sweep(*FINALS, "num_trials=2", recorder())
    assert EVENTS[-1][0] == "finals"
