"""The runs of trials in MLflow: what they show of how their trials ended, also after kills."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from mlflow.entities import Dataset, DatasetInput, InputTag
from optuna.trial import TrialState
from sqlalchemy import event
from sqlalchemy.engine import Engine
from study_bench import OOM, RATE, STOPPED, STORE, Bench

from tunetrail.tracking.run_log import create_run

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
    # Of its description.
    assert ("tunetrail.described" in tags) != seen_before
    tags.pop("tunetrail.described", None)
    assert tags == {
        "tunetrail.study": "s",
        "tunetrail.trial": "1",
        "tunetrail.state": "COMPLETE",
        "tunetrail.reused_from": source,
    }


@pytest.mark.parametrize("label", ["default", "library_defaults", None])
def test_a_reused_trial_has_what_the_page_of_a_run_shows(bench: Bench, label: str | None) -> None:
    source = bench.run(0, "FINISHED", verdict="good fit")
    bench.client.update_run(source, name="mine · trial 0 · lr 0.5")
    rows = Dataset(name="tweets", digest="d", source_type="local", source="{}")
    inputs = [DatasetInput(rows, [InputTag("mlflow.data.context", "train")])]
    bench.client.log_inputs(source, inputs)
    bench.add(0.7, mlflow_run_id=source)
    kind = {"enqueued": "default"} if label == "default" else {"reference": label} if label else {}
    bench.track.on_trial_end(bench.study, bench.add(0.7, reused_from=0, **kind))
    (copy,) = bench.runs_of(1)
    shown = "" if label is None else f"{label.replace('_', ' ')} · "
    assert copy.info.run_name == f"mine · trial 1 · {shown}lr 0.5"
    tags = copy.data.tags
    assert (tags["tunetrail.verdict"], tags.get("tunetrail.reference")) == ("good fit", label)
    assert [(one.dataset, one.tags) for one in copy.inputs.dataset_inputs] == [
        (one.dataset, one.tags) for one in bench.client.get_run(source).inputs.dataset_inputs
    ]
    place = f"#/experiments/{copy.info.experiment_id}/runs"
    for part in (
        f"Same point as [trial 0]({place}/{source})",
        f"Trial 1 of [s]({place}/{bench.parent.info.run_id}). Searched: ",
        f"tunetrail rerun {source}",
    ):
        assert part in tags["mlflow.note.content"]


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


def test_trials_lie_with_their_study_when_its_experiment_is_renamed(bench: Bench) -> None:
    bench.client.rename_experiment(bench.parent.info.experiment_id, "renamed")
    parent = bench.parent
    log = create_run(
        uri=STORE, experiment="tests", artifact_dir="mlruns/artifacts", name="trial-0",
        tags={"mlflow.parentRunId": parent.info.run_id},
    )  # fmt: skip
    assert log.experiment_id == parent.info.experiment_id
