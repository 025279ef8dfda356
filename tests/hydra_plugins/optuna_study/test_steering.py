"""A study is steered from a second terminal: what is written is what the sweeper itself writes."""

import time

import pytest
from sqlalchemy.exc import OperationalError

from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._steering import (
    enqueue_point,
    retry_trials,
    stop_study,
)
from hydra_plugins.optuna_study._study.stopping import EVERY
from hydra_plugins.optuna_study.attributes import ENQUEUED, RETRY_OF

STORAGE = "sqlite:///store/optuna.db"


def states(study):
    return [trial.state.name for trial in study.trials]


def test_a_queued_point_waits_for_the_study_and_comes_next(sweep):
    sweep("num_trials=2")
    queued = enqueue_point(STORAGE, "toy", ["x=0.25"])
    assert (queued.number, queued.before, queued.is_running) == (2, None, False)
    study = sweep("num_trials=3")
    assert study.trials[2].params["x"] == 0.25
    # What it leaves open is drawn.
    assert study.trials[2].params["n"] in range(4)
    assert study.trials[2].user_attrs[ENQUEUED] == "point"
    same = enqueue_point(STORAGE, "toy", [f"{k}={v}" for k, v in study.trials[2].params.items()])
    assert same.before == 2
    assert sweep("num_trials=4").trials[3].value == study.trials[2].value


def test_failed_trials_are_run_again_once(sweep):
    study = sweep("behaviour=raise on odd", "num_trials=3", "hydra.sweeper.max_failure_rate=1")
    failed = [trial.number for trial in study.trials if trial.state.name == "FAIL"]
    assert failed == [1, 3]
    assert [queued.before for queued in retry_trials(STORAGE, "toy", [3])] == [3]
    with pytest.raises(SweepError, match="trial 3 is run again already"):
        retry_trials(STORAGE, "toy", [3])
    assert [queued.before for queued in retry_trials(STORAGE, "toy", [])] == [1]
    study = sweep("num_trials=5")
    again = {t.user_attrs[RETRY_OF]: t for t in study.trials if RETRY_OF in t.user_attrs}
    for number in failed:
        assert again[number].params == study.trials[number].params
        assert again[number].state.name == "COMPLETE"


BAD = [
    (enqueue_point, ["y=3"], r"y is not searched \(searched: x, n, shape\)"),
    (enqueue_point, ["shap=round"], "did you mean shape"),
    (enqueue_point, ["x=5"], r"x=5 is not in interval\(-1"),
    (enqueue_point, ["x=text"], "x=text is not in interval"),
    (enqueue_point, ["n=1.5"], "n=1.5 is not in"),
    (enqueue_point, ["shape=cube"], "shape=cube is not in round,square"),
    (enqueue_point, ["x=interval(0,1)"], "one value"),
    (enqueue_point, ["x"], "KEY=VALUE"),
    (enqueue_point, ["~x"], "KEY=VALUE"),
    (enqueue_point, ["x=1\x1b[31m"], r"x=1\\x1b\[31m"),
    (retry_trials, [0], "it is complete"),
    (retry_trials, [99], "no trial 99"),
    (retry_trials, [], "no failed trial"),
]


def test_what_cannot_be_done_is_said_in_one_line_and_writes_nothing(sweep):
    study = sweep("num_trials=1", "shape=round,square")
    for function, given, said in BAD:
        with pytest.raises(SweepError, match=said) as error:
            function(STORAGE, "toy", given)
        assert "\n" not in str(error.value)
    with pytest.raises(SweepError, match="not running"):
        stop_study(STORAGE, "toy", now=False)
    with pytest.raises(SweepError, match="did you mean toy"):
        enqueue_point(STORAGE, "toyy", ["x=0"])
    with pytest.raises(SweepError, match="there is no such file"):
        stop_study("sqlite:///store/none.db", "toy", now=False)
    with pytest.raises(SweepError, match="cannot be opened"):
        stop_study("postgresql+psycopg://u:secret@127.0.0.1:1/none", "toy", now=False)
    assert states(study) == ["COMPLETE"]
    assert "stop" not in study.user_attrs


def test_what_somebody_else_wrote_is_found_before_anything_is_added(sweep):
    study = sweep("num_trials=1")
    study.set_user_attr("stop", {"id": 5})
    with pytest.raises(SweepError, match="has not written"):
        enqueue_point(STORAGE, "toy", ["x=0"])
    assert len(study.trials) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "now"), [(1, True), (2, False)], ids=["now", "in order"])
def test_a_study_stops_after_its_trials_or_now(launch, load_study, workers, now):
    process = launch(
        "-m", "behaviour=crawl", "num_trials=30", f"hydra.sweeper.num_workers={workers}",
        "hydra.sweeper.final_seeds=2",
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with_trials = [s for s in _try(load_study) if s == "RUNNING"]
        if len(with_trials) == workers and "COMPLETE" in _try(load_study):
            break
        time.sleep(0.1)
    if now:  # somebody has asked before, and will not wait for the trials after all
        stop_study(STORAGE, "toy", now=False)
        time.sleep(2 * EVERY)
    assert stop_study(STORAGE, "toy", now=now) >= 1
    said, _ = process.communicate(timeout=60)
    study = load_study()
    if now:
        assert process.returncode == 130, said
        assert "to continue:" in said
        assert not any(state == "RUNNING" for state in states(study))
    else:
        assert process.returncode == 0, said
        assert "stopped: somebody asked the study to stop" in said
        assert set(states(study)) == {"COMPLETE"}
        assert "finals of study toy" in said
    assert len(study.trials) < 10


def _try(load_study):
    try:
        return states(load_study())
    except (KeyError, OperationalError):  # there is none yet
        return []


def test_an_old_request_stops_no_later_call(sweep):
    study = sweep("num_trials=1")
    study.set_user_attr("stop", {"id": "of yesterday", "now": True})
    assert states(sweep("num_trials=2")) == ["COMPLETE"] * 2
