"""The report of a study: right counts, the right best trial, tables of everything that happened."""

import datetime as dt
import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from audits import audit
from matplotlib.figure import Figure
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from tunetrail.studies.page import build_study_page
from tunetrail.studies.report import list_trials, write_report
from tunetrail.templates.pages import write_html

RATE, EPOCHS = "trainer.learning_rate", "trainer.num_train_epochs"
ACCURACY, LOSS = "validation/accuracy", "validation/loss"
OOM = {"failure": "OutOfMemoryError: no room", "failure_kind": "out of memory"}
START = dt.datetime(2026, 11, 24, 1, 0)  # noqa: DTZ001 - Optuna's times are local


def make_study(*directions: str) -> optuna.Study:
    return optuna.create_study(study_name="s", directions=directions or ["maximize"])


def add(
    study: optuna.Study,
    values: float | list[float] | None = None,
    state: TrialState = TrialState.COMPLETE,
    *,
    seconds: float = 360,
    reports: dict[int, float] | None = None,
    constraints: dict[str, float] | None = None,
    **attrs: Any,
) -> None:
    trial = create_trial(
        state=state,
        values=[values] if isinstance(values, float) else values,
        params={RATE: 1e-4, EPOCHS: 2},
        distributions={RATE: FloatDistribution(1e-5, 1e-3), EPOCHS: IntDistribution(1, 3)},
        user_attrs=attrs,
        intermediate_values=reports,
        constraints=constraints,
    )
    trial.datetime_start = START
    if trial.state.is_finished():
        trial.datetime_complete = START + dt.timedelta(seconds=seconds)
    study.add_trial(trial)


def report(study: optuna.Study, *objectives: str, **bounds: str) -> str:
    runs = {trial.number: f"run{trial.number}" for trial in study.get_trials()}
    names = objectives or (ACCURACY,)
    bounds = {name.replace("_", "/"): bound for name, bound in bounds.items()}
    return write_report(study, names, bounds, runs)


def section(text: str, title: str) -> str:
    return next(part for part in text.split("\n## ") if part.startswith(title))


def test_trials_and_hours_are_counted_by_how_they_ended() -> None:
    study = make_study()
    add(study, 0.5)
    add(study, 0.5, reused_from=0, seconds=0)
    add(study, state=TrialState.PRUNED, reports={1: 0.1}, num_evaluations=4)
    add(study, state=TrialState.PRUNED, reports={1: 0.1})  # killed before it could say how many
    add(study, state=TrialState.PRUNED, constraints={"out_of_memory": 1.0}, **OOM)
    for kind in ("error", "not finite", "error"):
        add(study, state=TrialState.FAIL, failure="x", failure_kind=kind)
    add(study, state=TrialState.FAIL, failure="interrupted", failure_kind="interrupted")
    add(study, state=TrialState.RUNNING)
    text = report(study)
    for row in (
        "| complete | 1 | 0.10 |",
        "| reused | 1 | 0.00 |",
        "| pruned | 2 | 0.20 |",
        "| infeasible | 1 | 0.10 |",
        "| failed (2 error, 1 not finite) | 3 | 0.30 |",
        "| interrupted | 1 | 0.10 |",
        "| running | 1 | 0.00 |",
        "| all | 10 | 0.80 |",
    ):
        assert row in text
    assert re.search(r"saved about 0.30 hours.* from 1 of 2 pruned trials", text)


def test_the_best_is_the_first_that_meets_the_constraints() -> None:
    study = make_study()
    add(study, 0.9, constraints={"gap/accuracy": 0.1})
    add(study, 0.6, constraints={"gap/accuracy": -0.05})
    add(study, 0.7, state=TrialState.PRUNED, reports={1: 0.99})
    text = report(study, gap_accuracy="<= 0.2")
    best = section(text, "Best: trial 1")
    assert "validation/accuracy **0.6**" in best
    assert "`run1`" in best
    assert "gap/accuracy met, 0.05 to spare" in best
    assert "| gap/accuracy | &lt;= 0.2 | 1 | 1 | met, 0.05 to spare |" in text
    assert re.search(r"\| 0 \| complete \| 0.9 .*violates gap/accuracy \|", text)


def test_without_a_trial_that_meets_the_constraints_the_nearest_is_shown() -> None:
    study = make_study()
    add(study, 0.9, constraints={"a": 0.3, "b": -1.0})
    add(study, 0.1, constraints={"a": 0.1, "b": 0.1})
    text = report(study)
    assert "No trial meets the constraints" in text
    assert "## Best" not in text
    assert "a violated by 0.1; b violated by 0.1" in section(text, "Nearest: trial 1")


def test_several_objectives_have_a_front_of_trials_that_meet_the_constraints() -> None:
    study = make_study("maximize", "minimize")
    for values, margin in (([0.9, 0.5], -1), ([0.8, 0.2], -1), ([0.7, 0.3], -1), ([1.0, 0.1], 1)):
        add(study, values, constraints={"gap": margin})
    front = section(report(study, ACCURACY, LOSS), "Pareto front")
    assert re.findall(r"^\| (\d+) ", front, re.MULTILINE) == ["0", "1"]
    assert "| 1 | 0.8 | 0.2 | 0.0001 | 2 | run1 |" in front


@pytest.mark.parametrize("attempts", [["x"], ["interrupted", "x"]])
def test_the_best_is_compared_with_the_default_config(attempts: list[str]) -> None:
    """It was interrupted and run again."""
    study = make_study()
    add(study, 0.8)
    for number, attempt in enumerate(attempts, start=1):
        again = {"retry_of": number - 1} if number > 1 else {"enqueued": "default"}
        stopped = attempt == "interrupted"
        add(
            study, None if stopped else 0.75, TrialState.FAIL if stopped else TrialState.COMPLETE,
            **again,
        )  # fmt: skip
    text = section(report(study), "Against the default config")
    assert f"Trial {len(attempts)} is the default config." in text
    assert "| validation/accuracy | 0.75 | 0.8 | +0.05 |" in text


def test_a_default_config_that_failed_is_named_as_such() -> None:
    study = make_study()
    add(study, state=TrialState.FAIL, enqueued="default", failure="x", failure_kind="error")
    add(study, 0.8)
    assert "Trial 0, the default config, was failed: nothing" in report(study)


def test_spread_over_seeds_is_shown_where_there_is_one() -> None:
    study = make_study()
    add(study, 0.5, repeats=[[0.4], [0.6]])
    assert "| 0 | 2 | 0.5 ± 0.1414 |" in section(report(study), "Spread over seeds")
    single = make_study()
    add(single, 0.5)
    assert "Spread" not in report(single)


def test_a_failure_may_hold_anything() -> None:
    study = make_study()
    failure = "ValueError: a | b \\ c\nsecond <b>line</b>\n\n| 1 | 2 |"
    add(study, state=TrialState.FAIL, failure=failure, failure_kind="error")
    add(study, 0.5, retry_of=0)
    text = report(study)
    for title in ("Trials", "Failed"):
        lines = [line for line in section(text, title).splitlines() if line.startswith("|")]
        bars = {len(re.findall(r"(?<!\\)\|", line.replace("\\\\", ""))) for line in lines}
        assert len(bars) == 1, lines
    failed = section(text, "Failed")
    assert "a \\| b \\\\ c second &lt;b>line&lt;/b>" in failed
    assert "| trial 1 |" in failed
    assert list_trials(study, [ACCURACY], {})["note"][0] == failure


def test_pruned_trials_say_where_they_were_stopped() -> None:
    study = make_study()
    add(study, state=TrialState.PRUNED, reports={1: 0.3, 2: 0.25}, num_evaluations=6)
    text = report(study)
    assert "| 0 | 2 of 6 | 0.25 |" in section(text, "Pruned")
    assert "No trial completed." in text


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_a_study_of_any_size_has_a_report(count: int, tmp_path: Path) -> None:
    study = make_study()
    for number in range(count):
        add(study, number / 1000)
    text = report(study)
    rows = len(re.findall(r"^\| \d+ \| complete", section(text, "Trials"), re.MULTILINE))
    assert rows == min(count, 200)
    cut = "The first 200 of 1000; all trials are in `tables/trials.csv`."
    assert (cut in text) == (count == 1000)
    assert len(list_trials(study, [ACCURACY], {})) == count
    list_trials(study, [ACCURACY], {}).to_csv(tmp_path / "trials.csv", index=False)


def test_the_page_of_a_study_has_the_sections_of_its_report_and_its_figures() -> None:
    study = make_study()
    add(study, 0.5)
    add(study, 0.7)
    figures = {name: Figure(figsize=(2, 2)) for name in ("figures/finals.png", "figures/costs.png")}
    winner = "## Winner: trial 1 <b>\n\nIt **won** `x`.\n\n### In the registry\n\nas v1"
    runs = {0: "run0", 1: "run1"}
    text = write_report(study, [ACCURACY], {}, runs, winner=winner)
    html = write_html(build_study_page(study, [ACCURACY], text, figures))
    page = audit(html)
    assert page.headings == [
        "Winner: trial 1 <b>", "In the registry", "How the trials ended", "Best: trial 1",
        "Figures", "Trials",
    ]  # fmt: skip
    assert html.count("<img src=") == 2
    assert html.index("data:image") < html.index("How the trials ended</h2>")
    assert "run1" in page.text
    assert "0.7" in page.text
    assert page.text.index("trial 1 <b>") < page.text.index("validation/accuracy, best trial")
