"""Which version is champion, on a real store: a strictly higher score on the same test split."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from tunetrail.errors import InputError
from tunetrail.tracking import registry
from tunetrail.tracking.models import is_registered
from tunetrail.tracking.registry import Candidate, Registered, Rival, describe, register
from tunetrail.tracking.store import connect


@pytest.fixture
def client(workspace: Path) -> MlflowClient:
    return connect("sqlite:///mlruns/mlflow.db")


def candidate(
    client: MlflowClient, score: float | None, fingerprint: str | None = "t1", **changes: Any
) -> Candidate:
    """A run with weights, as a study leaves it."""
    run = client.create_run("0")
    model = client.create_logged_model("0", "model", source_run_id=run.info.run_id)
    values = {
        "metric": "accuracy",
        "greater_is_better": True,
        "tags": {"tunetrail.study": "s"},
        **changes,
    }
    return Candidate(
        run_id=run.info.run_id, model=model, score=score, test_fingerprint=fingerprint, **values
    )


def say_nothing(rival: Rival) -> None:
    return None


def enter(client: MlflowClient, one: Candidate) -> Registered:
    return register(client, "model", one, compare=say_nothing)


def aliases(client: MlflowClient) -> dict[str, int]:
    found = client.get_registered_model("model").aliases
    return {alias: int(version) for alias, version in found.items()}


def test_only_a_higher_score_beats_the_champion(client: MlflowClient) -> None:
    given = [enter(client, candidate(client, score)).alias for score in (0.7, 0.6, 0.7, 0.71)]
    assert given == ["champion", "challenger", "challenger", "champion"]
    assert aliases(client) == {"champion": 4, "challenger": 3}


@pytest.mark.parametrize(
    ("score", "fingerprint", "metric", "reason"),
    [
        (None, None, "accuracy", "there is no test score"),
        (0.9, "t2", "accuracy", "version 1, the champion, was not measured on this test split"),
        (0.9, "t1", "macro_f1", "version 1, the champion, has no test macro_f1"),
        (0.6, "t1", "accuracy", "test accuracy 0.6000 against 0.7000 of version 1, the champion"),
    ],
)
def test_a_challenger_has_its_reason(
    client: MlflowClient, score: float | None, fingerprint: str | None, metric: str, reason: str
) -> None:
    enter(client, candidate(client, 0.7))
    found = enter(client, candidate(client, score, fingerprint, metric=metric))
    assert (found.version, found.alias) == (2, "challenger")
    assert reason in found.reason
    tags = client.get_model_version("model", "2").tags
    assert tags["tunetrail.alias_reason"] == found.reason


def test_if_less_of_a_metric_is_better_the_lower_score_wins(client: MlflowClient) -> None:
    given = [
        enter(client, candidate(client, score, metric="perplexity", greater_is_better=False)).alias
        for score in (30.0, 40.0, 20.0)
    ]
    assert given == ["champion", "challenger", "champion"]


def test_without_a_test_score_there_is_no_first_champion(client: MlflowClient) -> None:
    assert enter(client, candidate(client, None, None)).alias == "challenger"
    assert enter(client, candidate(client, 0.2)).alias == "champion"


def test_a_champion_set_by_hand_without_a_score_stays(
    client: MlflowClient,
) -> None:
    client.create_registered_model("model")
    client.create_model_version("model", Path.cwd().as_uri())
    client.set_registered_model_alias("model", "champion", "1")
    assert enter(client, candidate(client, 0.9)).alias == "challenger"


def test_the_same_weights_are_one_version_however_often(client: MlflowClient) -> None:
    one = candidate(client, 0.7)
    first = enter(client, one)
    assert enter(client, one) == first
    enter(client, candidate(client, 0.8))
    assert enter(client, one).alias == "challenger"
    assert aliases(client) == {"champion": 2, "challenger": 1}


def test_a_score_that_comes_later_counts(client: MlflowClient) -> None:
    one = candidate(client, None, None)
    enter(client, one)
    scored = replace(one, score=0.7, test_fingerprint="t1")
    assert enter(client, scored).alias == "champion"
    assert aliases(client) == {"champion": 1}
    assert client.get_model_version("model", "1").tags["tunetrail.test_score"] == "0.7"


def test_a_version_is_compared_with_the_champion_row_by_row(client: MlflowClient) -> None:
    first = candidate(client, 0.7)
    enter(client, first)
    asked: list[Rival] = []

    def compare(rival: Rival) -> str:
        asked.append(rival)
        return "accuracy +0.1"

    found = register(client, "model", candidate(client, 0.8), compare=compare)
    assert asked == [Rival(1, first.run_id)]
    assert found.reason.endswith("(paired on its rows: accuracy +0.1)")
    tags = client.get_model_version("model", "2").tags
    assert tags["tunetrail.against_champion"] == "version 1: accuracy +0.1"


@pytest.mark.parametrize("scores", [(0.8, 0.9), (0.9, 0.8)])
def test_if_two_versions_come_at_once_the_better_one_stays(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, scores: tuple[float, float]
) -> None:
    """Both have read that there is no champion when each makes itself one."""
    both = threading.Barrier(2)
    real = registry._judge
    waited = threading.local()

    def judge(*arguments: Any) -> Any:
        found = real(*arguments)
        if not getattr(waited, "once", False):
            waited.once = True
            both.wait(20)
        return found

    monkeypatch.setattr(registry, "_judge", judge)
    ones = [candidate(client, score) for score in scores]
    found: list[Registered] = []
    threads = [
        threading.Thread(target=lambda one=one: found.append(enter(client, one))) for one in ones
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    one = ones[scores.index(0.9)]
    better = int(client.search_model_versions(f"run_id = '{one.run_id}'")[0].version)
    assert aliases(client)["champion"] == better
    # The other one may have been champion for a moment, and been reported as such.
    assert {one.version: one.alias for one in found}[better] == "champion"


def test_weights_are_marked_before_there_is_a_version(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = candidate(client, 0.7)
    assert not is_registered(client, one.model)

    def refuse(*arguments: Any, **options: Any) -> None:
        assert is_registered(client, client.get_logged_model(one.model.model_id))
        raise MlflowException("no room\nat all")

    monkeypatch.setattr(MlflowClient, "create_model_version", refuse)
    with pytest.raises(InputError) as caught:
        enter(client, one)
    assert str(caught.value).startswith("registry.name=model: ")
    assert "(no room)" in str(caught.value)


def test_a_long_card_is_cut_at_a_line_and_says_where_the_rest_is(client: MlflowClient) -> None:
    found = enter(client, candidate(client, 0.7))
    describe(client, found, "a line of the card\n" * 1000)
    text = client.get_model_version("model", "1").description
    assert len(text) <= 5000
    assert text.endswith("a line of the card\n\nThe rest is in `model_card.md` of the run.")
