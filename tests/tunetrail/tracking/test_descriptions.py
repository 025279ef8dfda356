"""Descriptions of runs: replaced while they are ours, kept once a person has changed them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from tunetrail.templates.descriptions import join_paragraphs, link_to_run, list_values
from tunetrail.tracking.descriptions import append, describe, tag_first
from tunetrail.tracking.run_log import RunLog, open_run

STORE = {
    "uri": "sqlite:///mlruns/mlflow.db",
    "experiment": "tests",
    "artifact_dir": "mlruns/artifacts",
}
NOTE = "mlflow.note.content"


@pytest.fixture
def run_log(workspace: Path) -> Iterator[RunLog]:
    assert workspace.is_dir()
    with open_run(**STORE, name="one") as opened:
        yield opened


def note(run_log: RunLog) -> str | None:
    return run_log.client.get_run(run_log.run_id).data.tags.get(NOTE)


def test_a_description_is_replaced_until_a_person_changes_it(run_log: RunLog) -> None:
    client, run_id = run_log.client, run_log.run_id
    append(client, run_id, "alone")
    assert note(run_log) is None
    run_log.tags(tag_first("first"))
    append(client, run_id, "**Failed**: here")
    assert note(run_log) == "first\n\n**Failed**: here\n"
    describe(client, run_id, "second")
    assert note(run_log) == "second"
    client.set_tag(run_id, NOTE, "mine")
    describe(client, run_id, "third")
    append(client, run_id, "more")
    assert note(run_log) == "mine"


def test_secrets_and_length_are_bounded(run_log: RunLog) -> None:
    describe(run_log.client, run_log.run_id, "postgresql://me:hunter2secret@db/x " + "a" * 9_000)
    shown = note(run_log)
    assert shown is not None
    assert "hunter2secret" not in shown
    assert len(shown) <= 5_000
    assert len(join_paragraphs(["a" * 4_000, "b" * 4_000, "", "c"])) == 4_004


def test_a_run_that_fails_says_why(workspace: Path) -> None:
    assert workspace.is_dir()
    with pytest.raises(ValueError, match="a_b"), open_run(**STORE, name="two") as opened:
        opened.tags(tag_first("what it was"))
        raise ValueError("a_b < c")
    assert note(opened) == "what it was\n\n**Failed**: ValueError: a\\_b &lt; c\n"


def test_a_store_that_refuses_ends_no_run(
    run_log: RunLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MlflowException("no such thing here")

    monkeypatch.setattr(MlflowClient, "log_batch", refuse)
    describe(run_log.client, run_log.run_id, "text")
    monkeypatch.undo()
    assert "MLflow has not taken the description of the run: no such thing here" in caplog.text


def test_what_comes_from_anywhere_is_no_markup() -> None:
    assert link_to_run("a](x) <b>", "1", "r", "artifacts/report.md") == (
        "[a\\](x) &lt;b&gt;](#/experiments/1/runs/r/artifacts/report.md)"
    )
    assert list_values({"a.b_c": 0.000123456, "d": "*x*"}) == "a.b\\_c **0.0001235**, d **\\*x\\***"
    assert list_values({str(n): n for n in range(22)}).endswith("and 2 more")


def test_a_secret_in_the_cause_of_a_failure_is_hidden_before_it_is_escaped(workspace: Path) -> None:
    assert workspace.is_dir()
    secret = "_".join(("ghp", "a1B2" * 9))
    with pytest.raises(ValueError, match="ghp"), open_run(**STORE, name="two") as opened:
        opened.tags(tag_first("what it was"))
        raise ValueError(secret)
    assert "a1B2" not in str(note(opened))
