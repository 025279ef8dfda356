"""The run of a study in MLflow: what it shows, how it ends, and what is said if it is gone."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState
from study_bench import OOM, RATE, STOPPED, STORAGE, Bench, sweep_config

from tunetrail.errors import InputError
from tunetrail.studies.finals.marks import mark_winner
from tunetrail.tracking.views import decode, view_key


def read_view(bench: Bench) -> dict[str, Any]:
    """The view of a study in MLflow's pages."""
    tags = bench.client.get_experiment(bench.parent.info.experiment_id).tags
    return decode(tags[f"mlflow.sharedViewState.{view_key(bench.parent.info.run_id)}"])


def read_description(bench: Bench) -> str:
    """What MLflow shows above the run of a study."""
    return str(bench.parent.data.tags["mlflow.note.content"])


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
    finals.trial(0.4, finalist_of=0, enqueued="default", repeats=[[0.3], [0.5]], carried=[[0.3]])
    finals.track.on_study_end(finals.study, interrupted=False, failure=None)
    assert finals.parent.data.tags["mlflow.parentRunId"] == bench.parent.info.run_id
    assert finals.parent.data.tags["tunetrail.final_of"] == "s"
    assert finals.parent.data.params["seeds"] == "[43, 44]"
    assert "sampler" not in finals.parent.data.params
    folder = Path(finals.parent.info.artifact_uri.removeprefix("file://"))
    report = (folder / "report.md").read_text()
    assert report.startswith("# Finals of study s\n\nThe best points of study s")
    for said in (report, finals.parent.data.tags["mlflow.note.content"]):
        assert (
            "did not use: 43, 44. The search did not choose trial 0, so instead of 43 their" in said
        )
    assert "| 7 | complete | 0.5 |" in report
    assert "| 0 | complete | 0.4 |" in report
    assert not (folder / "figures").exists()
    # The study's own table is of its own trials alone.
    bench.track.on_study_end(bench.study, interrupted=False, failure=None)
    folder = Path(bench.parent.info.artifact_uri.removeprefix("file://"))
    assert "No trial completed." in (folder / "report.md").read_text()


def test_a_study_says_what_is_best_and_leads_to_it(bench: Bench) -> None:
    run_id = bench.trial(0.5).user_attrs["mlflow_run_id"]
    assert "\n1 trial: 1 complete." in read_description(bench)
    bench.trial(0.25)
    # Trial 0 stays the best, and the counts are those of now.
    assert "\n2 trials: 2 complete." in read_description(bench)
    bench.trial(state=TrialState.FAIL, **OOM)
    parent, described = bench.parent, read_description(bench)
    assert "\n3 trials: 2 complete, 1 failed." in described
    link = f"[trial 0](#/experiments/{parent.info.experiment_id}/runs/{run_id})"
    assert described.startswith(f"Best in the search: {link}, validation/accuracy **0.5**.")
    history = bench.client.get_metric_history(parent.info.run_id, "trials/validation/accuracy")
    assert [(one.step, one.value) for one in history] == [(0, 0.5), (1, 0.25)]
    bench.track.on_study_end(bench.study, interrupted=False, failure=None)
    assert "`study=s`" in read_description(bench)
    # What a person writes there is kept.
    bench.client.set_tag(parent.info.run_id, "mlflow.note.content", "mine")
    bench.trial(0.75)
    assert read_description(bench) == "mine"


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
    failure = "ValueError: no room_left" if failed else None
    bench.track.on_study_end(bench.study, interrupted=not failed, failure=failure)
    assert bench.parent.info.status == ("FAILED" if failed else "KILLED")
    assert ("\n**Failed**: ValueError: no room\\_left\n" in read_description(bench)) == failed
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


def test_a_study_without_a_winner_says_which_finalist_is_nearest_and_what_to_change(
    bench: Bench, finals: Bench
) -> None:
    finals.add(0.5, repeats=[[0.4], [0.6]], constraints={"gap/accuracy": 0.05, "gap/loss": -1.0})
    nearest = "trial 0, violates gap/accuracy by 0.05"
    keys = "sweep.finalists.*sweep.constraints.*study=NAME.*sweep.final_seeds=0"
    with pytest.raises(InputError, match=f"no winner: .*the nearest, {nearest}; .*{keys}"):
        conclude(bench, finals, {0: 0})
    folder = Path(bench.parent.info.artifact_uri.removeprefix("file://"))
    assert nearest in (folder / "report.md").read_text()


def test_what_was_forgotten_is_in_the_report_of_the_search_alone(
    bench: Bench, finals: Bench
) -> None:
    """A table and a figure show it, which finals do not have."""
    for one, is_shown in ((bench, True), (finals, False)):
        for score, forgotten in ((0.6, 0.4), (0.7, 0.2)):
            run_id = one.trial(score).user_attrs["mlflow_run_id"]
            for name, value in {
                "best/standard_error": 0.02,
                "forgetting/perplexity_before": 30.0,
                "forgetting/forgotten": forgotten,
                "forgetting/forgotten_low": forgotten / 2,
            }.items():
                one.client.log_metric(run_id, name, value)
        one.track.on_study_end(one.study, interrupted=False, failure=None)
        folder = Path(one.parent.info.artifact_uri.removeprefix("file://"))
        assert ("forgetting.json" in (folder / "report.md").read_text()) is is_shown
        assert (folder / "tables/forgetting.json").is_file() is is_shown


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
