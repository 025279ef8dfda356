"""When a sweep ends, and what it does about each kind of failure."""

import errno
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from hydra_plugins.optuna_study._errors import SweepError

from .toy_callback import recorder

TPE = "sampler={_target_: optuna.samplers.TPESampler}"


def states(study):
    return [trial.state.name for trial in study.trials]


def kinds(study):
    return [trial.user_attrs.get("failure_kind") for trial in study.trials]


def open_trial(cfg):
    study = optuna.load_study(study_name=cfg.trial.study, storage=cfg.trial.storage)
    trial_id = study._storage.get_trial_id_from_study_id_trial_number(
        study._study_id, cfg.trial.number
    )
    return optuna.Trial(study, trial_id)


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr("hydra_plugins.optuna_study._study.budget.OUTAGE_DELAYS", (0.05, 0.1))
    monkeypatch.setattr("hydra_plugins.optuna_study._jobs.pool.POLL_SECONDS", 0.02)


def test_no_trial_starts_after_the_timeout(sweep, capfd):
    def task(cfg):
        time.sleep(0.2)
        return cfg.n

    began = time.monotonic()
    study = sweep("hydra.sweeper.timeout=0.5", "num_trials=100", task=task)
    assert 0.5 <= time.monotonic() - began < 10
    # Three fit, on an idle machine.
    assert 1 <= len(study.trials) <= 3
    assert states(study) == ["COMPLETE"] * len(study.trials)
    assert "stopped: hydra.sweeper.timeout=0.5 s are over" in capfd.readouterr().out
    # What is left of the budget is there for another call.
    assert len(sweep("num_trials=4", task=task).trials) == 4


def test_a_study_without_progress_ends(sweep, capfd):
    def task(cfg):
        return [3.0, 2.0, 2.5, 2.0, 2.2, 1.0, 0.0][cfg.trial.number]

    patience = "hydra.sweeper.patience=3"
    study = sweep(patience, "num_trials=7", task=task)
    assert len(study.trials) == 5
    said = capfd.readouterr().out
    assert "stopped: 3 trials without a new best (hydra.sweeper.patience=3)" in said
    # It counts from the study, not from the process, and may be raised.
    assert len(sweep(patience, "num_trials=7", task=task).trials) == 5
    assert len(sweep("hydra.sweeper.patience=4", "num_trials=7", task=task).trials) == 7


def test_progress_on_a_pareto_front_is_a_new_point_on_it(sweep):
    def task(cfg):
        return [(2.0, 2.0), (1.0, 3.0), (3.0, 3.0), (2.0, 2.0), (0.0, 0.0)][cfg.trial.number]

    study = sweep(
        "hydra.sweeper.patience=2", "+objectives.more=minimize", "num_trials=5", task=task
    )
    assert len(study.trials) == 4


@pytest.mark.slow
def test_a_point_that_does_not_fit_into_memory_is_infeasible_and_tpe_avoids_it(sweep, capfd):
    def task(cfg):
        if cfg.n >= 2:
            raise MemoryError(f"no room for {cfg.n}")
        return cfg.x

    study = sweep(TPE, "n=range(0,8)", "num_trials=40", task=task)
    infeasible = [trial for trial in study.trials if trial.params["n"] >= 2]
    # Three in four points by chance; once the sampler knows, less than half.
    assert len([t for t in infeasible if t.number < 10]) >= 7
    assert len([t for t in infeasible if t.number >= 20]) <= 9
    for trial in infeasible:
        if "reused_from" in trial.user_attrs:
            continue
        assert trial.state is TrialState.PRUNED
        assert trial.constraints == {"out_of_memory": 1.0}
        assert trial.user_attrs["failure_kind"] == "out of memory"
    assert "| infeasible | out of memory (MemoryError: no room for" in capfd.readouterr().out


@pytest.mark.slow
def test_a_loss_that_is_not_finite_fails_the_trial_alone(sweep):
    def task(cfg):
        if cfg.trial.number < 4:
            raise FloatingPointError("loss is nan")
        return float(cfg.n)

    # The same words four times in a row: another point may do better.
    study = sweep("num_trials=8", task=task)
    assert states(study) == ["FAIL"] * 4 + ["COMPLETE"] * 8
    assert kinds(study)[:5] == ["not finite"] * 4 + [None]


def test_a_value_that_is_not_finite_is_reported_as_such(sweep):
    def task(cfg):
        return float("nan") if cfg.trial.number == 0 else 1.0

    study = sweep("num_trials=2", task=task)
    assert kinds(study) == ["not finite", None, None]


def test_after_an_outage_the_point_is_run_again(sweep, no_pauses):
    tried = []

    def task(cfg):
        tried.append(cfg.x)
        if len(tried) in (2, 3):
            raise ConnectionError("the server does not answer")
        return cfg.x

    study = sweep("num_trials=3", task=task)
    assert states(study) == ["COMPLETE", "FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    assert kinds(study)[1:3] == ["outage", "outage"]
    assert tried[1] == tried[2] == tried[3]
    assert study.trials[3].user_attrs["retry_of"] == 2


def test_an_outage_that_lasts_ends_the_sweep_and_keeps_the_point(sweep, load_study, no_pauses):
    def task(cfg):
        raise TimeoutError("no answer")

    with pytest.raises(SweepError, match=r"^3 trials in a row met an outage \(TimeoutErr"):
        sweep("num_trials=3", task=task)
    assert states(load_study()) == ["FAIL"] * 3 + ["WAITING"]
    study = sweep("num_trials=3")
    assert states(study)[3:] == ["COMPLETE"] * 3
    assert study.trials[3].params == study.trials[0].params


def test_a_full_disk_ends_the_sweep_at_once_and_keeps_the_point(sweep, load_study):
    def task(cfg):
        if cfg.trial.number == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return cfg.x

    with pytest.raises(SweepError, match=r"^the sweep stops: disk full \(OSError"):
        sweep("num_trials=5", task=task)
    assert states(load_study()) == ["COMPLETE", "FAIL", "WAITING"]
    assert kinds(load_study())[1] == "disk full"
    study = sweep("num_trials=3", task=task)
    assert study.trials[2].params == study.trials[1].params
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]


@pytest.mark.parametrize(
    ("rate", "failed"), [("0", "1 trial"), ("0.25", "2 trials"), ("1", "5 trials")]
)
def test_more_failures_than_the_limit_end_the_sweep(sweep, load_study, rate, failed):
    def task(cfg):
        raise ValueError("abcdef"[cfg.trial.number])

    with pytest.raises(SweepError, match=rf"^{failed} failed, more than"):
        sweep("num_trials=4", f"hydra.sweeper.max_failure_rate={rate}", task=task)
    assert states(load_study()) == ["FAIL"] * int(failed[0])


def test_constraints_of_a_job_decide_what_is_best(sweep, capfd):
    def task(cfg):
        open_trial(cfg).set_constraint("gap <= 0.2", 0.1 if cfg.trial.number < 2 else -0.1)
        return [1.0, 0.5, 3.0, 2.0][cfg.trial.number]

    study = sweep("num_trials=4", task=task)
    assert [trial.value for trial in study.trials] == [1.0, 0.5, 3.0, 2.0]
    said = capfd.readouterr().out
    assert "violates gap <= 0.2" in said
    assert "best 2 (trial 3) | 4 of 4" in said
    text = Path("sweeps/toy/optimization_results.yaml").read_text(encoding="utf-8")
    assert "best_value: 2.0" in text


def test_without_a_feasible_trial_there_is_no_best(sweep, capfd):
    def task(cfg):
        open_trial(cfg).set_constraint("gap", 1.0)
        return 1.0

    sweep("num_trials=2", task=task)
    said = capfd.readouterr().out
    assert "no complete trial meets every constraint" in said
    assert "run the best" not in said


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("hydra.sweeper.timeout=0", "hydra.sweeper.timeout=0: give a number of seconds above 0"),
        ("hydra.sweeper.timeout=soon", "hydra.sweeper.timeout='soon': give a number of seconds"),
        ("hydra.sweeper.patience=0", "hydra.sweeper.patience=0: give a whole number from 1 up"),
        ("hydra.sweeper.max_failure_rate=2", "max_failure_rate=2: give a share of num_trials"),
        ("hydra.sweeper.num_seeds=0", "hydra.sweeper.num_seeds=0: give a whole number from 1 up"),
        ("hydra.sweeper.try_default=1", "hydra.sweeper.try_default=1: give true or false"),
        ("hydra.sweeper.allow_changes=yes", "hydra.sweeper.allow_changes='yes': give true or"),
        ("hydra.sweeper.workers_per_gpu=0", "workers_per_gpu=0: give a whole number from 1 up"),
        ("hydra.sweeper.finalists=0", "up, or hydra.sweeper.final_seeds=0 for no finals"),
        ("hydra.sweeper.grace_period=0.5", "grace_period=0.5: give a number of seconds from 1 up"),
    ],
)
def test_a_bad_limit_is_one_line(sweep, override, message):
    with pytest.raises(SweepError) as caught:
        sweep(override)
    assert message in str(caught.value)


class TestChangedStudies:
    """A study continues only with the question it started with, or with allow_changes."""

    def test_an_edited_file_counts_as_much_as_an_override(self, sweep, workspace):
        folder = workspace / "more" / "shape"
        folder.mkdir(parents=True)
        searchpath = f"hydra.searchpath=[file://{workspace}/more]"
        (folder / "oval.yaml").write_text("offset: 0.25\n")
        sweep(searchpath, "shape=oval", "num_trials=1")
        (folder / "oval.yaml").write_text("offset: 0.5\n")
        with pytest.raises(SweepError) as caught:
            sweep(searchpath, "shape=oval", "num_trials=2")
        assert "another config: shape.offset was 0.25, is 0.5" in str(caught.value)
        assert "hydra.sweeper.allow_changes=true" in str(caught.value)

    @pytest.mark.slow
    def test_allow_changes_continues_and_reuses_nothing_of_before(self, sweep, capfd):
        sweep("x=0", "n=choice(1)", "num_trials=1")
        changed = ("x=0", "n=choice(1)", "shape=square", "num_trials=3")
        study = sweep(*changed, "hydra.sweeper.allow_changes=true")
        assert "another config: shape.offset was 0.0, is 1.0" in capfd.readouterr().out
        assert [trial.value for trial in study.trials] == [1.0, 2.0, 2.0]
        assert [t.user_attrs.get("reused_from") for t in study.trials] == [None, None, 1]
        # The change is the study's now.
        assert len(sweep(*changed[:3], "num_trials=4").trials) == 4

    @pytest.mark.slow
    def test_what_waits_while_the_config_changes_runs_once_under_the_new_one(self, sweep):
        def task(cfg):
            if cfg.trial.number == 1:
                raise KeyboardInterrupt
            return cfg.n

        points = "hydra.sweeper.enqueue=[{x: 0, n: 1}, {x: 0, n: 2}, {x: 0, n: 3}]"
        with pytest.raises(SystemExit):
            sweep(points, "num_trials=3", task=task)
        allow = "hydra.sweeper.allow_changes=true"
        study = sweep(points, "shape=square", "num_trials=4", allow, task=task)
        complete = [trial for trial in study.trials if trial.state is TrialState.COMPLETE]
        assert [trial.params["n"] for trial in complete] == [1, 3, 2, 1]
        assert study.user_attrs["plan_since"] == 2

    @pytest.mark.slow
    def test_a_wider_space_is_allowed_other_choices_are_not(self, sweep):
        allow = "hydra.sweeper.allow_changes=true"
        sweep("name=a,b", "num_trials=1")
        study = sweep("name=a,b", "x=interval(2,3)", "num_trials=2", allow)
        assert study.trials[1].params["x"] >= 2
        with pytest.raises(SweepError, match="cannot hold it beside its earlier trials"):
            sweep("name=a,b,c", "x=interval(2,3)", "num_trials=3", allow)

    def test_a_study_without_trials_takes_another_config(self, sweep, load_study):
        with pytest.raises(SweepError, match="could not start"):
            sweep(recorder(broken="start"))
        assert len(load_study().trials) == 0
        study = sweep("objectives.score=maximize", "n=0", "num_trials=1")
        assert study.direction.name == "MAXIMIZE"
