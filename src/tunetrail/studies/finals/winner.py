"""The winner of a study's finals: measured on test once, compared, registered, told.

Each step finds what it did before, so that a study whose end was killed is concluded by giving
its command again: the tag on the run says that test was scored, the registry holds the version.
"""

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

from hydra_plugins.optuna_study import attributes
from tunetrail.console import quiet_libraries
from tunetrail.data.prepare import PreparedData
from tunetrail.errors import DiskFullError, InputError, OutageError
from tunetrail.evaluation.scoring import Recorded, load_recorded, score_saved
from tunetrail.evaluation.statistics import Interval, PairedTest, compare_rows
from tunetrail.studies.finals.card import without_header, write_card
from tunetrail.studies.finals.conclusion import DEFAULT, Comparison, Conclusion, TestRecord
from tunetrail.studies.finals.finalists import Field, Finalist, collect_field
from tunetrail.studies.finals.plots import plot_finals
from tunetrail.studies.finals.report import say_no_winner, say_winner, write_no_winner, write_winner
from tunetrail.studies.trial_runs import TrialRuns
from tunetrail.tracking import models as logged_models
from tunetrail.tracking import provenance, registry
from tunetrail.tracking import recording as reporting
from tunetrail.tracking.store import (
    TEST_SCORED,
    RunLog,
    RunSummary,
    add_to_run,
    read_artifact,
    read_run,
    read_table,
)
from tunetrail.training.isolation import isolated

log = logging.getLogger(__name__)

# Artifacts of the study's run: the section of its report, and whether all was done for it.
SECTION, _DONE = "winner.md", "reports/winner.json"
_CARD = "model_card.md"


@dataclass(frozen=True)
class Terms:
    """What a study's config says about its winner.

    Args:
        registry_name: None registers nowhere.
        keeps_weights: ``tracking.log_model``.
        scores_all: ``score_test``: every run was measured on test, not the winner alone.
        known_targets: all that the record of a run may have instantiated.

    """

    uri: str
    objective: str
    registry_name: str | None
    keeps_weights: bool
    scores_all: bool
    known_targets: frozenset[str]


@dataclass
class _Case:
    """A winner under examination: its runs, and what was left out on the way.

    ``notes`` say what stays as it is, ``undone`` what giving the command again may mend.
    """

    terms: Terms
    study: optuna.Study
    runs: TrialRuns
    own: list[RunSummary]
    recorded: Recorded
    data: PreparedData | None = None
    fingerprints: Mapping[str, provenance.SplitFingerprint] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)

    @property
    def last(self) -> RunSummary:
        """The run of the last seed, which alone keeps its weights."""
        return self.own[-1]

    @property
    def seed(self) -> int:
        return self.recorded.seed


def crown_winner(
    study: optuna.Study,
    finals: optuna.Study,
    finalists: Mapping[int, int],
    *,
    parent: RunLog,
    terms: Terms,
) -> list[str]:
    """Examine and register the winner, log all of it, and return what to say about it.

    Repeated for the same finals, it says the same again and does nothing.

    Args:
        finalists: number of a trial of the study -> number of its trial in the finals.
        parent: the run of the study.

    """
    found = collect_field(study, finals, finalists, objective=terms.objective)
    key = {
        "finals": finals.study_name,
        "finalists": [[one.number, one.final, *one.scores] for one in found.finalists],
        "registry": terms.registry_name,
    }
    if (said := _said_before(key, terms.uri, parent.run_id)) is not None:
        return said
    if found.winner is None:
        complete, said = True, say_no_winner(found)
        parent.text(write_no_winner(found) + "\n", SECTION)
    else:
        quiet_libraries()
        case = _open_case(study, finals, found.winner, terms)
        with isolated():
            conclusion = _examine(case, found, found.winner)
        complete, said = not case.undone, say_winner(conclusion)
        _log_conclusion(conclusion, parent)
    if found.finalists:
        parent.figure(plot_finals(found), "figures/finals.png")
    # Last: where it is, all of it is there.
    parent.data({"key": key, "complete": complete, "said": said}, _DONE)
    return said


def read_section(*, uri: str, run_id: str) -> str:
    """Read the section on the winner that an end of this study wrote; empty before the first."""
    try:
        return read_artifact(uri=uri, run_id=run_id, path=SECTION)
    except OutageError:
        raise
    except InputError:
        return ""


def _said_before(key: Mapping[str, Any], uri: str, run_id: str) -> list[str] | None:
    try:
        before = json.loads(read_artifact(uri=uri, run_id=run_id, path=_DONE))
    except OutageError:
        raise
    except InputError:
        return None
    same = before["key"] == json.loads(json.dumps(key))
    return list(before["said"]) if same and before["complete"] else None


def _open_case(study: optuna.Study, finals: optuna.Study, winner: Finalist, terms: Terms) -> _Case:
    parent = add_to_run(uri=terms.uri, run_id=finals.user_attrs[attributes.RUN_ID])
    runs = TrialRuns(parent, study=finals.study_name, objectives=[terms.objective])
    own = runs.list_repeats(winner.final)
    if not own:
        raise InputError(
            f"study {finals.study_name}: trial {winner.final} has no finished run in this store; "
            "set tracking.uri to the store it was logged to"
        )
    config = read_artifact(uri=terms.uri, run_id=own[-1].run_id, path="config.yaml")
    return _Case(terms, study, runs, own, load_recorded(config, known_targets=terms.known_targets))


def _examine(case: _Case, found: Field, winner: Finalist) -> Conclusion:
    _load_data(case)
    test, rows = _measure_test(case)
    conclusion = Conclusion(
        field=found,
        winner=winner,
        run_id=case.last.run_id,
        main_metric=case.recorded.task.main_metric,
        row_metric=case.recorded.task.row_metric,
        comparisons=tuple(_compare(case, found, winner, rows)),
        test=test,
        num_looks=len(case.study.user_attrs.get(attributes.TEST_LOOKS, ())),
        all_scored_test=case.terms.scores_all,
        registered=None,
        notes=(),
    )
    registered = _register(case, conclusion, rows)
    conclusion = replace(conclusion, registered=registered, notes=(*case.notes, *case.undone))
    _log_card(case, conclusion)
    return conclusion


def _load_data(case: _Case) -> None:
    """Prepare the rows as the winner's run did, if they are still the same."""
    try:
        data = case.recorded.load_data()
        prints = provenance.fingerprint_data(data.dataset)
        if provenance.combine_fingerprints(prints) != case.last.tags["tunetrail.data_fingerprint"]:
            raise InputError("the data is not what the winner was trained on")  # noqa: TRY301 - told like the errors of loading
    except (OutageError, DiskFullError):
        raise
    except InputError as error:
        case.undone.append(f"test and baselines: {error}")
        return
    case.data, case.fingerprints = data, prints


def _measure_test(case: _Case) -> tuple[TestRecord | None, pd.DataFrame | None]:
    """Score the winner on test, unless its run holds that already; the rows come back too."""
    if case.data is None:
        return None, None
    if "test" not in case.data.dataset:
        case.notes.append(
            "the test score: there is no test split; set data.test=PATH or data.test_fraction"
        )
        return None, None
    run_log = add_to_run(uri=case.terms.uri, run_id=case.last.run_id)
    if TEST_SCORED not in case.last.tags and not _score_once(case, run_log):
        return None, None
    record = read_run(run_log.client.get_run(run_log.run_id))
    rows = read_table(uri=case.terms.uri, run_id=run_log.run_id, path="predictions/test.parquet")
    names = case.recorded.task.metric_names
    record_of_test = TestRecord(
        metrics={name: record.metrics[f"test/{name}"] for name in ("loss", *names)},
        intervals={
            name: Interval(record.metrics[f"test/{name}_low"], record.metrics[f"test/{name}_high"])
            for name in names
        },
        num_rows=len(rows),
        fingerprint=case.fingerprints["test"].sha256[:16],
        mean_confidence=float(rows["confidence"].mean()),
    )
    return record_of_test, rows


def _score_once(case: _Case, run_log: RunLog) -> bool:
    model = logged_models.find_model(run_log.client, run_log.run_id)
    if model is None or case.data is None:
        case.notes.append(
            "the test score: "
            + (
                "the winner's weights are not in the store any more"
                if case.terms.keeps_weights
                else "tracking.log_model=false keeps no weights to measure"
            )
        )
        return False
    # Noted before it is looked at: a look that was cut short is a look.
    looks = case.study.user_attrs.get(attributes.TEST_LOOKS, [])
    if run_log.run_id not in looks:
        case.study.set_user_attr(attributes.TEST_LOOKS, [*looks, run_log.run_id])
    with tempfile.TemporaryDirectory() as folder:
        weights, tokenizer = logged_models.load_components(model, Path(folder))
        scores = score_saved(case.recorded, case.data, weights, tokenizer, scratch_dir=Path(folder))
    reporting.log_test(run_log, case.recorded.task, scores)
    return True


def _compare(
    case: _Case, found: Field, winner: Finalist, test_rows: pd.DataFrame | None
) -> list[Comparison]:
    """Compare with the default config on validation, and with the baselines on both splits."""
    tables = _validation_tables(case, case.own)
    comparisons = []
    default = found.default
    if default is not None and default is not winner:
        others = _validation_tables(case, case.runs.list_repeats(default.final))
        result = _pair(case, tables, others)
        if result is None:
            case.notes.append(f"{DEFAULT}: it was measured on other rows")
        else:
            comparisons.append(Comparison(DEFAULT, "validation", result))
    elif default is None:
        case.notes.append(f"{DEFAULT}: it is not among the finalists")
    if test_rows is not None:
        comparisons += _against_baselines(case, [test_rows], "test")
    return comparisons + _against_baselines(case, tables, "validation")


def _validation_tables(case: _Case, runs: Sequence[RunSummary]) -> list[pd.DataFrame]:
    path = "predictions/validation.parquet"
    return [read_table(uri=case.terms.uri, run_id=run.run_id, path=path) for run in runs]


def _pair(
    case: _Case, ones: Sequence[pd.DataFrame], others: Sequence[pd.DataFrame]
) -> PairedTest | None:
    """Compare seed by seed; None where the rows are not the same."""
    tables = [*ones, *others]
    if len(ones) != len(others) or not all(_same_rows(tables[0], table) for table in tables):
        return None
    scores = [np.stack([case.recorded.task.row_scores(t) for t in ts]) for ts in (ones, others)]
    return compare_rows(*scores, seed=case.seed)


def _same_rows(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    return bool(one["row"].equals(other["row"]) and one["text"].equals(other["text"]))


def _against_baselines(case: _Case, tables: Sequence[pd.DataFrame], split: str) -> list[Comparison]:
    if case.data is None:
        return []
    task = case.recorded.task
    scores = np.stack([task.row_scores(table) for table in tables])
    baselines = task.baseline_scores(case.data.dataset["train"], tables[0])
    return [
        Comparison(name, split, compare_rows(scores, of_baseline, seed=case.seed))
        for name, of_baseline in baselines.items()
    ]


def _register(
    case: _Case, conclusion: Conclusion, test_rows: pd.DataFrame | None
) -> registry.Registered | None:
    name = case.terms.registry_name
    if name is None:
        return None
    client = add_to_run(uri=case.terms.uri, run_id=case.last.run_id).client
    model = logged_models.find_model(client, case.last.run_id)
    if model is None:
        case.notes.append(f"registry.name={name}: there are no weights to register")
        return None
    test, metric = conclusion.test, conclusion.main_metric
    candidate = registry.Candidate(
        run_id=case.last.run_id,
        model=model,
        metric=metric,
        score=None if test is None else test.metrics[metric],
        test_fingerprint=None if test is None else test.fingerprint,
        tags=_version_tags(case, conclusion),
    )

    def compare(rival: registry.Rival) -> str | None:
        if test_rows is None:
            return None
        try:
            path = "predictions/test.parquet"
            others = read_table(uri=case.terms.uri, run_id=rival.run_id, path=path)
        except OutageError:
            raise
        except InputError:
            return None
        result = _pair(case, [test_rows], [others])
        return None if result is None else f"{conclusion.row_metric} {result}"

    try:
        return registry.register(client, name, candidate, compare=compare)
    except OutageError:
        raise
    except InputError as error:
        case.undone.append(str(error))
        return None


def _version_tags(case: _Case, conclusion: Conclusion) -> dict[str, str]:
    run, test = case.last, conclusion.test
    tags = {
        "tunetrail.study": case.study.study_name,
        "tunetrail.trial": str(conclusion.winner.number),
        "tunetrail.finals_study": run.tags["tunetrail.study"],
        "tunetrail.finals_trial": str(conclusion.winner.final),
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


def _log_card(case: _Case, conclusion: Conclusion) -> None:
    """Write the model card: to the run, to the files of the model, to the version."""
    registered = conclusion.registered
    run_log = add_to_run(uri=case.terms.uri, run_id=conclusion.run_id)
    card = write_card(
        conclusion,
        name=case.study.study_name if registered is None else registered.name,
        pipeline_tag=case.recorded.task.pipeline_name,
        config=case.recorded.values,
        data=case.data,
        fingerprints=case.fingerprints,
        tags=case.last.tags,
    )
    run_log.text(card, _CARD)
    model = logged_models.find_model(run_log.client, run_log.run_id)
    if model is not None:
        logged_models.write_card(run_log.client, model, card)
    if registered is not None:
        registry.describe(run_log.client, registered, without_header(card))


def _log_conclusion(conclusion: Conclusion, parent: RunLog) -> None:
    """Put on the study's run what a person looks for there."""
    winner, test, registered = conclusion.winner, conclusion.test, conclusion.registered
    parent.text(write_winner(conclusion) + "\n", SECTION)
    if test is not None:
        values = {f"test/{name}": value for name, value in test.metrics.items()}
        for name, interval in test.intervals.items():
            values |= {f"test/{name}_low": interval.low, f"test/{name}_high": interval.high}
        # A study that went on and has another winner shows both, in their order.
        parent.metrics(values, step=conclusion.num_looks)
    tags = {"tunetrail.winner_trial": winner.number, "tunetrail.winner_run": conclusion.run_id}
    if registered is not None:
        tags["tunetrail.registered"] = f"{registered.name}/{registered.version}"
    parent.tags(tags)
