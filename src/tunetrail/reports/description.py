"""What MLflow shows above a run that has ended: its score, the verdict, and its neighbours."""

from tunetrail.config.secrets import redact
from tunetrail.reports.run import RunFindings
from tunetrail.templates import begin_sentence
from tunetrail.templates.descriptions import (
    escape,
    introduce,
    join_paragraphs,
    link_to_run,
    list_links,
    say_rerun,
)
from tunetrail.tracking.descriptions import describe
from tunetrail.tracking.recording import SUMMARY
from tunetrail.tracking.run_log import RunLog


def log_description(
    run_log: RunLog, found: RunFindings, neighbours: str, *, has_page: bool
) -> None:
    """Describe a run in Markdown, instead of what its beginning has said.

    Args:
        run_log: of the run.
        found: what it has found.
        neighbours: what it belongs to and starts from.
        has_page: whether it has a page of its own.

    """
    judged = found.judged
    files = {
        "its page": SUMMARY if has_page else "",
        "the figures": "figures",
        "every prediction": "predictions",
    }
    links = [
        link_to_run(text, run_log.experiment_id, run_log.run_id, f"artifacts/{path}")
        for text, path in files.items()
        if path
    ]
    text = join_paragraphs(
        [
            _say_score(found),
            list_links(links),
            introduce(found.config),
            neighbours,
            f"{_say(judged.fit.line())}.",
            "" if judged.baselines is None else f"{_say(judged.baselines.line())}.",
            "" if found.tuning is None else f"{_say(found.tuning.line())}.",
            say_rerun(found.run_id),
        ]
    )
    describe(run_log.client, run_log.run_id, text)


def _say_score(found: RunFindings) -> str:
    fit, name = found.fit, found.fit.main_metric.replace("_", " ")
    score = (
        f"**{name} {fit.validation_score:.4f}** ± {2 * found.validation.noise:.4f} on validation"
    )
    said = [f"{score} (95 %), {fit.train_score:.4f} on train"]
    if (test := found.test) is not None:
        interval = test.intervals[fit.main_metric]
        said.append(f"**{test.metrics[fit.main_metric]:.4f}** {interval} on test")
    return f"{'; '.join(said)}; **{fit.verdict}**."


def _say(line: str) -> str:
    return begin_sentence(escape(redact(line)))
