"""MLflow's model registry: register the winner of a study, and choose the champion."""

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
# Of the model that has the versions.
_ABOUT = (
    "The winners of studies, a version each with its card. **champion** is the one with the best "
    "score on the same test rows, **challenger** the last one that was not better."
)
# MLflow's limit.
_DESCRIPTION_LENGTH = 5000
# Versions within so many milliseconds count as registered at the same time. A study takes less than
# that from reading the champion to setting it.
_SAME_TIME = 60_000


@dataclass(frozen=True)
class Candidate:
    """Weights to be registered, with their test score and the test split it was measured on.

    ``score`` and ``test_fingerprint`` are None without a test score.
    """

    run_id: str
    model: LoggedModel
    metric: str
    greater_is_better: bool
    score: float | None
    test_fingerprint: str | None
    tags: Mapping[str, str]

    def merit(self, score: float) -> float:
        """Return a score as a number of which more is better."""
        return score if self.greater_is_better else -score


@dataclass(frozen=True)
class Registered:
    """A version, its alias, and why it has that alias."""

    name: str
    version: int
    alias: str
    reason: str


@dataclass(frozen=True)
class Rival:
    """The champion that a candidate is compared with."""

    version: int
    run_id: str


def register(
    client: MlflowClient,
    name: str,
    candidate: Candidate,
    *,
    compare: Callable[[Rival], str | None],
) -> Registered:
    """Register weights as a version, and make it champion if it beats the present one.

    A second call, after an end or a kill, finds the version of the first. The weights are marked
    first, so that no study removes them.

    Args:
        compare: describes the candidate against the champion on the same test rows; returns None
            if they cannot be compared.

    Raises:
        InputError: the registry refuses.

    """
    with _registry_errors(name):
        hold_model(client, candidate.model, name=name)
        version = _find_version(client, name, candidate) or _create_version(client, name, candidate)
        _complete_tags(client, version, candidate)
        _link(client, candidate.model, version)
        return _choose_alias(client, version, candidate, compare)


def describe(client: MlflowClient, registered: Registered, card: str) -> None:
    """Describe a version by its card, cut at MLflow's limit.

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
        client.create_registered_model(name, description=_ABOUT)
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
    """Add what was unknown when the version was created, such as a test score."""
    for key, value in _tags(candidate).items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(version.name, version.version, key, value)


def _source(candidate: Candidate) -> str:
    return f"models:/{candidate.model.model_id}"


def _link(client: MlflowClient, model: LoggedModel, version: ModelVersion) -> None:
    """Name the version on the model's page, as MLflow does when it registers a model."""
    known = json.loads(model.tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
    link = {"name": version.name, "version": version.version}
    if link not in known:
        tag = {MLFLOW_MODEL_VERSIONS: json.dumps([*known, link])}
        client.set_logged_model_tags(model.model_id, tag)


def _choose_alias(
    client: MlflowClient,
    version: ModelVersion,
    candidate: Candidate,
    compare: Callable[[Rival], str | None],
) -> Registered:
    """Make a version champion or challenger."""
    name, number = version.name, int(version.version)
    champion = _find_champion(client, name)
    if champion is not None and int(champion.version) == number:
        return _keep_champion(client, name, number, version.tags.get(_REASON, ""))
    wins, reason = _judge(candidate, champion)
    if champion is not None:
        reason += _note_comparison(client, version, champion, compare)
    # Before the alias: after a kill in between, a champion has its reason.
    client.set_model_version_tag(name, str(number), _REASON, reason)
    if wins:
        _set_alias(client, name, CHAMPION, str(number))
        best = _make_best_champion(client, version, candidate)
        if best == number:
            return _keep_champion(client, name, number, reason)
        reason = f"version {best}, registered at the same time, has the better test score"
        client.set_model_version_tag(name, str(number), _REASON, reason)
    _set_alias(client, name, CHALLENGER, str(number))
    return Registered(name, number, CHALLENGER, reason)


def _keep_champion(client: MlflowClient, name: str, number: int, reason: str) -> Registered:
    """Delete the challenger alias that the champion may have had before."""
    if int(_aliases(client, name).get(CHALLENGER, 0)) == number:
        client.delete_registered_model_alias(name, CHALLENGER)
    return Registered(name, number, CHAMPION, reason)


def _make_best_champion(client: MlflowClient, version: ModelVersion, candidate: Candidate) -> int:
    """Make the best of the versions registered at the same time champion; return its number.

    MLflow cannot set an alias under a condition, so another study may have read the champion before
    this one set it. Every version has its score from the start, and each study looks again after
    it has set the alias: the last one sees all versions and leaves the best.
    """
    name, since = version.name, int(version.creation_timestamp) - _SAME_TIME
    while True:
        scores = {int(version.version): candidate.merit(candidate.score or 0.0)}
        for other in client.search_model_versions(f"name = '{name}'"):
            comparable = (
                other.tags.get(TEST_FINGERPRINT) == candidate.test_fingerprint
                and other.tags.get(_METRIC) == candidate.metric
            )
            if comparable and _SCORE in other.tags and int(other.creation_timestamp) >= since:
                scores[int(other.version)] = candidate.merit(float(other.tags[_SCORE]))
        best = max(scores, key=lambda number: (scores[number], -number))
        if int(_aliases(client, name).get(CHAMPION, 0)) == best:
            return best
        _set_alias(client, name, CHAMPION, str(best))


def _set_alias(client: MlflowClient, name: str, alias: str, number: str) -> None:
    """Set an alias, with a second attempt if another study sets it at the same time.

    MLflow looks for the alias and then inserts it, so the second of two inserts fails.
    """
    try:
        client.set_registered_model_alias(name, alias, number)
    except MlflowException:
        client.set_registered_model_alias(name, alias, number)


def _judge(candidate: Candidate, champion: ModelVersion | None) -> tuple[bool, str]:
    """Return whether a candidate beats the champion, and why."""
    if candidate.score is None:
        return False, "there is no test score"
    if champion is None:
        return True, "the first version with a test score"
    who = f"version {champion.version}, the champion"
    if champion.tags.get(TEST_FINGERPRINT) != candidate.test_fingerprint:
        return False, f"{who}, was not measured on this test split"
    if champion.tags.get(_METRIC) != candidate.metric or _SCORE not in champion.tags:
        return False, f"{who}, has no test {candidate.metric}"
    best = float(champion.tags[_SCORE])
    wins = candidate.merit(candidate.score) > candidate.merit(best)
    scores = f"test {candidate.metric} {candidate.score:.4f} against {best:.4f}"
    return wins, f"{scores} of {who}{' until then' if wins else ''}, on the same test split"


def _note_comparison(
    client: MlflowClient,
    version: ModelVersion,
    champion: ModelVersion,
    compare: Callable[[Rival], str | None],
) -> str:
    run_id = champion.tags.get(RUN)
    difference = None if run_id is None else compare(Rival(int(champion.version), run_id))
    if difference is None:
        return ""
    client.set_model_version_tag(
        version.name, version.version, "tunetrail.against_champion",
        f"version {champion.version}: {difference}",
    )  # fmt: skip
    return f" (paired on its rows: {difference})"


def _find_champion(client: MlflowClient, name: str) -> ModelVersion | None:
    number = _aliases(client, name).get(CHAMPION)
    return None if number is None else client.get_model_version(name, str(number))


def _aliases(client: MlflowClient, name: str) -> Mapping[str, Any]:
    """Return the number of the version of each alias."""
    return dict(client.get_registered_model(name).aliases)


@contextlib.contextmanager
def _registry_errors(name: str) -> Iterator[None]:
    """Report in one line why a model could not be registered; an outage is raised as it is.

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
            f"registry.name={name}: the model registry refused ({text}); repeat the command "
            "when it can be written to"
        ) from error
