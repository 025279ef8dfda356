"""Descriptions of runs, which MLflow shows as Markdown: what a person has written there is kept."""

import hashlib
from collections.abc import Callable

from mlflow.entities import RunTag
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from tunetrail.config.secrets import redact
from tunetrail.templates.descriptions import escape
from tunetrail.tracking.store import not_vital

# Tag with a digest of the description that was written here.
_WRITTEN = "tunetrail.described"
# MLflow takes 8,000 characters; a description is no report.
_MOST = 5_000


def describe(client: MlflowClient, run_id: str, text: str) -> None:
    """Replace the description of a run, unless a person has changed it."""
    with not_vital("the description of the run"):
        _replace(client, run_id, lambda _: text, at_first=True)


def append(client: MlflowClient, run_id: str, line: str) -> None:
    """Add a paragraph to the description of a run, if that was written here."""
    with not_vital("the description of the run"):
        _replace(client, run_id, lambda before: f"{before.rstrip()}\n\n{line}\n", at_first=False)


def append_cause(client: MlflowClient, run_id: str, word: str, cause: str) -> None:
    """Add how a run has ended, and why, to its description."""
    append(client, run_id, f"**{word}**: {escape(redact(cause))}")


def tag_first(text: str) -> dict[str, str]:
    """Return the tags that describe a run which has no description yet."""
    text = redact(text)
    return {MLFLOW_RUN_NOTE: text, _WRITTEN: _digest(text)}


def _replace(
    client: MlflowClient, run_id: str, change: Callable[[str], str], *, at_first: bool
) -> None:
    """Change a description that was written here.

    Args:
        client: of the store.
        run_id: of the run.
        change: the new text of the old one.
        at_first: whether to write one where there is none.

    """
    tags = client.get_run(run_id).data.tags
    before = tags.get(MLFLOW_RUN_NOTE, "")
    is_ours = _digest(before) == tags.get(_WRITTEN) if before else at_first
    text = change(before)
    if not is_ours or text == before:
        return
    written = tag_first(text[:_MOST]).items()
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in written])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
