"""The winner in the model registry: its version, its tags and its model card."""

import pandas as pd

from hydra_plugins.optuna_study import attributes
from tunetrail.errors import InputError, OutageError
from tunetrail.studies.finals.card import add_header, write_card
from tunetrail.studies.finals.comparisons import compare_tables
from tunetrail.studies.finals.conclusion import Conclusion
from tunetrail.studies.finals.record import WinnerRecord
from tunetrail.templates.descriptions import link_to_run
from tunetrail.tracking import models as logged_models
from tunetrail.tracking import registry
from tunetrail.tracking.artifacts import read_table
from tunetrail.tracking.run_log import RunLog, add_to_run
from tunetrail.tracking.tags import FINALS_TRIAL, STUDY, TRIAL

_CARD = "model_card.md"


def register_version(
    record: WinnerRecord, conclusion: Conclusion, test_rows: pd.DataFrame | None
) -> registry.Registered | None:
    """Register the winner's weights as a version; None if there is no registry or it refuses."""
    name = record.terms.registry_name
    if name is None:
        return None
    client = add_to_run(uri=record.terms.uri, run_id=record.last.run_id).client
    model = logged_models.find_model(client, record.last.run_id)
    if model is None:
        record.notes.append(f"registry.name={name}: there are no weights to register")
        return None
    test, metric = conclusion.test, conclusion.main_metric
    candidate = registry.Candidate(
        run_id=record.last.run_id,
        model=model,
        metric=metric,
        greater_is_better=record.metric.greater_is_better,
        score=None if test is None else test.metrics[metric],
        test_fingerprint=None if test is None else test.fingerprint,
        tags=_version_tags(record, conclusion),
    )

    def compare(rival: registry.Rival) -> str | None:
        if test_rows is None:
            return None
        try:
            path = "predictions/test.parquet"
            others = read_table(uri=record.terms.uri, run_id=rival.run_id, path=path)
        except OutageError:
            raise
        except InputError:
            return None
        result = compare_tables(record, [test_rows], [others])
        return None if result is None else f"{conclusion.gain} {result}"

    try:
        return registry.register(client, name, candidate, compare=compare)
    except OutageError:
        raise
    except InputError as error:
        record.undone.append(str(error))
        return None


def _version_tags(record: WinnerRecord, conclusion: Conclusion) -> dict[str, str]:
    run, test = record.last, conclusion.test
    tags = {
        STUDY: record.study.study_name,
        TRIAL: str(conclusion.winner.number),
        "tunetrail.finals_study": run.tags[STUDY],
        FINALS_TRIAL: str(conclusion.winner.final),
        "tunetrail.config": f"runs:/{run.run_id}/config.yaml",
        "tunetrail.model_card": f"runs:/{run.run_id}/{_CARD}",
    }
    for name in ("tunetrail.data_fingerprint", "tunetrail.commit"):
        if name in run.tags:
            tags[name] = run.tags[name]
    if test is not None:
        interval = test.intervals[conclusion.main_metric]
        tags |= {"tunetrail.test_low": str(interval.low), "tunetrail.test_high": str(interval.high)}
    return tags


def log_card(record: WinnerRecord, conclusion: Conclusion) -> None:
    """Write the model card to the run, to the files of the model and to the version."""
    registered = conclusion.registered
    run_log = add_to_run(uri=record.terms.uri, run_id=conclusion.run_id)
    card = write_card(
        conclusion,
        name=record.study.study_name if registered is None else registered.name,
        config=record.recorded.values,
        data=record.data,
        trains=record.recorded.method.trains,
        limits=record.recorded.task.limits(),
        fingerprints=record.fingerprints,
        tags=record.last.tags,
        metrics=record.last.metrics,
    )
    with_header = add_header(card, pipeline_tag=record.recorded.task.pipeline_tag)
    run_log.text(with_header, _CARD)
    model = logged_models.find_model(run_log.client, run_log.run_id)
    if model is not None:
        logged_models.write_card(run_log.client, model, with_header)
    if registered is not None:
        registry.describe(run_log.client, registered, _with_links(card, record, run_log))


def _with_links(card: str, record: WinnerRecord, run_log: RunLog) -> str:
    """Link to the run and its study, which only MLflow's own pages can."""
    title, _, rest = card.strip().partition("\n")
    links = [link_to_run("its run", run_log.experiment_id, run_log.run_id)]
    study = record.study.user_attrs.get(attributes.RUN_ID)
    if study is not None:
        name = f"study {record.study.study_name}"
        links.append(link_to_run(name, run_log.experiment_id, str(study)))
    return f"{title}\n\nSee {', '.join(links)}.\n{rest}"
