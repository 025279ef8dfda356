"""The study in MLflow: its runs, and whose weights are kept, also after kills."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from mlflow.entities import Run
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event
from sqlalchemy.engine import Engine

from tunetrail.errors import InputError
from tunetrail.studies.callback import TrackStudy
from tunetrail.studies.finals.marks import mark_winner
from tunetrail.tracking.run_log import create_run
from tunetrail.tracking.store import connect
from tunetrail.tracking.views import decode, view_key
from tunetrail.training.run_lock import TrialOf, note_trial

STORE = "sqlite:///mlruns/mlflow.db"
STORAGE = "sqlite:///mlruns/optuna.db"
RATE = "trainer.learning_rate"
TRACKING = {
    "uri": STORE,
    "experiment": "tests",
    "artifact_dir": "mlruns/artifacts",
    "checkpoint_dir": "mlruns/checkpoints",
}
OOM = {"failure": "OutOfMemoryError: no room", "failure_kind": "out of memory"}
STOPPED = {"failure": "interrupted", "failure_kind": "interrupted"}


def sweep_config() -> DictConfig:
    return OmegaConf.create(
        {
            "seed": 1,
            "sampler": {"_target_": "sampler"},
            "pruner": {"_target_": "pruner"},
            "sweep": {"constraints": {}},
            "task": {"main_metric": "accuracy"},
        }
    )


class Bench:
    """A study in MLflow whose trials and runs a test makes as jobs and sweeper would."""

    def __init__(self, name: str = "s", *, keep_best: int = 1, num_objectives: int = 1) -> None:
        self.client = connect(STORE)
        self.study = optuna.create_study(
            study_name=name,
            storage=STORAGE,
            directions=["maximize"] * num_objectives,
            load_if_exists=True,
        )
        self.study.set_user_attr("search_space", {RATE: "interval(0,1)"})
        self.study.set_user_attr("fixed_overrides", {})
        self.names = [f"validation/{name}" for name in ("accuracy", "macro_f1")[:num_objectives]]
        self.study.set_user_attr("objectives", dict.fromkeys(self.names, "maximize"))
        self.keep_best = keep_best
        self.track = self.start()

    def start(self) -> TrackStudy:
        """What a new process does."""
        track = TrackStudy(OmegaConf.create(TRACKING), self.keep_best)
        track.on_study_start(self.study, sweep_config())
        return track

    @property
    def parent(self) -> Run:
        return self.client.get_run(self.study.user_attrs["mlflow_run_id"])

    def run(self, number: int, status: str = "RUNNING", **tags: str) -> str:
        """The run of a job."""
        tags = {f"tunetrail.{name}": value for name, value in tags.items()}
        run = self.client.create_run(
            self.parent.info.experiment_id,
            run_name=f"trial-{number}",
            tags={
                "mlflow.parentRunId": self.parent.info.run_id,
                "tunetrail.study": self.study.study_name,
                "tunetrail.trial": str(number),
                **tags,
            },
        )
        run_id = str(run.info.run_id)
        self.client.log_text(run_id, "config", "config.yaml")
        if status != "RUNNING":
            self.client.set_terminated(run_id, status)
        return run_id

    def add(
        self, value: float | None = None, state: TrialState = TrialState.COMPLETE, **attrs: Any
    ) -> FrozenTrial:
        """Report a trial to the study, as the sweeper does, without calling the callback."""
        values = None if value is None else [value] * len(self.names)
        constraints = attrs.pop("constraints", None)
        self.study.add_trial(
            create_trial(
                state=state,
                values=values,
                params={RATE: 0.5},
                distributions={RATE: FloatDistribution(0, 1)},
                user_attrs=attrs,
                constraints=constraints,
            )
        )
        return self.study.get_trials()[-1]

    def trial(
        self,
        value: float | None = None,
        state: TrialState = TrialState.COMPLETE,
        *,
        model: bool = False,
        **attrs: Any,
    ) -> FrozenTrial:
        """A job that ended, was reported, and for which the callback was called."""
        run_id = self.run(len(self.study.get_trials()), kept="true" if model else "false")
        if model:
            self.model(run_id)
        trial = self.add(value, state, mlflow_run_id=run_id, **attrs)
        if state.is_finished():
            self.track.on_trial_end(self.study, trial)
        return trial

    def model(self, run_id: str) -> str:
        """A logged model that its run does not name yet, and a page: as after a kill."""
        experiment_id = self.client.get_run(run_id).info.experiment_id
        model = self.client.create_logged_model(experiment_id, "model", source_run_id=run_id)
        self.client.log_text(run_id, "page", "figures/learning_curves.html")
        weights = Path("weights.bin")
        weights.write_text(run_id)
        self.client.log_model_artifact(model.model_id, str(weights))
        return str(model.model_id)

    def runs_of(self, number: int) -> list[Run]:
        return list(
            self.client.search_runs(
                [self.parent.info.experiment_id],
                f"tags.mlflow.parentRunId = '{self.parent.info.run_id}' "
                f"and tags.`tunetrail.trial` = '{number}'",
            )
        )


def kept_weights() -> set[str]:
    """The runs whose weights are on the disk."""
    return {path.read_text() for path in Path("mlruns").rglob("weights.bin")}


def kept_pages() -> list[str]:
    return [path.parts[-4] for path in Path("mlruns").rglob("learning_curves.html")]


@pytest.fixture
def bench(workspace: Path) -> Bench:
    return Bench()


def read_view(bench: Bench) -> dict[str, Any]:
    """The view of a study in MLflow's pages."""
    tags = bench.client.get_experiment(bench.parent.info.experiment_id).tags
    return decode(tags[f"mlflow.sharedViewState.{view_key(bench.parent.info.run_id)}"])


def test_a_study_has_its_view_from_the_start_and_names_what_its_trials_measure(
    bench: Bench,
) -> None:
    first = read_view(bench)
    assert bench.parent.info.run_id in first["searchFilter"]
    assert [c["selectedParams"] for c in first["compareRunCharts"] if "selectedParams" in c] == [
        [RATE]
    ]
    run_id = bench.run(0)
    bench.client.log_metric(run_id, "speed/seconds", 1.0)
    bench.track.on_trial_end(bench.study, bench.add(0.5, mlflow_run_id=run_id))
    assert "speed" in {section["name"] for section in read_view(bench)["compareRunSections"]}


def test_finals_have_a_run_below_that_of_their_study(bench: Bench) -> None:
    study = optuna.create_study(study_name="s-finals-2", storage=STORAGE, direction="maximize")
    study.set_user_attr("final_of", "s")
    study.set_user_attr("seeds", [43, 44])
    finals = Bench("s-finals-2")
    finals.trial(0.5, finalist_of=7, repeats=[[0.4], [0.6]])
    finals.trial(0.4, finalist_of=0, enqueued="default", repeats=[[0.3], [0.5]])
    finals.track.on_study_end(finals.study, interrupted=False, failure=None)
    assert finals.parent.data.tags["mlflow.parentRunId"] == bench.parent.info.run_id
    assert finals.parent.data.tags["tunetrail.final_of"] == "s"
    assert finals.parent.data.params["seeds"] == "[43, 44]"
    assert "sampler" not in finals.parent.data.params
    folder = Path(finals.parent.info.artifact_uri.removeprefix("file://"))
    report = (folder / "report.md").read_text()
    assert report.startswith("# Finals of study s\n\nThe best points of study s")
    assert "did not use: 43, 44." in report
    assert "| 7 | complete | 0.5 |" in report
    assert "| 0 | complete | 0.4 |" in report
    assert not (folder / "figures").exists()
    # The study's own table is of its own trials alone.
    bench.track.on_study_end(bench.study, interrupted=False, failure=None)
    folder = Path(bench.parent.info.artifact_uri.removeprefix("file://"))
    assert "No trial completed." in (folder / "report.md").read_text()


def test_a_study_says_what_is_best_and_leads_to_it(bench: Bench) -> None:
    run_id = bench.trial(0.5).user_attrs["mlflow_run_id"]
    bench.trial(0.25)
    bench.trial(state=TrialState.FAIL, **OOM)
    parent = bench.parent
    described = parent.data.tags["mlflow.note.content"]
    link = f"[trial 0](#/experiments/{parent.info.experiment_id}/runs/{run_id})"
    assert described.startswith(f"Best in the search: {link}, validation/accuracy **0.5**.")
    history = bench.client.get_metric_history(parent.info.run_id, "trials/validation/accuracy")
    assert [(one.step, one.value) for one in history] == [(0, 0.5), (1, 0.25)]
    bench.track.on_study_end(bench.study, interrupted=False, failure=None)
    described = bench.parent.data.tags["mlflow.note.content"]
    assert "3 trials: 2 complete, 1 " in described
    assert "`study=s`" in described
    # What a person writes there is kept.
    bench.client.set_tag(parent.info.run_id, "mlflow.note.content", "mine")
    bench.trial(0.75)
    assert bench.parent.data.tags["mlflow.note.content"] == "mine"


def test_the_mark_of_the_winner_moves(bench: Bench) -> None:
    first, second = (bench.run(number, "FINISHED") for number in (0, 1))
    parents = [bench.parent.info.run_id]
    for number, expected in ((0, {first}), (1, {second}), (1, {second}), (None, set())):
        mark_winner(bench.client, bench.parent.info.experiment_id, parents, number)
        runs = [bench.client.get_run(run_id) for run_id in (first, second)]
        for marked in (
            {run.info.run_id for run in runs if run.data.tags.get("tunetrail.winner") == "true"},
            {run.info.run_id for run in runs if run.info.run_name.startswith("★ trial-")},
        ):
            assert marked == expected
    assert [run.info.run_name for run in runs] == ["trial-0", "trial-1"]


def test_weights_with_a_version_stay_after_a_better_trial(bench: Bench) -> None:
    registered = bench.trial(0.5, model=True).user_attrs["mlflow_run_id"]
    (model,) = bench.client.search_logged_models([bench.parent.info.experiment_id])
    bench.client.create_registered_model("m")
    bench.client.create_model_version("m", f"models:/{model.model_id}", run_id=registered)
    better = bench.trial(0.7, model=True).user_attrs["mlflow_run_id"]
    best = bench.trial(0.9, model=True).user_attrs["mlflow_run_id"]
    assert kept_weights() == {registered, best}
    assert better not in kept_pages()


ENDINGS = [
    (TrialState.COMPLETE, {}, "FINISHED", "COMPLETE"),
    (TrialState.PRUNED, {}, "FINISHED", "PRUNED"),
    (TrialState.PRUNED, OOM, "FAILED", "INFEASIBLE"),
    (TrialState.FAIL, STOPPED, "FAILED", "FAILED"),
]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_run_shows_how_its_trial_ended(
    bench: Bench, ending: tuple[TrialState, dict[str, str], str, str]
) -> None:
    """The job said something else before it died, and its run was not noted in the study."""
    state, attrs, status, tag = ending
    for number, left_as in enumerate(("RUNNING", "FINISHED", "KILLED", "FAILED")):
        run_id = bench.run(number, left_as, state="COMPLETE", failure="KeyboardInterrupt")
        ended = bench.client.get_run(run_id).info.end_time
        trial = bench.add(0.5 if state is TrialState.COMPLETE else None, state, **attrs)
        bench.track.on_trial_end(bench.study, trial)
        run = bench.client.get_run(run_id)
        assert run.info.status == status, left_as
        assert run.info.end_time == (ended or int(trial.datetime_complete.timestamp() * 1000))
        assert run.data.tags["tunetrail.state"] == tag
        for name in ("failure", "failure_kind"):
            assert run.data.tags.get(f"tunetrail.{name}") == attrs.get(name)


def test_a_start_synchronises_what_ended_before_a_kill(bench: Bench) -> None:
    """The sweeper was killed after the report to the study and before the callback."""
    runs = [bench.run(number) for number in range(5)]
    for state, attrs, _, _ in ENDINGS:
        bench.add(0.5 if state is TrialState.COMPLETE else None, state, **attrs)
    bench.add(state=TrialState.RUNNING)
    bench.start()
    assert [bench.client.get_run(run_id).info.status for run_id in runs] == [
        *(status for _, _, status, _ in ENDINGS),
        "RUNNING",
    ]
    assert bench.parent.data.metrics == {"best/validation/accuracy": 0.5}


def test_all_runs_of_a_trial_with_repeats_are_synchronised(bench: Bench) -> None:
    runs = [bench.run(0, "FINISHED", repeat="0"), bench.run(0, repeat="1")]
    bench.track.on_trial_end(bench.study, bench.add(state=TrialState.FAIL, **STOPPED))
    assert {bench.client.get_run(run_id).info.status for run_id in runs} == {"FAILED"}


def test_repeats_are_summed_up_on_the_last_run(workspace: Path) -> None:
    bench = Bench(num_objectives=2)
    first, last = bench.run(0, "FINISHED", repeat="0"), bench.run(0, "FINISHED", repeat="1")
    trial = bench.add(0.5, repeats=[[0.4, 0.1], [0.6, 0.3]])
    for _ in range(2):
        bench.track.on_trial_end(bench.study, trial)
    assert bench.client.get_run(first).data.metrics == {}
    assert bench.client.get_run(last).data.metrics == pytest.approx(
        {
            "seeds/validation/accuracy_mean": 0.5,
            "seeds/validation/accuracy_std": 0.02**0.5,
            "seeds/validation/macro_f1_mean": 0.2,
            "seeds/validation/macro_f1_std": 0.02**0.5,
        }
    )
    path = bench.client.download_artifacts(last, "reports/seeds.json")
    table = pd.DataFrame(**json.loads(Path(path).read_text()))
    assert table.to_dict("list") == {
        "repeat": [0, 1],
        "validation/accuracy": [0.4, 0.6],
        "validation/macro_f1": [0.1, 0.3],
    }


@pytest.mark.parametrize("seen_before", [False, True])
def test_a_reused_trial_has_a_run_with_its_source_s_numbers(
    bench: Bench, seen_before: bool
) -> None:
    source = bench.run(0, "FINISHED")
    bench.client.log_param(source, RATE, 0.5)
    bench.client.log_metric(source, "best/validation/accuracy", 0.7, step=9)
    bench.add(0.7, mlflow_run_id=source)
    trial = bench.add(0.7, reused_from=0)
    if seen_before:  # killed while the copy was made
        bench.run(1, reused_from=source)
    bench.track.on_trial_end(bench.study, trial)
    bench.start()
    (copy,) = bench.runs_of(1)
    if not seen_before:
        assert copy.info.run_name == "trial 1 · lr 0.5"
        assert copy.data.tags.pop("tunetrail.role") == "trial"
    assert copy.info.status == "FINISHED"
    assert copy.data.params == {RATE: "0.5"}
    assert copy.data.metrics == {"best/validation/accuracy": 0.7}
    tags = {name: text for name, text in copy.data.tags.items() if name.startswith("tunetrail")}
    assert tags == {
        "tunetrail.study": "s",
        "tunetrail.trial": "1",
        "tunetrail.state": "COMPLETE",
        "tunetrail.reused_from": source,
    }


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
import test_callback

def die(*args, **options):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(MlflowClient, sys.argv[1], die)
study = optuna.load_study(study_name="s", storage=test_callback.STORAGE)
TrackStudy(OmegaConf.create(test_callback.TRACKING), 1).on_study_start(
    study, test_callback.sweep_config())
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
    here = str(Path(__file__).parent)
    path = os.pathsep.join([here, *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, moment],
        env={**os.environ, "PYTHONPATH": path},
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


@pytest.fixture
def count_queries() -> Iterator[Callable[[Callable[[], None]], int]]:
    """How many statements MLflow's and Optuna's databases are sent meanwhile."""
    statements: list[str] = []

    def note(*arguments: Any) -> None:
        statements.append(arguments[2])

    event.listen(Engine, "before_cursor_execute", note)

    def count(action: Callable[[], None]) -> int:
        statements.clear()
        action()
        return len(statements)

    yield count
    event.remove(Engine, "before_cursor_execute", note)


def test_a_trial_s_end_costs_the_same_however_many_there_were(
    bench: Bench, count_queries: Callable[[Callable[[], None]], int]
) -> None:
    # In memory, so that MLflow's statements alone are counted.
    memory = optuna.create_study(study_name="m", direction="maximize")
    for name, value in bench.study.user_attrs.items():
        memory.set_user_attr(name, value)
    bench.study = memory
    bench.client.set_tag(bench.parent.info.run_id, "tunetrail.study", "m")

    def costs() -> int:
        trial = bench.add(0.1)
        return count_queries(lambda: bench.track.on_trial_end(memory, trial))

    bench.trial(0.5)
    costs()
    few = costs()
    for _ in range(300):
        bench.add(0.2)
    assert costs() <= few + 2


@pytest.mark.parametrize("num_objectives", [1, 2])
def test_the_end_logs_report_tables_and_figures(workspace: Path, num_objectives: int) -> None:
    bench = Bench(num_objectives=num_objectives)
    bench.trial(0.5, enqueued="default")
    best = bench.trial(0.7)
    bench.trial(None, TrialState.FAIL, failure="ValueError: a | b\nc", failure_kind="error")
    bench.track.on_study_end(bench.study, interrupted=False, failure=None)
    parent = bench.parent
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["tunetrail.best_run"] == best.user_attrs["mlflow_run_id"]
    folder = Path(parent.info.artifact_uri.removeprefix("file://"))
    assert "## Best: trial 1" in (folder / "report.md").read_text()
    assert (folder / "best_config.yaml").read_text() == "config"
    table = pd.read_csv(folder / "tables" / "trials.csv")
    assert table["state"].tolist() == ["complete", "complete", "failed"]
    assert table["note"].tolist()[2] == "ValueError: a | b\nc"
    page = (folder / "figures" / "study.html").read_text()
    assert "Timeline Plot" in page
    assert ("Pareto-front Plot" in page) == (num_objectives == 2)


@pytest.mark.parametrize("failed", [False, True])
def test_a_study_without_a_result_ends_with_a_report(bench: Bench, failed: bool) -> None:
    if failed:
        bench.trial(None, TrialState.FAIL, **STOPPED)
    bench.track.on_study_end(bench.study, interrupted=not failed, failure="x" if failed else None)
    assert bench.parent.info.status == ("FAILED" if failed else "KILLED")
    folder = Path(bench.parent.info.artifact_uri.removeprefix("file://"))
    assert "No trial completed." in (folder / "report.md").read_text()


@pytest.fixture
def finals(bench: Bench) -> Bench:
    """The finals of a study whose search is over."""
    bench.trial(0.5)
    bench.track.on_study_end(bench.study, interrupted=False, failure=None)
    study = optuna.create_study(study_name="s-finals-2", storage=STORAGE, direction="maximize")
    study.set_user_attr("final_of", "s")
    study.set_user_attr("seeds", [1, 2])
    return Bench("s-finals-2")


def test_the_run_of_a_study_is_open_until_its_finals_are_over(bench: Bench, finals: Bench) -> None:
    assert bench.parent.info.status == "RUNNING"
    finals.track.on_study_end(finals.study, interrupted=False, failure=None)
    assert finals.parent.info.status == "FINISHED"
    assert bench.parent.info.status == "RUNNING"
    # The run says how it ended; the sweep, that no winner came of it.
    with pytest.raises(InputError, match="the study has no winner"):
        conclude(bench, finals, {})
    assert bench.parent.info.status == "FINISHED"


@pytest.mark.parametrize(("failure", "status"), [(None, "KILLED"), ("ValueError: x", "FAILED")])
def test_finals_that_end_early_close_the_run_of_their_study(
    bench: Bench, finals: Bench, failure: str | None, status: str
) -> None:
    finals.track.on_study_end(finals.study, interrupted=failure is None, failure=failure)
    assert finals.parent.info.status == bench.parent.info.status == status
    assert bench.parent.data.tags.get("tunetrail.failure") == failure
    # The same command again.
    bench.start()
    assert bench.parent.info.status == "RUNNING"
    assert "tunetrail.failure" not in bench.parent.data.tags


def test_an_error_of_the_winner_is_on_the_run_of_its_study(bench: Bench, finals: Bench) -> None:
    finals.add(0.5, repeats=[[0.4], [0.6]])  # whose runs are in another store
    with pytest.raises(InputError, match="has no finished run in this store"):
        conclude(bench, finals, {0: 0})
    assert bench.parent.info.status == "FAILED"
    assert "no finished run in this store" in bench.parent.data.tags["tunetrail.failure"]


def conclude(bench: Bench, finals: Bench, finalists: dict[int, int]) -> None:
    """What the sweeper does last."""
    config = OmegaConf.merge(
        sweep_config(),
        {
            "registry": {"name": None},
            "tracking": {"log_model": True},
            "score_test": False,
            "cache_dir": "mlruns/cache",
        },
    )
    assert isinstance(config, DictConfig)
    bench.track.on_finals_end(bench.study, finals.study, finalists, config)


def delete_run(bench: Bench) -> None:
    bench.client.delete_run(bench.parent.info.run_id)


def delete_experiment(bench: Bench) -> None:
    bench.client.delete_experiment(bench.parent.info.experiment_id)


def delete_run_for_good(bench: Bench) -> None:
    with closing(sqlite3.connect("mlruns/mlflow.db")) as store:
        store.execute("DELETE FROM tags")
        store.execute("DELETE FROM params")
        store.execute("DELETE FROM runs")
        store.commit()


def remove_store(bench: Bench) -> None:
    Path("mlruns/mlflow.db").unlink()


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        (delete_run, "was deleted; restore it with `MLFLOW_TRACKING_URI=sqlite.* mlflow runs rest"),
        (delete_experiment, "with its experiment tests; restore it .* mlflow experiments restore"),
        (delete_run_for_good, "is not in .*; give its store with tracking.uri"),
        (remove_store, "no store in .*mlflow.db; give another with tracking.uri"),
    ],
)
def test_a_study_whose_run_is_gone_says_so_with_both_ways_on(
    bench: Bench, remove: Callable[[Bench], None], message: str
) -> None:
    bench.trial(0.5)
    remove(bench)
    with pytest.raises(InputError, match=f"study=s: .*{message}.*new name: study=NAME"):
        bench.start()
    # and no store is made in passing
    assert Path("mlruns/mlflow.db").exists() is (remove is not remove_store)


def test_trials_lie_with_their_study_when_its_experiment_is_renamed(bench: Bench) -> None:
    bench.client.rename_experiment(bench.parent.info.experiment_id, "renamed")
    parent = bench.parent
    log = create_run(
        uri=STORE, experiment="tests", artifact_dir="mlruns/artifacts", name="trial-0",
        tags={"mlflow.parentRunId": parent.info.run_id},
    )  # fmt: skip
    assert log.experiment_id == parent.info.experiment_id
