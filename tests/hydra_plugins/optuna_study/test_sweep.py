"""What a study holds, and what is printed, after a sweep of the toy app."""

import contextlib
import os
import re
import shutil
from pathlib import Path

import optuna
import pytest
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import OmegaConf
from optuna.trial import TrialState

from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._study.study import sign_next
from hydra_plugins.optuna_study.callbacks import StudyCallback

from .toy_callback import EVENTS, recorder

THRESHOLD = ("pruner._target_=optuna.pruners.ThresholdPruner", "+pruner.upper=1.5", "num_reports=3")


def states(study):
    return [trial.state.name for trial in study.trials]


def points(study):
    return [trial.params for trial in study.trials if "retry_of" not in trial.user_attrs]


def log_of(number, study="toy"):
    return Path(f"sweeps/{study}/trial-{number}/app.log").read_text(encoding="utf-8")


def test_a_study_runs_its_budget_and_keeps_what_it_did(sweep, capfd):
    study = sweep()
    assert states(study) == ["COMPLETE"] * 4
    assert study.user_attrs["objectives"] == {"score": "minimize"}
    assert study.user_attrs["search_space"] == {
        "x": "interval(-1.0,1.0)",
        "n": "int(interval(0,3))",
    }
    assert study.metric_names == ["score"]
    best = study.best_trial
    assert best.user_attrs["overrides"] == [f"x={best.params['x']!r}", f"n={best.params['n']}"]
    assert Path("sweeps/toy/multirun.yaml").is_file()
    assert OmegaConf.load("sweeps/toy/optimization_results.yaml") == {
        "name": "optuna",
        "best_params": best.params,
        "best_value": best.value,
    }
    output = capfd.readouterr()
    lines = output.out.splitlines()
    assert [line.split(" | ")[0] for line in lines[:4]] == [f"trial {i}" for i in range(4)]
    assert lines[3].endswith(f"best {best.value:.5g} (trial {best.number}) | 4 of 4")
    assert lines[-1] == f"  python app.py x={best.params['x']!r} n={best.params['n']}"
    # Nothing from the launcher, nothing from Optuna.
    assert "Launching" not in output.out
    assert output.err == ""


def test_jobs_see_exactly_the_values_of_the_study(sweep):
    seen = []

    def task(cfg):
        seen.append((cfg.x, cfg.n, cfg.name))
        return 0.0

    study = sweep(r"name=choice('a b','1',a\,b)", "num_trials=3", task=task)
    assert seen == [(t.params["x"], t.params["n"], t.params["name"]) for t in study.trials]


@pytest.mark.slow
def test_a_group_is_a_choice_like_any_other(sweep):
    study = sweep("shape=round,square", "x=0", "n=0")
    assert {t.params["shape"]: t.value for t in study.trials} == {"round": 0.0, "square": 1.0}


def test_pruned_trials_count_and_are_not_failures(sweep, capfd):
    study = sweep(*THRESHOLD, "n=1,2", "x=0", "num_trials=5")
    assert len(study.trials) == 5
    assert {(t.params["n"], t.state.name) for t in study.trials} == {
        (1, "COMPLETE"),
        (2, "PRUNED"),
    }
    assert "failure" not in study.trials[0].user_attrs
    output = capfd.readouterr()
    assert "| pruned | score 2 | n=2" in output.out
    assert output.err == ""


def test_a_failed_trial_is_recorded_and_the_sweep_continues(sweep, capfd):
    study = sweep("behaviour='raise on odd'", "num_trials=2")
    # A failed trial does not use up the budget.
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE"]
    assert study.trials[1].user_attrs["failure"] == "ValueError: broken at 1"
    assert "Traceback" in log_of(1)
    assert "ValueError: broken at 1" in log_of(1)
    output = capfd.readouterr()
    assert "trial 1 | fail | ValueError: broken at 1 |" in output.out
    assert "Traceback" not in output.out + output.err
    assert "study toy: 2 complete, 1 fail" in output.out


def test_the_same_failure_again_and_again_ends_the_sweep(sweep, load_study, capfd):
    with pytest.raises(SweepError, match=r"^3 trials in a row failed with ValueError: broken$"):
        sweep("behaviour=raise", recorder())
    assert states(load_study()) == ["FAIL"] * 3
    assert load_study().trials[0].user_attrs["failure"] == "ValueError: broken\nin two lines"
    failure = "SweepError: 3 trials in a row failed with ValueError: broken"
    assert EVENTS[-1] == ("end", 3, False, failure)
    assert "in two lines" not in capfd.readouterr().out


@pytest.mark.slow
def test_failures_that_differ_end_the_sweep_too(sweep, load_study):
    def task(cfg):
        raise ValueError(cfg.trial.number)

    with pytest.raises(SweepError, match=r"^2 trials failed, more than .*=0.5 of 2, the last"):
        sweep("num_trials=2", task=task)
    assert states(load_study()) == ["FAIL"] * 2


@pytest.mark.slow
def test_an_unusable_return_is_a_failure(sweep, load_study):
    with pytest.raises(SweepError, match="1 trial in a row failed"):
        sweep("behaviour='return text'", "hydra.sweeper.max_repeated_failures=1")
    failure = load_study().trials[0].user_attrs["failure"]
    assert failure == "ValueError: the job returned '0.5' for score; return a float"


@pytest.mark.slow
def test_a_study_without_a_complete_trial_is_an_error(sweep):
    with pytest.raises(SweepError, match=r"^no trial of study toy completed: 2 pruned, 0 failed$"):
        sweep(*THRESHOLD, "n=2", "num_trials=2")


def test_several_objectives_give_a_pareto_front(sweep, capfd):
    # A pruner is no error there: Optuna cannot use it, and the study goes without.
    study = sweep("+objectives.minus_x=minimize", *THRESHOLD[:2], "n=0", "num_trials=2")
    assert [d.name for d in study.directions] == ["MINIMIZE", "MINIMIZE"]
    results = OmegaConf.load("sweeps/toy/optimization_results.yaml")
    assert [solution["params"] for solution in results.solutions] == [
        trial.params for trial in study.best_trials
    ]
    output = capfd.readouterr().out
    assert "on the Pareto front" in output
    assert "no trial beats these in every objective:" in output


@pytest.mark.slow
def test_a_stop_in_the_middle_changes_no_point(sweep):
    sampler = "sampler={_target_: optuna.samplers.TPESampler}"
    whole = sweep(sampler, "num_trials=4", study="whole")
    sweep(sampler, "num_trials=2", study="parts")
    parts = sweep(sampler, "num_trials=4", study="parts")
    assert points(parts) == points(whole)
    assert len({trial.params["x"] for trial in parts.trials}) == 4


def test_an_interrupted_trial_changes_no_point_either(sweep):
    whole = sweep("num_trials=2", study="whole")
    interrupted = []

    def stop_once(cfg):
        if cfg.trial.number == 1 and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return abs(cfg.x) + cfg.n

    with pytest.raises(SystemExit) as caught:
        sweep("num_trials=2", study="parts", task=stop_once)
    assert caught.value.code == 130
    parts = sweep("num_trials=2", study="parts", task=stop_once)
    assert states(parts) == ["COMPLETE", "FAIL", "COMPLETE"]
    assert parts.trials[1].user_attrs["failure"] == "interrupted"
    assert parts.trials[2].user_attrs["retry_of"] == 1
    assert parts.trials[2].params == parts.trials[1].params
    assert points(parts) == points(whole)


@pytest.mark.slow
def test_numbers_and_folders_continue_where_the_study_stopped(sweep):
    sweep("num_trials=2")
    first = log_of(0)
    sweep("num_trials=3")
    assert log_of(0) == first
    assert log_of(2)
    assert states(sweep("num_trials=3")) == ["COMPLETE"] * 3


def test_an_abandoned_trial_is_run_again(sweep, capfd):
    study = sweep("num_trials=1")
    dead = study.ask(study.trials[0].distributions)
    dead.set_user_attr("overrides", ["x=0.5", "n=1"])
    unsigned = study.ask()
    study = sweep("num_trials=3", recorder())
    assert states(study) == ["COMPLETE"] + ["FAIL"] * 2 + ["COMPLETE"] * 2
    for number in (dead.number, unsigned.number):
        assert study.trials[number].user_attrs["failure"] == "interrupted"
        assert study.trials[number].user_attrs["abandoned"]
        assert ("trial", number, "FAIL") in EVENTS
    # How long a trial ran whose process has gone is not known.
    line = r"^trial 1 \| interrupted \| x=\S+ n=\d \| best"
    assert re.search(line, capfd.readouterr().out, re.MULTILINE)
    # The point that was drawn in full is the next one; of the other there is nothing to repeat.
    assert study.trials[3].params == dead.params
    assert "retry_of" not in study.trials[4].user_attrs


@pytest.mark.slow
@pytest.mark.parametrize("lock_is_there", [True, False])
def test_the_trial_of_another_container_is_taken_over_when_its_lock_is_free(sweep, lock_is_there):
    study = sweep("num_trials=1")
    left = study.ask(study.trials[0].distributions)
    left.set_user_attr("worker", {"host": "container-1", "pid": 1, "lock": "1.lock"})
    if lock_is_there:
        Path("store/.optuna.db.workers/1.lock").touch()
    assert states(sweep("num_trials=2")) == ["COMPLETE", "FAIL", "COMPLETE"]


def test_a_kill_between_signing_and_asking_leaves_a_trial_that_is_asked_for_next(sweep):
    whole = sweep("num_trials=3", study="whole")
    study = sweep("num_trials=1")
    sign_next(study, (), {"host": "dead", "pid": 1, "lock": "1.lock"})
    study = sweep("num_trials=3")
    assert states(study) == ["COMPLETE"] * 3
    assert points(study) == points(whole)
    assert {trial.user_attrs["worker"]["pid"] for trial in study.trials} == {os.getpid()}


GRID = "sampler={_target_: optuna.samplers.GridSampler}"


@pytest.mark.slow
def test_grid_tries_every_cell_once_and_ends_with_the_reason(sweep, capfd):
    arguments = (GRID, "x=-1,0.5", "n=range(2)", "num_trials=100")
    study = sweep(*arguments)
    cells = [(t.params["x"], t.params["n"]) for t in study.trials]
    assert sorted(cells) == [(x, n) for x in (-1, 0.5) for n in (0, 1)]
    capfd.readouterr()
    assert len(sweep(*arguments).trials) == 4
    assert "stopped: every point of the grid was tried (4)" in capfd.readouterr().out


def test_a_group_that_is_left_open_is_searched(sweep, workspace, capfd):
    conf = shutil.copytree(Path(__file__).parent / "app" / "conf", workspace / "conf")
    config = (conf / "config.yaml").read_text("utf-8")
    (conf / "config.yaml").write_text(config.replace("- shape: round", "- shape: ???"))
    # the callback sees a config of each choice first
    arguments = ("shape=round,square", "num_trials=4", "hydra.sweeper.try_default=true", recorder())
    study = sweep(*arguments, conf=str(conf))
    assert {trial.params["shape"] for trial in study.trials} == {"round", "square"}
    assert "the default config is not tried: the config leaves shape open" in capfd.readouterr().out


class Refuses(StudyCallback):
    """Refuses a square whose n is 0, and every x of 1."""

    def before_study(self, config, searched):
        if config.x == 1 or (config.shape.offset == 1 and config.n == 0):
            raise ValueError(f"x={config.x}, n={config.n} cannot be")


def test_a_value_that_no_job_can_have_is_refused_before_the_study(sweep, workspace):
    refuses = f"+hydra.sweeper.callbacks.r={{_target_: {__name__}.Refuses}}"
    message = r"^x=0\.5,1: no trial can have x=1 \(x=1, n=0 cannot be\)$"
    with pytest.raises(SweepError, match=message):
        sweep("x=0.5,1", "n=0,1", refuses)
    assert not (workspace / "sweeps").exists()
    # with another n a square can be
    assert len(sweep("shape=round,square", "n=0,1", "x=0.5", "num_trials=2", refuses).trials) == 2
    with pytest.raises(SweepError, match="no trial can have shape=square"):
        sweep("shape=round,square", "x=0.5,0.6", "n=0", "study=other", refuses)


@pytest.mark.slow
def test_a_grid_skips_failed_cells(sweep):
    study = sweep(GRID, "x=-1,0.5", "n=range(2)", "num_trials=100", "behaviour='raise on odd'")
    assert states(study) == ["COMPLETE", "FAIL"] * 2


CHANGES = [
    ("x=interval(-1,2)", "x was interval(-1.0,1.0), is interval(-1.0,2.0)"),
    ("x=0.5", "x was interval(-1.0,1.0), is not given"),
    ("+y=1,2", "y was not given, is 1,2"),
    ("shape=square", "shape.offset was 0.0, is 1.0"),
    ("objectives.score=maximize", "{'score': 'minimize'}, are {'score': 'maximize'}"),
    ("+objectives.more=maximize", "are {'score': 'minimize', 'more': 'maximize'}"),
]


def test_a_study_with_another_search_is_refused(sweep, load_study):
    sweep("num_trials=1")
    for change, message in CHANGES:
        with pytest.raises(SweepError) as caught:
            sweep(change)
        assert message in str(caught.value)
        assert "set study to a new name" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert len(load_study().trials) == 1


@pytest.mark.slow
def test_sampler_and_pruner_may_change(sweep):
    sweep("num_trials=1")
    assert len(sweep("num_trials=2", *THRESHOLD[:2], "behaviour=null").trials) == 2


def test_callbacks_are_called_in_order(sweep):
    sweep("num_trials=2", recorder())
    assert EVENTS == [
        ("start", "toy", 0),
        ("trial", 0, "COMPLETE"),
        ("trial", 1, "COMPLETE"),
        ("end", 2, False, None),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("event", ["trial", "end"])
def test_a_broken_callback_loses_no_trial(sweep, load_study, capfd, event):
    # What is left undone at the end of a study, nothing makes up for: no exit code 0.
    ends = event == "end"
    with pytest.raises(SweepError) if ends else contextlib.nullcontext():
        sweep("num_trials=2", recorder("broken", broken=event), recorder("good"))
    assert states(load_study()) == ["COMPLETE"] * 2
    assert EVENTS[-1] == ("end", 2, False, None)
    output = capfd.readouterr().out
    assert f"hydra.sweeper.callbacks.broken failed (RuntimeError: broken at {event})\n" in output


def test_a_callback_that_cannot_start_ends_the_sweep(sweep, load_study):
    with pytest.raises(SweepError, match=r"callbacks\.r could not start \(RuntimeError: broken at"):
        sweep(recorder(broken="start"))
    assert load_study().trials == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("num_trials=0", "num_trials=0: give a whole number from 1 up"),
        ("num_trials=2.5", "num_trials=2.5: give a whole number from 1 up"),
        ("num_trials=many", "num_trials='many': give a whole number from 1 up"),
        ("objectives.score=up", "objectives={'score': 'up'}: give names with maximize or minimize"),
        ("objectives=null", "objectives=None: give names with maximize or minimize"),
        ("seed=-1", "seed=-1: give a whole number from 0 up, or null"),
        ("hydra.sweeper.num_workers=none", "give a whole number from 1 up, or auto"),
        ("hydra.sweeper.storage=null", "hydra.sweeper.storage=None: give sqlite:///FILE"),
        ("hydra.sweeper.storage=nowhere", "hydra.sweeper.storage=nowhere: give sqlite:///FILE"),
        ("hydra.sweeper.storage='sqlite://'", "jobs cannot open a database in memory"),
        ("hydra.sweeper.storage='sqlite:///file/x.db'", "cannot be opened (FileExistsError"),
        ("hydra.sweeper.storage='sqlite:///file'", "DatabaseError: file is not a database"),
        (
            "hydra.sweeper.storage='sqlite:///.'",
            "that is a folder; give sqlite:///FILE, for example",
        ),
        ("hydra.sweeper.storage=file.log", "hydra.sweeper.storage=file.log cannot be opened"),
        ("hydra.sweep.dir=file", "hydra.sweep.dir=file: it cannot be written"),
        ("space=null", "space=None: give a mapping"),
        ("x=tag(log,interval(0,1))", "a log scale starts above 0"),
        (GRID, "x=interval(-1.0,1.0): an interval has no grid"),
        ("sampler=tpe", "sampler='tpe': give a node with _target_"),
        ("sampler={_target_: optuna.samplers.None}", "sampler: no sampler can work with it"),
        ("+sampler.seed=3", "sampler.seed=3: a study has one seed"),
        ("+sampler.speed=3", "unexpected keyword argument 'speed'"),
        ("sampler._target_=optuna.pruners.NopPruner", "give a class of optuna.samplers"),
        ("pruner._target_=optuna.samplers.RandomSampler", "RandomSampler is no pruner"),
        ("+pruner.patience=3", "pruner: no pruner can be built from it (TypeError"),
        ("+hydra.sweeper.callbacks.r={_target_: no.such}", "callbacks.r: it cannot be built"),
        ("hydra.sweeper.job_overrides=x", "job_overrides='x': give a list of strings"),
    ],
)
def test_a_bad_setting_is_one_line_before_the_first_trial(sweep, workspace, override, message):
    (workspace / "file").write_text("text that is no database\n" * 50, encoding="utf-8")
    (workspace / "file.log").write_text("no journal\n" * 2, encoding="utf-8")
    with pytest.raises(HydraException) as caught:
        sweep(override)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (workspace / "sweeps" / "toy" / "trial-0").exists()


def test_an_unknown_key_is_found_before_there_is_a_study(sweep, workspace):
    with pytest.raises(ConfigCompositionException, match="Could not override 'y'"):
        sweep("+space.y='interval(0,1)'")
    assert not (workspace / "sweeps").exists()


def test_a_storage_in_the_home_folder(sweep, workspace, monkeypatch):
    monkeypatch.setenv("HOME", str(workspace / "store"))
    study = sweep("hydra.sweeper.storage='sqlite:///~/optuna.db'", "num_trials=1")
    assert states(study) == ["COMPLETE"]
    assert not (workspace / "~").exists()


@pytest.mark.slow
def test_a_study_lives_in_a_journal_as_well(sweep):
    def load(path="deep/study.log", name="toy"):
        backend = optuna.storages.journal.JournalFileBackend(path)
        storage = optuna.storages.JournalStorage(backend)
        return optuna.load_study(study_name=name, storage=storage)

    def task(cfg):
        study = load(cfg.trial.storage, cfg.trial.study)
        assert study.trials[cfg.trial.number].state is TrialState.RUNNING
        return cfg.n

    for num_trials in (2, 3):
        with pytest.raises(KeyError):  # the helper looks for the study in the database
            sweep("hydra.sweeper.storage=deep/study.log", f"num_trials={num_trials}", task=task)
        assert states(load()) == ["COMPLETE"] * num_trials
