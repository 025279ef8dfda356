"""The view of a study that MLflow's pages open: what its tag says, and that it always fits."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Metric, Param, Run
from mlflow.tracking import MlflowClient
from stores import refuse_tags

from tunetrail.tracking.store import connect
from tunetrail.tracking.views import (
    Story,
    build_view,
    decode,
    encode,
    save_view,
    try_save_view,
    view_key,
)

ACCURACY, GAP = {"validation/accuracy": "maximize"}, {"gap/loss": "minimize"}
LOSS = "train/loss validation/loss"
PARALLEL = "rate > best/validation/accuracy"


def story(objectives: dict[str, str], **more: Any) -> Story:
    return Story(
        **{"run_id": "r", "name": "s", "objectives": objectives, "searched": ["rate"]} | more
    )


def charts_of(view: dict[str, Any]) -> list[str]:
    """Each chart in a line: its metrics, x against y, or what was searched > scores."""
    found = []
    for chart in view["compareRunCharts"]:
        if chart["type"] == "LINE":
            found.append(" ".join(chart["selectedMetricKeys"]))
        elif chart["type"] == "SCATTER":
            found.append(f"{chart['xaxis']['key']} | {chart['yaxis']['key']}")
        else:
            assert chart["type"] == "PARALLEL"
            shown = " ".join(chart["selectedParams"]), " ".join(chart["selectedMetrics"])
            found.append(" > ".join(shown))
    return found


CHARTS = {
    "accuracy": (
        story(ACCURACY),
        [LOSS, "train/accuracy validation/accuracy", PARALLEL,
         "best/gap/accuracy | best/validation/accuracy",
         "speed/seconds | best/validation/accuracy"],
    ),
    "loss of a language model": (
        story({"validation/loss": "minimize"}),
        [LOSS, "rate > best/validation/loss", "best/gap/loss | best/validation/loss",
         "speed/seconds | best/validation/loss"],
    ),
    "two objectives": (
        story(ACCURACY | GAP),
        [LOSS, "train/accuracy validation/accuracy", f"{PARALLEL} best/gap/loss",
         "best/gap/loss | best/validation/accuracy",
         "best/gap/accuracy | best/validation/accuracy",
         "speed/seconds | best/validation/accuracy"],
    ),
    "an objective that is no metric of the task": (
        story({"speed/seconds": "minimize"}),
        [LOSS, "rate > speed/seconds", "best/gap/loss | speed/seconds"],
    ),
    "an objective whose gap no trial logs": (
        story(
            {"validation/macro_f1": "maximize"},
            metrics={"validation/macro_f1", "gap/macro_f1", "best/gap/loss", "best/gap/accuracy"},
        ),
        [LOSS, "train/macro_f1 validation/macro_f1", "rate > best/validation/macro_f1",
         "best/gap/loss | best/validation/macro_f1", "speed/seconds | best/validation/macro_f1"],
    ),
    "objectives of which the second one's gap is logged": (
        story(
            {"validation/macro_f1": "maximize"} | ACCURACY,
            metrics={"best/gap/loss", "best/gap/accuracy"},
        ),
        [LOSS, "train/macro_f1 validation/macro_f1", "train/accuracy validation/accuracy",
         "rate > best/validation/macro_f1 best/validation/accuracy",
         "best/validation/accuracy | best/validation/macro_f1",
         "best/gap/accuracy | best/validation/macro_f1",
         "speed/seconds | best/validation/macro_f1"],
    ),
    "finals, which search nothing": (
        story(ACCURACY, searched=[]),
        [LOSS, "train/accuracy validation/accuracy",
         "best/gap/accuracy | best/validation/accuracy",
         "speed/seconds | best/validation/accuracy"],
    ),
    "trials without training, which have no gap": (
        story(ACCURACY, metrics={"train/accuracy", "validation/accuracy"}),
        [LOSS, "train/accuracy validation/accuracy", PARALLEL,
         "speed/seconds | best/validation/accuracy"],
    ),
    "nothing known": (story({}, searched=[]), [LOSS]),
}  # fmt: skip


@pytest.mark.parametrize("case", CHARTS)
def test_a_view_draws_what_the_study_is_about(case: str) -> None:
    told, wanted = CHARTS[case]
    assert charts_of(build_view(told, most=12)) == [*wanted, "train/step_loss"]


def test_trials_stand_best_first_in_groups_by_how_they_ended() -> None:
    view = build_view(story(GAP, metrics={"best/gap/loss", "lr", "system/cpu", "gap/loss"}), most=1)
    assert view["searchFilter"].startswith("tags.`mlflow.parentRunId` = 'r'")
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`best/gap/loss`", True)
    assert view["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "tunetrail.state"}]
    assert {"tags.`tunetrail.state`", "metrics.`best/gap/loss`", "params.`rate`"} <= set(
        view["selectedColumns"]
    )
    sections = {section["name"]: section["display"] for section in view["compareRunSections"]}
    assert sections == {
        "s": True, "best/gap": False, "gap": False, "Model metrics": False, "System metrics": False,
    }  # fmt: skip


def test_a_view_fits_whatever_is_searched_and_measured() -> None:
    draw = random.Random(0)

    def words(num: int, length: int) -> list[str]:
        return ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=length)) for _ in range(num)]

    told = Story(
        run_id="r",
        name="🚂" * 500,
        objectives=dict.fromkeys(words(5, 250), "maximize"),
        searched=words(60, 200),
        metrics={f"{name}/x" for length in (60, 200) for name in words(100, length)},
    )
    value = encode(told, created=1)
    assert len(value) <= 5000
    assert len(decode(value)["compareRunCharts"]) > 5
    usual = encode(story(ACCURACY, searched=words(12, 30)), created=1)
    assert len(decode(usual)["compareRunCharts"][2]["selectedParams"]) == 12


def make_study(client: MlflowClient, name: str, **params: str) -> Run:
    experiment = client.get_experiment_by_name("e")
    place = client.create_experiment("e") if experiment is None else experiment.experiment_id
    run = client.create_run(place, tags={"tunetrail.study": name}, run_name=name)
    run_id = run.info.run_id
    client.log_batch(run_id, params=[Param(*pair) for pair in params.items()])
    return client.get_run(run_id)


def read_views(client: MlflowClient) -> dict[str, str]:
    tags = client.get_experiment_by_name("e").tags
    return {k.removeprefix("mlflow.sharedViewState."): v for k, v in tags.items() if "View" in k}


def test_a_view_is_read_off_the_runs_and_listed_under_the_name_of_the_study(
    workspace: Path,
) -> None:
    client = connect("sqlite:///mlruns/mlflow.db")
    study = make_study(client, "mine", objectives=str(ACCURACY), **{"search.rate": "interval(0,1)"})
    save_view(client, study)
    ((key, first),) = read_views(client).items()
    assert key == view_key(study.info.run_id)
    assert json.loads(first)["name"] == "mine"
    assert charts_of(decode(first))[2] == PARALLEL
    assert client.get_experiment_by_name("e").tags["mlflow.experimentKind"] == (
        "custom_model_development"
    )
    tags = {"mlflow.parentRunId": study.info.run_id, "tunetrail.trial": "0"}
    trial = client.create_run(study.info.experiment_id, tags=tags)
    client.log_batch(trial.info.run_id, metrics=[Metric("speed/seconds", 1.0, 0, 0)])
    save_view(client, study)
    (second,) = read_views(client).values()
    assert [s["name"] for s in decode(second)["compareRunSections"]][1] == "speed"


@pytest.mark.parametrize("junk", ["", "{", "[1]", "{1: 2}", "f()", "{'a`': 'b'}", "(" * 5000])
def test_what_others_wrote_into_a_study_makes_a_view_without_scores(
    workspace: Path, junk: str
) -> None:
    client = connect("sqlite:///mlruns/mlflow.db")
    save_view(client, make_study(client, "s", objectives=junk, **{"search.a b/c": "1"}))
    (view,) = read_views(client).values()
    assert charts_of(decode(view))[0] == LOSS
    assert "orderByKey" not in decode(view)


def test_the_oldest_views_go_and_those_of_people_stay(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunetrail.tracking.views._MOST_VIEWS", 3)
    client = connect("sqlite:///mlruns/mlflow.db")
    studies = [make_study(client, f"s{number}") for number in range(5)]
    client.set_experiment_tag(studies[0].info.experiment_id, "mlflow.sharedViewState.own", "{}")
    for study in [*studies, studies[-1]]:
        save_view(client, study)
    names = [key.removeprefix("tunetrail-") for key in read_views(client)]
    assert sorted(names) == sorted(["own", *(study.info.run_id for study in studies[2:])])


def test_a_view_that_cannot_be_written_is_a_warning(
    workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect("sqlite:///mlruns/mlflow.db")
    study = make_study(client, "s")
    refuse_tags(Path("mlruns/mlflow.db"))
    try_save_view(client, study.info.run_id)
    assert "only reading is allowed" in caplog.text
    assert not read_views(client)
