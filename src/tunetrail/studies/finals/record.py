"""What is recorded of a winner: its runs, its config and its data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import optuna

from hydra_plugins.optuna_study import attributes
from tunetrail.config.untrusted import Trusted
from tunetrail.data.prepare import PreparedData
from tunetrail.errors import DiskFullError, InputError, OutageError
from tunetrail.evaluation.held_out import Recorded, load_recorded
from tunetrail.studies.finals.finalists import Finalist
from tunetrail.studies.trial_runs import TrialRuns
from tunetrail.tasks.base import Metric
from tunetrail.tracking.artifacts import Artifacts, read_artifact
from tunetrail.tracking.provenance.fingerprints import (
    SplitFingerprint,
    combine_fingerprints,
    fingerprint_data,
)
from tunetrail.tracking.recorded_files import read_files, require_recorded_files
from tunetrail.tracking.row_fingerprints import find_earlier
from tunetrail.tracking.run_log import RunSummary, add_to_run
from tunetrail.tracking.starts import INITIALIZED_FROM
from tunetrail.tracking.store import connect_existing


@dataclass(frozen=True)
class Terms:
    """What a study's config says about its winner.

    Args:
        registry_name: None registers nowhere.
        keeps_weights: ``tracking.log_model``.
        scores_all: ``score_test``: every run is scored on test, not the winner alone.
        trusted: all that the record of a run may name.

    """

    uri: str
    objectives: tuple[str, ...]
    registry_name: str | None
    keeps_weights: bool
    scores_all: bool
    trusted: Trusted


@dataclass
class WinnerRecord:
    """A winner's runs, config and data, and what could not be done with them.

    ``notes`` say what is final, ``undone`` what the same command may still do later.
    """

    terms: Terms
    study: optuna.Study
    runs: TrialRuns
    searched: TrialRuns
    own: list[RunSummary]
    recorded: Recorded
    data: PreparedData | None = None
    fingerprints: Mapping[str, SplitFingerprint] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)

    def list_runs(self, finalist: Finalist) -> list[RunSummary]:
        """List the runs of a finalist, those of the search that count first."""
        return _list_runs(self.runs, self.searched, finalist)

    @property
    def last(self) -> RunSummary:
        """The run of the last seed, which alone keeps its weights."""
        return self.own[-1]

    @property
    def metric(self) -> Metric:
        """What is known of the main metric."""
        task = self.recorded.task
        return task.metrics[task.main_metric]


def load_winner(
    study: optuna.Study, finals: optuna.Study, winner: Finalist, terms: Terms
) -> WinnerRecord:
    """Find the winner's runs and read its config.

    Raises:
        InputError: the store has no finished run of the winner.

    """
    parent = add_to_run(uri=terms.uri, run_id=finals.user_attrs[attributes.RUN_ID])
    names = terms.objectives
    runs = TrialRuns(parent, study=finals.study_name, objectives=names, of_finals=True)
    parent = add_to_run(uri=terms.uri, run_id=study.user_attrs[attributes.RUN_ID])
    searched = TrialRuns(parent, study=study.study_name, objectives=names)
    own = _list_runs(runs, searched, winner)
    if len(own) == winner.carried:
        raise InputError(
            f"study {finals.study_name}: trial {winner.number} has no finished run in this store; "
            "set tracking.uri to the store that holds it"
        )
    config = read_artifact(uri=terms.uri, run_id=own[-1].run_id, path="config.yaml")
    recorded = load_recorded(config, trusted=terms.trusted, uri=terms.uri)
    return WinnerRecord(terms, study, runs, searched, own, recorded)


def _list_runs(runs: TrialRuns, searched: TrialRuns, finalist: Finalist) -> list[RunSummary]:
    before = []
    if finalist.carried:
        before = searched.list_repeats(finalist.number, first=finalist.carried)
    return [*before, *runs.list_repeats(finalist.final)]


def load_data(record: WinnerRecord) -> None:
    """Prepare the rows as the winner's run did, if they are still the same."""
    try:
        _require_own_files(record)
        data = record.recorded.load_data()
        prints = fingerprint_data(data.dataset)
        used = record.last.tags["tunetrail.data_fingerprint"]
        if combine_fingerprints(prints) != used:
            raise InputError("the data is not what the winner was trained on")  # noqa: TRY301 - noted like an error of loading
        data = _find_earlier(record, data)
    except (OutageError, DiskFullError):
        raise
    except InputError as error:
        record.undone.append(f"test and baselines: {error}")
        return
    record.data, record.fingerprints = data, prints


def _require_own_files(record: WinnerRecord) -> None:
    uri, run_id = record.terms.uri, record.last.run_id
    client = connect_existing(uri)
    report = Artifacts(client, client.get_run(run_id)).mapping("reports/data.json") or {}
    require_recorded_files(
        record.recorded.values, read_files(report) or {}, remedy="put it back as it was"
    )


def _find_earlier(record: WinnerRecord, data: PreparedData) -> PreparedData:
    """Find the held-out rows that earlier runs trained on, for the model card."""
    start = record.last.tags.get(INITIALIZED_FROM)
    if start is None or data.leakage is None:
        return data
    earlier = find_earlier(connect_existing(record.terms.uri), start, data)
    return data.with_earlier(earlier, policy="warn", in_study=True)
