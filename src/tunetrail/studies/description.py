"""What MLflow shows above the run of a study, and above that of its finals."""

from collections import Counter
from collections.abc import Sequence

import optuna

from hydra_plugins.optuna_study import attributes
from tunetrail.config.secrets import redact
from tunetrail.data.columns import count_of
from tunetrail.studies.ranking import find_best
from tunetrail.studies.report import describe_seeds
from tunetrail.studies.states import number_of, state_of
from tunetrail.templates import short
from tunetrail.templates.descriptions import (
    escape,
    join_paragraphs,
    link_to_run,
    list_links,
    list_values,
)
from tunetrail.tracking.run_log import RunLog
from tunetrail.tracking.tags import FINALS_RUN, WINNER_RUN


def describe_study(
    study: optuna.Study,
    objectives: Sequence[str],
    *,
    parent: RunLog,
    searched: str | None,
    said: Sequence[str],
) -> str:
    """Describe a study in Markdown.

    Args:
        study: that was searched, or its finals.
        objectives: names of its values, in order.
        parent: its run.
        searched: of finals, the run of the study that was searched.
        said: of the winner, in lines that begin with a word.

    """
    experiment_id, name = parent.experiment_id, study.study_name
    report = link_to_run("its report", experiment_id, parent.run_id, "artifacts/report.md")
    page = link_to_run("its page", experiment_id, parent.run_id, "artifacts/reports/study.html")
    links, go_on = [report, page], ""
    if searched is None:
        links += [
            link_to_run(text, experiment_id, run_id)
            for text, tag in (("its finals", FINALS_RUN), ("the winner", WINNER_RUN))
            if (run_id := parent.tags_at_start.get(tag)) is not None
        ]
        shown = name.replace("`", "")
        go_on = f"To go on: the same command with `study={shown}` and a larger `sweep.num_trials`."
    parts = [line.partition(" ") for line in said]
    lines = [f"- **{word}** {escape(redact(rest))}" for word, _, rest in parts]
    best = _say_best(study, objectives, experiment_id)
    return join_paragraphs(
        [
            # MLflow shows the first lines until one asks for more.
            f"**{parts[0][0].capitalize()}**: {escape(redact(parts[0][2]))}" if parts else best,
            list_links(links),
            "\n".join(lines[1:]),
            best if lines else "",
            _say_what(study, objectives, experiment_id, searched),
            _say_endings(study),
            go_on,
        ]
    )


def _say_what(
    study: optuna.Study, objectives: Sequence[str], experiment_id: str, searched: str | None
) -> str:
    goal = ", ".join(escape(name) for name in objectives)
    if searched is not None:
        above = link_to_run(
            f"study {study.user_attrs[attributes.FINAL_OF]}", experiment_id, searched
        )
        return (
            f"The best points of {above}, the default config and the references, trained again "
            f"{describe_seeds(study)} Goal: {goal}."
        )
    space = list_values(study.user_attrs.get(attributes.SEARCH_SPACE, {}))
    return f"Goal: {goal}. Searched: {space}."


def _say_best(study: optuna.Study, objectives: Sequence[str], experiment_id: str) -> str:
    best = find_best(study)
    if best is None:
        return ""
    run_id = best.user_attrs.get(attributes.RUN_ID)
    trial = f"trial {number_of(best)}"
    shown = trial if run_id is None else link_to_run(trial, experiment_id, str(run_id))
    values = ", ".join(
        f"{escape(name)} **{short(float(value))}**"
        for name, value in zip(objectives, best.values, strict=True)
    )
    where = "in the finals" if attributes.FINAL_OF in study.user_attrs else "in the search"
    return f"Best {where}: {shown}, {values}. {list_values(attributes.params_of(best))}."


def _say_endings(study: optuna.Study) -> str:
    trials = study.get_trials(deepcopy=False)
    counts = Counter(state_of(trial) for trial in trials)
    ended = ", ".join(f"{number} {state}" for state, number in counts.most_common())
    return f"{count_of(len(trials), 'trial')}: {ended}." if trials else ""
