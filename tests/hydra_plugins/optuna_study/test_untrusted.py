"""Whoever can write to the storage of a study runs no code and deletes no file where it is read."""

import json
import pickle
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._jobs.workers import Worker
from hydra_plugins.optuna_study._study.records import require_sound

HARM = "++shape._target_"
CMAES = ("sampler._target_=optuna.samplers.CmaEsSampler", "+sampler.n_startup_trials=1")


def waiting(fixed=None, more=None, **params):
    """Build a trial that waits, with ``params`` as its own, whatever a search asks for."""
    system = {} if fixed is None else {"fixed_params": fixed}
    return optuna.create_trial(
        state=TrialState.WAITING,
        params=params | (more or {}),
        distributions={
            **{name: CategoricalDistribution([value]) for name, value in (more or {}).items()},
            **{name: FloatDistribution(-1e9, 1e9) for name in params},
        },
        system_attrs=system,
    )


FOREIGN = {
    "a key that builds an object": waiting({"x": 0.5, "n": 1}, {HARM: "pandas.read_pickle"}),
    "Hydra's own node": waiting({"x": 0.5, "n": 1}, {"hydra.sweep.dir": "/tmp"}),
    "a key that is not searched": waiting({"x": 0.5, "n": 1, "name": "${oc.env:HOME}"}),
    "a value out of range": waiting({"x": 5.0, "n": 1}),
    "a text for a number": waiting({"x": "${oc.env:HOME}", "n": 1}),
    "a list for a number": waiting({"x": [0.5], "n": 1}),
    "a point that is none": waiting(["x"]),
    "a number for a point": waiting(5),
    "a value in the trial itself": waiting(x=5.0),
}


def test_a_waiting_point_outside_the_search_space_is_closed_and_said(sweep, load_study, capsys):
    sweep("num_trials=1")
    for trial in FOREIGN.values():
        load_study().add_trial(trial)
    seen = []
    study = sweep("num_trials=2", task=lambda cfg: seen.append(cfg) or 0.0)
    said = capsys.readouterr().out
    for number, kind in enumerate(FOREIGN, start=1):
        closed = study.trials[number]
        assert closed.state is TrialState.FAIL, kind
        assert closed.user_attrs["failure"].startswith("its point is not in the search space (")
        assert f"trial {number} | fail | its point is not in the search space" in said
    (cfg,) = seen
    assert cfg.trial.number == len(FOREIGN) + 1
    assert "_target_" not in cfg.shape
    assert cfg.name is None


HERE = {"host": socket.gethostname(), "pid": 1}
RECORDS = {
    "any file": {**HERE, "lock": "VICTIM"},
    "a file above": {**HERE, "lock": "../../../victim"},
    "what guards the turns": {**HERE, "lock": "TURN"},
    "a link": {**HERE, "lock": "link-1-0123abcd.lock"},
    "no name": {**HERE, "lock": 7},
    "an empty name": {**HERE, "lock": ""},
    "a folder": {**HERE, "lock": "."},
    "no host": {"lock": "VICTIM"},
    "no record": "worker",
    "a list": ["VICTIM"],
    "a file above, of another container": {"host": "container-1", "lock": "../../../victim"},
}


def test_the_record_of_a_worker_names_no_file_to_delete(sweep, load_study, workspace):
    sweep("num_trials=1")
    victim = workspace / "victim"
    victim.write_text("precious")
    folder = workspace / "store/.optuna.db.workers"
    (folder / "link-1-0123abcd.lock").symlink_to(victim)
    [turn] = folder.glob("turn-*")
    for record in RECORDS.values():
        text = json.dumps(record).replace("VICTIM", str(victim)).replace("TURN", turn.name)
        attributes = {"worker": json.loads(text)}
        load_study().add_trial(optuna.create_trial(state=TrialState.RUNNING, user_attrs=attributes))
    study = sweep("num_trials=2")
    assert victim.read_text() == "precious"
    assert turn.exists()
    for number, kind in enumerate(RECORDS, start=1):
        assert study.trials[number].state is TrialState.FAIL, kind
    assert study.trials[-1].state is TrialState.COMPLETE


def test_a_forged_record_does_not_drop_the_lock_of_who_reads_it(tmp_path):
    with Worker(tmp_path) as worker:
        forged = {**worker.identity, "pid": -1}
        running = optuna.create_trial(state=TrialState.RUNNING, user_attrs={"worker": forged})
        assert worker.find_left([running]) == []
        done = subprocess.run(
            [sys.executable, "-c", LOCK, str(tmp_path / forged["lock"])], check=False
        )
        assert done.returncode == 1


LOCK = """
import fcntl, sys
try:
    fcntl.lockf(open(sys.argv[1], "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(1)
"""


class Harm:
    """Leaves a file behind when its pickle is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


SAMPLERS = ["CmaEsSampler", "TPESampler", "GPSampler", "NSGAIISampler", "QMCSampler"]


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("CmaEsSampler", []),
        *(
            pytest.param(name, more, marks=pytest.mark.slow)
            for name, more in [
                ("CmaEsSampler", ["+sampler.use_separable_cma=true"]),
                ("CmaEsSampler", ["+sampler.with_margin=true"]),
                *((name, []) for name in SAMPLERS[1:]),
            ]
        ),
    ],
)
def test_no_sampler_opens_a_pickle_of_the_study(sweep, load_study, workspace, name, more):
    target = f"sampler._target_=optuna.samplers.{name}"
    sweep(target, *more, "num_trials=6")
    study = load_study()
    content = pickle.dumps(Harm(workspace / "harmed")).hex()
    for trial in study.get_trials():
        forged = optuna.create_trial(
            values=[0.0], params=trial.params, distributions=trial.distributions,
            user_attrs=trial.user_attrs,
            system_attrs={
                f"{prefix}:{what}": value
                for prefix in ("cma", "sepcma", "cmawm")
                for what, value in (("optimizer:0", content), ("generation", 0))
            },
        )  # fmt: skip
        study.add_trial(forged)
    sweep(target, *more, "num_trials=14")
    assert not (workspace / "harmed").exists()
    assert len(load_study().trials) >= 14


def test_cma_es_within_another_sampler_is_refused(sweep):
    inner = "+sampler.independent_sampler={_target_:optuna.samplers.CmaEsSampler}"
    with pytest.raises(
        SweepError, match=r"sampler\.independent_sampler: CmaEsSampler opens pickles"
    ):
        sweep("sampler._target_=optuna.samplers.GPSampler", inner)


def finished(**attributes):
    return optuna.create_trial(
        values=[0.5],
        params={"x": 0.5, "n": 0},
        distributions={"x": FloatDistribution(-1, 1), "n": IntDistribution(0, 3)},
        user_attrs=attributes,
    )


MALFORMED = {
    "overrides": [5, {"a": 1}, "x=1", [1, 2], None],
    "retry_of": ["0", -1, 1, 99, True],
    "reused_from": ["0", 99, -1, 1.5],
    "finalist_of": ["a", -1],
    "failure": [5, ["a"]],
    "failure_kind": ["arson", 5, None],
    "repeats": [5, [5], [[1.0, 2.0]], [["a"]], [[float("nan")]]],
    "carried": [5, [5], [[1.0, 2.0]], [["a"]]],
    "spread": [5, ["a"], [0.1, 0.1]],
    "num_evaluations": ["many", -1],
    "repeat_constraints": [5, [5], [{"a": "b"}]],
    "fits": [5, {"verdict": "good fit"}, [5]],
    "mlflow_run_id": [5],
    "enqueued": [["default"]],
}
OF_STUDY = {
    "objectives": [5, ["score"], {"score": 1}],
    "search_space": [5, {"x": 1}],
    "fixed_config": [5, {"x": {}}],
    "plan_since": ["0", -1],
    "final_of": [5],
    "seeds": [5, ["a"]],
    "pinned": [5, {"a": 5}],
    "test_looks": [5, [5]],
}


def test_a_malformed_record_is_one_line():
    study = optuna.create_study(study_name="toy")
    sound = finished()
    for name, values in MALFORMED.items():
        for value in values:
            trials = [sound, finished(**{name: value})]
            trials[0].number, trials[1].number = 0, 1
            with pytest.raises(SweepError, match=f"^study toy, trial 1 holds .*{name}"):
                require_sound(study, trials)
    for name, values in OF_STUDY.items():
        for value in values:
            study = optuna.create_study(study_name="toy")
            study.set_user_attr(name, value)
            with pytest.raises(SweepError, match=f"^study toy holds .*{name}"):
                require_sound(study, [])


def test_a_malformed_record_ends_the_sweep_before_anything_runs(sweep, load_study, workspace):
    sweep("num_trials=1")
    load_study().add_trial(finished(retry_of=1))
    with pytest.raises(SweepError, match=r"study toy, trial 1 holds .* no such trial before it"):
        sweep("num_trials=3")
    sweep("num_trials=1", study="other")
    for name, value in (("plan_since", "0"), ("fixed_config", 5)):
        load_study("other").set_user_attr(name, value)
        with pytest.raises(SweepError, match=f"study other holds .*{name}"):
            sweep("num_trials=3", study="other")


UNREADABLE = (
    ("trial_params", "distribution_json", "{}"),
    ("trial_params", "param_value", None),
    ("trial_values", "value_type", "INF_POS"),
    ("trial_user_attributes", "value_json", "{nope"),
    ("trial_user_attributes", "value_json", "[" * 5000 + "]" * 5000),
    ("trials", "state", "DONE"),
    ("trials", "datetime_start", "yesterday"),
)


def test_a_row_that_optuna_cannot_read_is_one_line(sweep, workspace):
    sweep("num_trials=1")
    for number, (table, column, value) in enumerate(UNREADABLE):
        # A copy by SQLite: a part of the study may stand in its write-ahead log still.
        path = workspace / f"store/{number}.db"
        with closing(sqlite3.connect(workspace / "store/optuna.db")) as database:
            database.execute("VACUUM INTO ?", (str(path),))
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(f"UPDATE {table} SET {column} = ?", (value,))
        with pytest.raises(SweepError, match=r"^study toy holds what this sweeper") as caught:
            sweep("num_trials=2", f"hydra.sweeper.storage=sqlite:///{path}")
        assert "\n" not in str(caught.value), (table, column)


def test_no_command_is_printed_for_a_point_outside_the_search_space(sweep, load_study, capsys):
    sweep("num_trials=1")
    load_study().add_trial(
        optuna.create_trial(
            values=[-9.0],
            params={"x": 0.5, "n": 0, HARM: "os.system"},
            distributions={
                "x": FloatDistribution(-1, 1),
                "n": IntDistribution(0, 3),
                HARM: CategoricalDistribution(["os.system"]),
            },
            user_attrs={"overrides": ["x=0.5", "n=0", f"{HARM}=os.system"]},
        )
    )
    capsys.readouterr()
    sweep("num_trials=2")
    said = capsys.readouterr().out
    assert f"(trial 1 is not in the present search space: {HARM} is not searched)" in said
    assert not [line for line in said.splitlines() if "python app.py" in line and HARM in line]
