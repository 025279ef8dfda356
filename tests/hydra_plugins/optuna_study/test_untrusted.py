"""Whoever can write to the storage of a study runs no code and deletes no file where it is read."""

import pickle
import socket
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._jobs.workers import Worker

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


HERE = {"host": socket.gethostname(), "boot": "", "pid": 1}
RECORDS = {
    "any file": lambda victim: {**HERE, "lock": str(victim)},
    "a file above": lambda victim: {**HERE, "lock": f"../../../{victim.name}"},
    "what guards the turns": lambda victim: {**HERE, "lock": "turn.lock"},
    "a link": lambda victim: {**HERE, "lock": "link.lock"},
    "no name": lambda victim: {**HERE, "lock": 7},
    "an empty name": lambda victim: {**HERE, "lock": ""},
    "a folder": lambda victim: {**HERE, "lock": "."},
    "no host": lambda victim: {"lock": str(victim)},
    "no record": lambda victim: "worker",
    "a list": lambda victim: [str(victim)],
    "a file above, of another container": lambda victim: {
        "host": "container-1",
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "pid": 1,
        "lock": f"../../../{victim.name}",
    },
}


def test_the_record_of_a_worker_names_no_file_to_delete(sweep, load_study, workspace):
    sweep("num_trials=1")
    victim = workspace / "victim"
    victim.write_text("precious")
    (workspace / "sweeps/toy/.workers/link.lock").symlink_to(victim)
    for record in RECORDS.values():
        attributes = {"worker": record(victim)}
        load_study().add_trial(optuna.create_trial(state=TrialState.RUNNING, user_attrs=attributes))
    study = sweep("num_trials=2")
    assert victim.read_text() == "precious"
    assert (workspace / "sweeps/toy/.workers/turn.lock").exists()
    for number, kind in enumerate(RECORDS, start=1):
        assert study.trials[number].state is TrialState.FAIL, kind
    assert study.trials[-1].state is TrialState.COMPLETE


def test_a_forged_record_does_not_drop_the_lock_of_who_reads_it(tmp_path):
    with Worker(tmp_path) as worker:
        forged = {**worker.identity, "pid": -1}
        assert not worker.has_left(forged)
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


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
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
