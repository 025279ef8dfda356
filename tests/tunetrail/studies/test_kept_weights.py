"""Whose weights are kept: those of the best trials and what is registered, also after kills."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from optuna.trial import TrialState
from study_bench import STOPPED, Bench

from tunetrail.training.run_lock import TrialOf, note_trial


def kept_weights() -> set[str]:
    """The runs whose weights are on the disk."""
    return {path.read_text() for path in Path("mlruns").rglob("weights.bin")}


def kept_pages() -> list[str]:
    return [path.parts[-4] for path in Path("mlruns").rglob("learning_curves.html")]


def test_weights_with_a_version_stay_after_a_better_trial(bench: Bench) -> None:
    registered = bench.trial(0.5, model=True).user_attrs["mlflow_run_id"]
    (model,) = bench.client.search_logged_models([bench.parent.info.experiment_id])
    bench.client.create_registered_model("m")
    bench.client.create_model_version("m", f"models:/{model.model_id}", run_id=registered)
    better = bench.trial(0.7, model=True).user_attrs["mlflow_run_id"]
    best = bench.trial(0.9, model=True).user_attrs["mlflow_run_id"]
    assert kept_weights() == {registered, best}
    assert better not in kept_pages()


@pytest.mark.parametrize("keep_best", [1, 2])
def test_the_first_keep_best_trials_keep_their_weights(workspace: Path, keep_best: int) -> None:
    bench = Bench(keep_best=keep_best)
    values = [0.5, 0.7, 0.6, 0.7, 0.4]
    trials = [bench.trial(value, model=True) for value in values]
    bench.track.on_trial_end(bench.study, bench.add(0.7, reused_from=1))
    best = [trials[1], trials[3]][:keep_best]  # of equals the first
    assert kept_weights() == {trial.user_attrs["mlflow_run_id"] for trial in best}
    assert set(kept_pages()) == kept_weights()


def test_weights_of_a_trial_that_violates_a_constraint_are_deleted(bench: Bench) -> None:
    broken = bench.trial(0.9, model=True, constraints={"gap/accuracy": 0.1})
    assert kept_weights() == {broken.user_attrs["mlflow_run_id"]}  # nothing better so far
    assert bench.parent.data.metrics == {}
    met = bench.trial(0.5, model=True, constraints={"gap/accuracy": -0.1})
    assert kept_weights() == {met.user_attrs["mlflow_run_id"]}
    names = ("best/validation/accuracy", "trials/validation/accuracy")
    assert bench.parent.data.metrics == dict.fromkeys(names, 0.5)


@pytest.mark.parametrize("by", ["mlflow.modelVersions", "tunetrail.registered"])
def test_weights_that_are_registered_stay_after_a_better_trial(bench: Bench, by: str) -> None:
    """Registered by hand, or by a study that was killed before there was a version."""
    first = bench.run(0)
    bench.client.set_logged_model_tags(bench.model(first), {by: "[]"})
    bench.add(0.5)
    better = bench.trial(0.9, model=True)
    worse = bench.run(2)
    bench.model(worse)
    bench.track.on_trial_end(bench.study, bench.add(0.7))
    assert kept_weights() == {first, better.user_attrs["mlflow_run_id"]}


def test_what_killed_processes_left_is_deleted_and_nothing_else(bench: Bench) -> None:
    """A model half copied, a model unknown to its run, checkpoints: of ended trials alone."""
    other = Bench("other")
    theirs = other.run(0)
    other.model(theirs)
    other.add(state=TrialState.RUNNING)
    single = str(bench.client.create_run(bench.parent.info.experiment_id).info.run_id)
    bench.model(single)
    killed, running, best = bench.run(0), bench.run(1), bench.run(2)
    half = bench.client.create_logged_model(
        bench.parent.info.experiment_id, "model", source_run_id=killed
    )
    for run_id in (killed, running, best):
        bench.model(run_id)
    for run_id in (killed, running, best, theirs, single, "unknown"):
        Path("mlruns/checkpoints", run_id, "checkpoint-1").mkdir(parents=True)
    for number, run_id in enumerate((killed, running, best)):
        note_trial(Path("mlruns/checkpoints", run_id), TrialOf(bench.parent.info.run_id, number))
    note_trial(Path("mlruns/checkpoints", theirs), TrialOf(other.parent.info.run_id, 0))
    # What a store says of a folder does not count.
    bench.client.set_tag(single, "mlflow.parentRunId", bench.parent.info.run_id)
    bench.client.set_tag(single, "tunetrail.trial", "0")
    bench.add(state=TrialState.FAIL, **STOPPED)
    bench.add(state=TrialState.RUNNING)
    bench.add(0.5)
    bench.start()
    assert kept_weights() == {running, best, theirs}
    left = bench.client.search_logged_models([bench.parent.info.experiment_id])
    assert half.model_id not in {model.model_id for model in left}
    assert {path.name for path in Path("mlruns/checkpoints").iterdir()} == {
        running,
        theirs,
        single,
        "unknown",
    }


def test_two_workers_leave_one_set_of_weights(bench: Bench) -> None:
    one = bench.track
    two = bench.start()
    bench.trial(0.5, model=True)
    bench.track = two
    better = bench.trial(0.6, model=True)
    bench.track = one
    bench.trial(0.4, model=True)
    assert kept_weights() == {better.user_attrs["mlflow_run_id"]}


_KILLED = """
import os, signal, sys
import optuna
from mlflow.tracking import MlflowClient
from omegaconf import OmegaConf
from tunetrail.studies.callback import TrackStudy
import study_bench

def die(*args, **options):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(MlflowClient, sys.argv[1], die)
study = optuna.load_study(study_name="s", storage=study_bench.STORAGE)
TrackStudy(OmegaConf.create(study_bench.TRACKING), 1).on_study_start(
    study, study_bench.sweep_config())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment", ["search_logged_models", "delete_logged_model", "list_artifacts"]
)
def test_the_best_weights_survive_a_kill_while_others_are_deleted(
    bench: Bench, moment: str
) -> None:
    runs = [bench.run(number, kept="true") for number in range(3)]
    for value, run_id in zip((0.5, 0.9, 0.6), runs, strict=True):
        bench.model(run_id)
        bench.add(value, mlflow_run_id=run_id)
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, moment],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert runs[1] in kept_weights()
    bench.start()
    assert kept_weights() == {runs[1]}
    assert kept_pages() == [runs[1]]
    assert len(bench.client.search_logged_models([bench.parent.info.experiment_id])) == 1
