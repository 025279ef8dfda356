"""MLflow's model registry: the winner of a study as a version, and who is the champion."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from tunetrail.config.secrets import redact
from tunetrail.errors import InputError, first_line
from tunetrail.tracking.models import hold_model
from tunetrail.tracking.store import find_outage

CHAMPION, CHALLENGER = "champion", "challenger"
RUN, TEST_FINGERPRINT = "tunetrail.run_id", "tunetrail.test_fingerprint"
_METRIC, _SCORE = "tunetrail.test_metric", "tunetrail.test_score"
_REASON = "tunetrail.alias_reason"
# What a column of a version takes.
_DESCRIPTION_LENGTH = 5000
# Milliseconds within which versions count as registered at the same time: longer than a study takes
# from reading who is the champion to setting it.
_SAME_TIME = 60_000


@dataclass(frozen=True)
class Candidate:
    """Weights to be registered, and what their test score was measured with and on.

    ``score`` and ``test_fingerprint`` are None where test was not scored.
    """

    run_id: str
    model: LoggedModel
    metric: str
    score: float | None
    test_fingerprint: str | None
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Registered:
    """A version, the alias it was given, and why."""

    name: str
    version: int
    alias: str
    reason: str


@dataclass(frozen=True)
class Rival:
    """The champion that a candidate was compared with."""

    version: int
    run_id: str


def register(
    client: MlflowClient,
    name: str,
    candidate: Candidate,
    *,
    compare: Callable[[Rival], str | None],
) -> Registered:
    """Register weights as a version, once, and make them champion if they beat the present one.

    Repeated, whether it ended or was killed, it finds the version that it made before. The weights
    are marked first, so that no study removes what the registry is about to hand out.

    Args:
        compare: tells in words how the candidate did against the champion on the same test rows;
            None where that cannot be told.

    Raises:
        InputError: the registry refuses.

    """
    with _registry_errors(name):
        hold_model(client, candidate.model, name=name)
        version = _find_version(client, name, candidate) or _create_version(client, name, candidate)
        _complete_tags(client, version, candidate)
        _link(client, candidate.model, version)
        return _crown(client, version, candidate, compare)


def describe(client: MlflowClient, registered: Registered, card: str) -> None:
    """Give a version its description: the card, as much of it as fits.

    Raises:
        InputError: the registry refuses.

    """
    text = card
    if len(card) > _DESCRIPTION_LENGTH:
        end = "\n\nThe rest is in `model_card.md` of the run."
        text = card[: _DESCRIPTION_LENGTH - len(end)].rpartition("\n")[0] + end
    with _registry_errors(registered.name):
        client.update_model_version(registered.name, str(registered.version), text)


def _find_version(client: MlflowClient, name: str, candidate: Candidate) -> ModelVersion | None:
    found = client.search_model_versions(f"run_id = '{candidate.run_id}'")
    source = _source(candidate)
    return next((one for one in found if one.name == name and one.source == source), None)


def _create_version(client: MlflowClient, name: str, candidate: Candidate) -> ModelVersion:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.create_model_version(
        name,
        _source(candidate),
        run_id=candidate.run_id,
        tags=_tags(candidate),
        model_id=candidate.model.model_id,
    )


def _tags(candidate: Candidate) -> dict[str, str]:
    measured = {
        _METRIC: candidate.metric,
        _SCORE: candidate.score,
        TEST_FINGERPRINT: candidate.test_fingerprint,
    }
    known = {key: str(value) for key, value in measured.items() if value is not None}
    return {RUN: candidate.run_id, **candidate.tags, **known}


def _complete_tags(client: MlflowClient, version: ModelVersion, candidate: Candidate) -> None:
    """Add what was not known when the version was made, such as a test score."""
    for key, value in _tags(candidate).items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(version.name, version.version, key, value)


def _source(candidate: Candidate) -> str:
    return f"models:/{candidate.model.model_id}"


def _link(client: MlflowClient, model: LoggedModel, version: ModelVersion) -> None:
    """Name the version on the model's page, as MLflow does where it registers one itself."""
    known = json.loads(model.tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
    link = {"name": version.name, "version": version.version}
    if link not in known:
        tag = {MLFLOW_MODEL_VERSIONS: json.dumps([*known, link])}
        client.set_logged_model_tags(model.model_id, tag)


def _crown(
    client: MlflowClient,
    version: ModelVersion,
    candidate: Candidate,
    compare: Callable[[Rival], str | None],
) -> Registered:
    """Give the alias that the version has earned."""
    name, number = version.name, int(version.version)
    champion = _find_champion(client, name)
    if champion is not None and int(champion.version) == number:
        return _keep_champion(client, name, number, version.tags.get(_REASON, ""))
    earned, reason = _judge(candidate, champion)
    if champion is not None:
        reason += _note_comparison(client, version, champion, compare)
    # Before the alias: who is killed in between finds itself champion, and why.
    client.set_model_version_tag(name, str(number), _REASON, reason)
    if earned:
        _set_alias(client, name, CHAMPION, str(number))
        best = _settle(client, version, candidate)
        if best == number:
            return _keep_champion(client, name, number, reason)
        reason = f"version {best}, registered at the same time, has the better test score"
        client.set_model_version_tag(name, str(number), _REASON, reason)
    _set_alias(client, name, CHALLENGER, str(number))
    return Registered(name, number, CHALLENGER, reason)


def _keep_champion(client: MlflowClient, name: str, number: int, reason: str) -> Registered:
    """Take the other alias from the champion, which it may have had before."""
    if int(_aliases(client, name).get(CHALLENGER, 0)) == number:
        client.delete_registered_model_alias(name, CHALLENGER)
    return Registered(name, number, CHAMPION, reason)


def _settle(client: MlflowClient, version: ModelVersion, candidate: Candidate) -> int:
    """Make the best of the versions that came at the same time champion, and return its number.

    The registry cannot set an alias on a condition, so another study may have read the champion
    before this one set it. A version carries its score from the start, and whoever sets the alias
    looks again afterwards: the last to set it sees all of them, and leaves the best.
    """
    name, since = version.name, int(version.creation_timestamp) - _SAME_TIME
    while True:
        scores = {int(version.version): float(candidate.score or 0.0)}
        for other in client.search_model_versions(f"name = '{name}'"):
            comparable = (
                other.tags.get(TEST_FINGERPRINT) == candidate.test_fingerprint
                and other.tags.get(_METRIC) == candidate.metric
            )
            if comparable and _SCORE in other.tags and int(other.creation_timestamp) >= since:
                scores[int(other.version)] = float(other.tags[_SCORE])
        best = max(scores, key=lambda number: (scores[number], -number))
        if int(_aliases(client, name).get(CHAMPION, 0)) == best:
            return best
        _set_alias(client, name, CHAMPION, str(best))


def _set_alias(client: MlflowClient, name: str, alias: str, number: str) -> None:
    """Set an alias, once more where another study set it in between.

    MLflow looks for the alias and then inserts it: of two at once the second to insert fails, and
    finds it there when it tries again.
    """
    try:
        client.set_registered_model_alias(name, alias, number)
    except MlflowException:
        client.set_registered_model_alias(name, alias, number)


def _judge(candidate: Candidate, champion: ModelVersion | None) -> tuple[bool, str]:
    """Tell whether a candidate beats the champion, and why or why not."""
    if candidate.score is None:
        return False, "there is no test score"
    if champion is None:
        return True, "the first version with a test score"
    who = f"version {champion.version}, the champion until then,"
    if champion.tags.get(TEST_FINGERPRINT) != candidate.test_fingerprint:
        return (
            False,
            f"version {champion.version}, the champion, was not measured on this test split",
        )
    if champion.tags.get(_METRIC) != candidate.metric or _SCORE not in champion.tags:
        return False, f"version {champion.version}, the champion, has no test {candidate.metric}"
    best = float(champion.tags[_SCORE])
    told = f"test {candidate.metric} {candidate.score:.4f} against {best:.4f}"
    if candidate.score > best:
        return True, f"{told} of {who} on the same test split"
    return False, f"{told} of version {champion.version}, the champion, on the same test split"


def _note_comparison(
    client: MlflowClient,
    version: ModelVersion,
    champion: ModelVersion,
    compare: Callable[[Rival], str | None],
) -> str:
    run_id = champion.tags.get(RUN)
    told = None if run_id is None else compare(Rival(int(champion.version), run_id))
    if told is None:
        return ""
    client.set_model_version_tag(
        version.name, version.version, "tunetrail.against_champion",
        f"version {champion.version}: {told}",
    )  # fmt: skip
    return f" (paired on its rows: {told})"


def _find_champion(client: MlflowClient, name: str) -> ModelVersion | None:
    number = _aliases(client, name).get(CHAMPION)
    return None if number is None else client.get_model_version(name, str(number))


def _aliases(client: MlflowClient, name: str) -> Mapping[str, Any]:
    """Alias -> number of its version."""
    return dict(client.get_registered_model(name).aliases)


@contextlib.contextmanager
def _registry_errors(name: str) -> Iterator[None]:
    """Say in one line why a model could not be registered; an outage passes as it is.

    Raises:
        InputError: the registry refused.

    """
    try:
        yield
    except MlflowException as error:
        if find_outage(error) is not None:
            raise
        text = redact(first_line(error))
        raise InputError(
            f"registry.name={name}: the model registry refused ({text}); give the same command "
            "once it can be written to"
        ) from error
