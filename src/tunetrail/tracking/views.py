"""The saved view of a study: which charts MLflow's pages draw of its trials.

MLflow's front end keeps a view as a tag of the experiment, lists it under Views, and opens it at an
address. The form of such a tag is in its source alone, and a test looks at it in a browser.
"""

import ast
import base64
import json
import re
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Experiment, Run
from mlflow.tracking import MlflowClient

from tunetrail.tracking.store import not_vital
from tunetrail.tracking.tags import PARENT, STATE, STUDY, TRIAL, VERDICT

# Without a kind MLflow guesses one, and shows its pages for agents.
KIND = {"mlflow.experimentKind": "custom_model_development"}

_PREFIX = "mlflow.sharedViewState."
# Of the views that are ours: a person saves others.
_OURS = f"{_PREFIX}tunetrail-"
# A view is some 2 kB, and every page of the experiment loads them all.
_MOST_VIEWS = 30
# MLflow takes 20,000 characters, its column in PostgreSQL 5,000.
_LENGTH = 5000
# Runs that are asked for the names of their metrics.
_SAMPLE = 20
_MOST_OBJECTIVES = 5
_MOST_SECTIONS, _LONGEST_SECTION = 30, 60
# What MLflow takes as the name of a metric or param. Others may write to the store.
_NAME = re.compile(r"[\w./ -]{1,250}")
# MLflow's names for metrics without a group, and for those of the machine.
_UNGROUPED, _SYSTEM = "Model metrics", "System metrics"
_SPLITS = ("train", "validation", "gap")


@dataclass(frozen=True)
class Story:
    """What a view tells of a study.

    Attributes:
        run_id: of the study's run.
        objectives: name -> ``maximize`` or ``minimize``.
        searched: keys of the config.
        metrics: names that its trials have logged so far.

    """

    run_id: str
    name: str
    objectives: Mapping[str, str]
    searched: Sequence[str]
    metrics: Collection[str] = ()


def view_key(run_id: str) -> str:
    """Return the key of a study's view, which stands in the address."""
    return f"{_OURS}{run_id}".removeprefix(_PREFIX)


def mark_kind(client: MlflowClient, experiment: Experiment) -> None:
    """Let MLflow show an experiment as one of model training, unless it has a kind."""
    if not KIND.keys() & experiment.tags.keys():
        for name, kind in KIND.items():
            client.set_experiment_tag(experiment.experiment_id, name, kind)


def save_view(client: MlflowClient, study: Run) -> None:
    """Write the view of a study, if it is not there as it should be."""
    key = view_key(study.info.run_id)
    experiment = client.get_experiment(study.info.experiment_id)
    mark_kind(client, experiment)
    view = encode(_read_story(client, study), created=study.info.start_time)
    if experiment.tags.get(f"{_PREFIX}{key}") != view:
        client.set_experiment_tag(experiment.experiment_id, f"{_PREFIX}{key}", view)
        others = {n: text for n, text in experiment.tags.items() if n.startswith(_OURS)}
        others.pop(f"{_PREFIX}{key}", None)
        for name in sorted(others, key=lambda n: _created(others[n]))[: 1 - _MOST_VIEWS]:
            client.delete_experiment_tag(experiment.experiment_id, name)


def try_save_view(client: MlflowClient, run_id: str) -> None:
    """Write the view of a study by the id of its run; a study never fails because of its view."""
    with not_vital("the view of the study"):
        save_view(client, client.get_run(run_id))


def has_view(client: MlflowClient, study: Run) -> bool:
    """Whether the view of a study is there."""
    tags = client.get_experiment(study.info.experiment_id).tags
    return f"{_PREFIX}{view_key(study.info.run_id)}" in tags


def _created(view: str) -> float:
    try:
        return float(json.loads(view)["createdAt"])
    except (ValueError, TypeError, KeyError):
        return 0


def _read_story(client: MlflowClient, study: Run) -> Story:
    """Read back what the study's run and its newest trials have recorded."""
    condition = _select_trials(study.info.run_id)
    trials = client.search_runs([study.info.experiment_id], condition, max_results=_SAMPLE)
    names = (key.removeprefix("search.") for key in study.data.params if key.startswith("search."))
    return Story(
        run_id=study.info.run_id,
        name=str(study.data.tags.get(STUDY) or study.info.run_name),
        objectives=_read_objectives(study.data.params.get("objectives", "")),
        searched=[name for name in names if _NAME.fullmatch(name)],
        metrics={name for trial in trials for name in trial.data.metrics},
    )


def _read_objectives(text: str) -> dict[str, str]:
    try:
        found = ast.literal_eval(text)
        named = [(name, str(way)) for name, way in found.items() if _NAME.fullmatch(name)]
        return dict(named[:_MOST_OBJECTIVES])
    except (ValueError, SyntaxError, TypeError, AttributeError, RecursionError, MemoryError):
        return {}


def _select_trials(run_id: str) -> str:
    return f"tags.`{PARENT}` = '{run_id}' and tags.`{TRIAL}` != ''"


def encode(story: Story, *, created: int) -> str:
    """Write a view as the value of its tag: at most 5,000 characters, whatever is searched.

    Args:
        story: what it tells.
        created: the time that stands beside its name, in milliseconds.

    """
    value = ""
    for most in (12, 6, 3, 0):
        state = json.dumps(build_view(story, most=most), separators=(",", ":"))
        packed = base64.b64encode(zlib.compress(state.encode(), 9)).decode()
        value = json.dumps(
            # MLflow's front end would show an update of each refresh as the newest view.
            {"name": story.name[:200], "createdAt": created, "updatedAt": created}
            | {"state": f"deflate;{packed}"},
            separators=(",", ":"),
            ensure_ascii=False,
        )
        if len(value) <= _LENGTH:
            break
    return value


def decode(value: str) -> dict[str, Any]:
    """Read what :func:`encode` wrote."""
    state = json.loads(value)["state"].removeprefix("deflate;")
    return dict(json.loads(zlib.decompress(base64.b64decode(state))))


def build_view(story: Story, *, most: int) -> dict[str, Any]:
    """Build the state of MLflow's page of runs that shows a study.

    Trials stand best first and in groups by how they ended: complete, pruned, failed. What is not
    drawn in the view's own section follows below in closed ones.

    Args:
        story: what it tells.
        most: how many of the searched keys are shown.

    """
    searched = list(story.searched)[:most]
    scores = [_score(name) for name in story.objectives]
    charts = [
        {"uuid": f"study-{index}", "metricSectionId": "study", "deleted": False}
        | {"isGenerated": False, "runsCountToCompare": 100}
        | chart
        for index, chart in enumerate(_list_charts(story, searched, scores))
    ]
    columns = [f"tags.`{STATE}`", f"tags.`{VERDICT}`", "attributes.`Duration`"]
    columns += [f"metrics.`{name}`" for name in scores]
    columns += [f"params.`{name}`" for name in searched]
    state = {
        "searchFilter": _select_trials(story.run_id),
        "selectedColumns": columns,
        "runsHiddenMode": "SHOW_ALL",
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": STATE}],
        },
        # Trials that are running have no state yet: MLflow closes the group of such runs.
        "groupsExpanded": {f"tag.{STATE}": True},
        "useGroupedValuesInCharts": False,
        "hideEmptyCharts": True,
        "compareRunCharts": charts,
        "compareRunSections": _list_sections(story),
        # Else MLflow sorts the sections by their names.
        "isAccordionReordered": True,
    }
    if scores:
        ways = list(story.objectives.values())
        # Sorted by its start, a trial would stand below its study, which is closed at first.
        state |= {"orderByKey": f"metrics.`{scores[0]}`", "orderByAsc": ways[0] == "minimize"}
    return state


def _score(objective: str) -> str:
    """Name the metric with the objective of a run: that of its best weights."""
    return f"best/{objective}" if objective.partition("/")[0] in _SPLITS else objective


def _list_charts(
    story: Story, searched: Sequence[str], scores: Sequence[str]
) -> Iterable[dict[str, Any]]:
    """List the charts of a study; MLflow hides lines that no trial has logged."""
    names = dict.fromkeys(name for name in story.objectives if name.partition("/")[0] in _SPLITS)
    metrics = list(dict.fromkeys(["loss", *(name.partition("/")[2] for name in names)]))
    for name in metrics:
        yield _lines(f"train/{name}", f"validation/{name}")
    if searched:
        yield {"type": "PARALLEL", "selectedParams": searched, "selectedMetrics": list(scores)}
    yield from (_points(one, scores[0]) for one in scores[1:])
    if scores:
        # The gap of the metric that is the objective; where trials log none, that of the loss.
        gaps = [f"best/gap/{name}" for name in [*metrics[1:], "loss"]]
        # Nothing is overfitted where nothing is trained.
        gap = next((gap for gap in gaps if gap in (story.metrics or gaps)), None)
        if gap is not None and gap not in scores:
            yield _points(gap, scores[0])
        if "speed/seconds" not in scores:
            yield _points("speed/seconds", scores[0])
    yield _lines("train/step_loss")


def _lines(*metrics: str) -> dict[str, Any]:
    return {
        "type": "LINE",
        "metricKey": metrics[0],
        "selectedMetricKeys": list(metrics),
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "lineSmoothness": 0,
        "yAxisKey": "metric",
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


def _points(x: str, y: str) -> dict[str, Any]:
    axes = {name: {"key": key, "type": "METRIC"} for name, key in (("xaxis", x), ("yaxis", y))}
    return {"type": "SCATTER", **axes}


def _list_sections(story: Story) -> list[dict[str, Any]]:
    """List the section of the study, and below it, closed, those that MLflow makes of metrics."""
    own = {"uuid": "study", "name": story.name[:100], "display": True, "isGenerated": False}
    names = {group for name in story.metrics if len(group := _group(name)) <= _LONGEST_SECTION}
    groups = [*sorted(names - {_UNGROUPED, _SYSTEM})[:_MOST_SECTIONS], _UNGROUPED, _SYSTEM]
    others = [
        {"uuid": f"of-{name}", "name": name, "display": False, "isGenerated": True}
        for name in groups
    ]
    return [
        section | {"isReordered": False, "deleted": False}
        for section in [own | {"columns": 2, "cardHeight": 360}, *others]
    ]


def _group(metric: str) -> str:
    """Name the section that MLflow draws a metric in."""
    group = metric.rpartition("/")[0]
    return _SYSTEM if group == "system" else group or _UNGROUPED
