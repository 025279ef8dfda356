"""The best points of a study again on fresh seeds: which points, which seeds, which results."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._study.finalists import choose_finalists
from hydra_plugins.optuna_study.callbacks import StudyCallback

from .test_budget import open_trial
from .test_pool import TWO
from .test_processes import finish, wait_for
from .test_search import CUSTOM
from .test_sweep import EVENTS, recorder, states

FINALS = ("hydra.sweeper.finalists=2", "hydra.sweeper.final_seeds=2")
DEFAULT = "hydra.sweeper.try_default=true"
ALLOW = "hydra.sweeper.allow_changes=true"


class Task:
    """Scores by the seed too, and keeps what it was called with: the study's name first."""

    def __init__(self, break_at=None, error=None):
        self.break_at, self.error = break_at, error
        self.calls = []

    def __call__(self, cfg):
        is_final = cfg.trial.study != cfg.study
        # Of a study with one job a trial there is no repeat.
        call = ("final" if is_final else "search", cfg.trial.number, cfg.trial.get("repeat"))
        self.calls.append((*call, cfg.seed))
        if call == self.break_at:
            raise self.error
        return abs(cfg.x) + cfg.n + 0.001 * cfg.seed

    def finals(self):
        return [call for call in self.calls if call[0] == "final"]


@pytest.fixture(autouse=True)
def _no_events():
    EVENTS.clear()


@pytest.fixture
def load_finals(load_study):
    return lambda name="toy-finals-2": load_study(name)


def ranking(study):
    return [t.number for t in sorted(study.trials, key=lambda t: t.value)]


def finalists_of(study):
    return [trial.user_attrs["finalist_of"] for trial in study.trials]


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
    assert "finals of study toy (mean over the seeds 1, 2; runs of the default" in said
    assert said.rstrip().endswith(f"{study.best_value:.5g} in the search: 0.0015 better")
    results = OmegaConf.load("sweeps/toy/optimization_results.yaml")
    assert results.best_params == study.best_params
    assert [trial.trial for trial in results.finals.trials] == expected
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


def test_a_default_without_a_point_beside_it_is_in_the_finals_alone(sweep, load_finals):
    sweep(*FINALS, DEFAULT, "num_trials=1")
    assert finalists_of(load_finals()) == [0]


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


def test_one_final_seed_is_one_job_without_repeats(sweep, load_finals):
    task = Task()
    sweep(FINALS[0], "hydra.sweeper.final_seeds=1", "hydra.sweeper.num_seeds=3", "num_trials=2",
          task=task)  # fmt: skip
    assert task.finals() == [("final", 0, None, 3), ("final", 1, None, 3)]
    assert not Path("sweeps/toy/finals-1/trial-0/seed-0").exists()


def test_several_objectives_rank_by_the_first(sweep, load_finals, capfd):
    def task(cfg):
        return [(3.0, 0.0), (1.0, 9.0), (2.0, 9.0), (4.0, 0.0)][cfg.trial.number]

    sweep(*FINALS, "+objectives.more=minimize", "num_trials=4", recorder(), task=task)
    assert finalists_of(load_finals()) == [1, 2]
    results = OmegaConf.load("sweeps/toy/optimization_results.yaml")
    assert len(results.solutions) == 2
    assert len(results.finals.trials[0]["values"]) == 2


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
    with pytest.raises(SweepError, match=r"broken failed \(RuntimeError: broken at finals\); "):
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


@pytest.mark.slow
def test_the_finals_are_left_to_a_process_that_still_searches(sweep, load_study, workspace, capfd):
    study = sweep("num_trials=1")
    code = (
        "import json, pathlib; from hydra_plugins.optuna_study._jobs.workers import Worker\n"
        "with Worker(pathlib.Path('store/.optuna.db.workers')) as worker:\n"
        "    print(json.dumps(worker.identity), flush=True); input()"
    )
    program = [sys.executable, "-c", code]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        signature = json.loads(other.stdout.readline())
        study.ask(study.trials[0].distributions).set_user_attr("worker", signature)
        sweep(*FINALS, "num_trials=1")
        assert "no finals: the search still runs in another process" in capfd.readouterr().out
        other.kill()
    sweep(*FINALS, "num_trials=1")
    assert len(load_study("toy-finals-2").trials) == 1


@pytest.mark.slow
def test_ctrl_c_in_the_finals_ends_warm_workers_in_order(launch, load_finals, workspace):
    command = ("-m", TWO, *FINALS, "num_trials=4")
    process = launch(*command, "behaviour=crawl")
    wait_for(workspace / "sweeps/toy/finals-2/trial-1")
    process.send_signal(signal.SIGINT)
    output = finish(process)
    assert process.returncode == 130, output
    assert states(load_finals()) == ["FAIL"] * 2 + ["WAITING"] * 2
    assert "interrupted; to continue: python" in output
    finish(launch(*command))
    assert states(load_finals()) == ["FAIL"] * 2 + ["COMPLETE"] * 2


@pytest.mark.slow
def test_warm_workers_share_the_finals(launch, load_study, load_finals, workspace):
    output = finish(launch("-m", "behaviour='meet 2'", TWO, *FINALS, "num_trials=4"))
    assert states(load_study()) == ["COMPLETE"] * 4
    assert states(load_finals()) == ["COMPLETE"] * 2
    pids = {trial.user_attrs["worker"]["pid"] for trial in load_study().trials}
    assert {trial.user_attrs["worker"]["pid"] for trial in load_finals().trials} == pids
    assert len(re.findall(r"^final of trial \d+ \| complete", output, re.MULTILINE)) == 2
    # Of the search alone: in the finals no point is proposed.
    assert output.count("2 workers: the order") == 1
    folder = workspace / "sweeps/toy/finals-2/trial-0"
    assert "jobs" in (folder / "console.log").read_text()
    assert "jobs" in (folder / "seed-1/console.log").read_text()


@pytest.mark.slow
def test_two_processes_share_the_finals_of_their_study(launch, load_study, load_finals):
    command = ("-m", "behaviour=slow", *FINALS, "hydra.sweeper.finalists=4", "num_trials=8")
    processes = [launch(*command) for _ in range(2)]
    outputs = [finish(process) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert states(load_study()) == ["COMPLETE"] * 8
    finals = load_finals()
    assert states(finals) == ["COMPLETE"] * 4
    assert len(set(finalists_of(finals))) == 4
    for output in outputs:
        assert "finals of study toy (mean over the seeds 1, 2):" in output


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), (TWO,)])
def test_after_a_kill_the_same_command_completes_the_finals(
    launch, load_study, load_finals, workspace, workers
):
    command = ("-m", "behaviour=slow", *FINALS, "hydra.sweeper.finalists=3", "num_trials=3")
    process = launch(*command, *workers)
    wait_for(workspace / "sweeps/toy/finals-2/trial-1")
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = [trial for trial in load_finals().trials if trial.state.name == "COMPLETE"]
    output = finish(launch(*command, *workers))
    finals = load_finals()
    assert len(load_study().trials) == 3
    complete = [trial for trial in finals.trials if trial.state.name == "COMPLETE"]
    assert sorted(t.user_attrs["finalist_of"] for t in complete) == [0, 1, 2], output
    assert set(states(finals)) == {"COMPLETE", "FAIL"}
    for trial in done:
        assert finals.trials[trial.number] == trial
