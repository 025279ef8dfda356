"""Descriptions that MLflow shows above a run, as Markdown: what it was, and where to go from it."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tunetrail.templates import short
from tunetrail.templates.names import name_part, words_of

# MLflow takes 8,000 characters of a tag, and a description is no report.
_MOST = 5_000
_MOST_SEARCHED = 20


def escape(text: str) -> str:
    """Write a text so that no character of it is markup where MLflow shows it.

    Its reader of Markdown (showdown) takes no backslash before < and &. Secrets are hidden before:
    they are known by their form, which this changes.
    """
    line = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]|#~])", r"\\\1", html.escape(line, quote=False))


def link_to_run(text: str, experiment_id: str, run_id: str, page: str = "") -> str:
    """Link to a run in MLflow's own pages, whatever the address of the server is.

    Args:
        text: that is shown.
        experiment_id: of the run.
        run_id: its id.
        page: of the run, such as ``artifacts/report.md``.

    """
    path = f"/{page}" if page else ""
    ids = [_only_words(found) for found in (experiment_id, run_id)]
    return f"[{escape(text)}](#/experiments/{ids[0]}/runs/{ids[1]}{path})"


def list_links(links: Sequence[str]) -> str:
    """Lead to other pages: early, because MLflow shows the first lines until one asks for more."""
    return f"See {', '.join(links)}."


def join_paragraphs(paragraphs: Sequence[str]) -> str:
    """Join the paragraphs that there are, those that fit: the first ones matter most."""
    text = ""
    for paragraph in filter(None, paragraphs):
        longer = f"{text}\n\n{paragraph}" if text else paragraph
        text = longer if len(longer) < _MOST else text
    return f"{text}\n"


def introduce(config: Mapping[str, Any]) -> str:
    """Say what a run is: its task, data, model and method.

    Args:
        config: as it is recorded.

    """
    task = words_of(config["task"]["_target_"].rpartition(".")[2])
    parts = [f"**{escape(name_part(config[part]))}**" for part in ("data", "model")]
    what = f"{task[:1].upper()}{task[1:]} of {parts[0]} with {parts[1]}"
    return f"{what}, method {escape(str(config['method'].get('name')))}."


def list_values(params: Mapping[str, Any]) -> str:
    """List what was searched."""
    shown = list(params.items())[:_MOST_SEARCHED]
    more = "" if len(shown) == len(params) else f" and {len(params) - len(shown)} more"
    return ", ".join(f"{escape(key)} **{escape(short(value))}**" for key, value in shown) + more


def say_trial(
    number: int, study: str, params: Mapping[str, Any], *, seed: int | None = None
) -> str:
    """Say which trial a run is, and of which study.

    Args:
        number: of the trial in the search.
        study: its name, or a link to it, as Markdown.
        params: what was searched.
        seed: on which it trains, where a trial has several.

    """
    on_seed = "" if seed is None else f", on seed {seed}"
    values = f" Searched: {list_values(params)}." if params else ""
    return f"Trial {number} of {study}{on_seed}.{values}"


def say_rerun(run_id: str) -> str:
    return f"Run it again:\n\n```\ntunetrail rerun {_only_words(run_id)}\n```"


def say_start(config: Mapping[str, Any], experiment_id: str) -> str:
    """Link to the run whose model a run starts from; empty where there is none."""
    run_id = config["model"].get("source", {}).get("run_id")
    if not isinstance(run_id, str):
        return ""
    return f"It starts from the model of {link_to_run(f'run {run_id[:8]}', experiment_id, run_id)}."


def _only_words(found: str) -> str:
    """Clean an id, which may come from a store that others write to."""
    return re.sub(r"\W", "", found)
