"""Run a recorded run again from its record, and compare the numbers."""

import contextlib
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunetrail.config.paths import locate
from tunetrail.config.untrusted import (
    GivenValue,
    Project,
    build_config,
    parse_config,
    parse_given,
    require_safe,
)
from tunetrail.errors import InputError, OutageError
from tunetrail.runs.agreement import check_agreement, format_verdict
from tunetrail.runs.child import build_environment, require_own_sources, run_train
from tunetrail.runs.code_trees import checked_out, list_code, list_patched, open_trees
from tunetrail.runs.differences import describe, lay_out, shorten
from tunetrail.runs.records import RunRecord, find_by_name, load_record
from tunetrail.runs.rerun_report import Rerun, plot, tabulate, write_report
from tunetrail.templates.descriptions import link_to_run
from tunetrail.tracking.descriptions import append
from tunetrail.tracking.recorded_files import require_recorded_files
from tunetrail.tracking.run_log import CHOICES, add_to_run
from tunetrail.tracking.starts import resolve_run
from tunetrail.tracking.store import find_database
from tunetrail.tracking.tags import BEST_RUN, REUSED_FROM, STATE, STUDY, TRIAL


def load_original(run_id: str, *, uri: str) -> tuple[RunRecord, list[str]]:
    """Read the run that is to be run again, and notes about it.

    Raises:
        InputError: there is no such run, it is a whole study, or it recorded too little.

    """
    record = load_record(run_id, uri=uri)
    notes = []
    source = record.tags.get(REUSED_FROM)
    if source is not None:
        notes.append(f"{record.run_id} was not trained: its numbers are those of {source}")
        record = load_record(source, uri=uri)
    if STUDY in record.tags and TRIAL not in record.tags:
        best = record.tags.get(BEST_RUN)
        which = f"its best trial is {best}" if best else "give one of its trials"
        raise InputError(f"run {record.run_id} is the study {record.name}, not a run; {which}")
    if record.config_text is None:
        raise InputError(
            f"run {record.run_id} recorded no config.yaml (state: {record.status}); it cannot be "
            "run again"
        )
    if not record.metrics:
        raise InputError(
            f"run {record.run_id} logged no metric (state: {record.status}); there is nothing to "
            "compare a rerun with"
        )
    return record, notes


@contextlib.contextmanager
def open_code(original: RunRecord, root: Path, *, checkout: bool) -> Iterator[tuple[Path, str]]:
    """Yield the folder whose ``train.py`` runs, and a line that describes its code.

    Args:
        checkout: use the recorded commit and patch instead of the files in ``root``.

    Raises:
        InputError: the recorded code is not available.

    """
    code = original.code
    if not checkout:
        yield root, _compare_with_present(original, root)
        return
    if lacking := list_code(code.left_out):
        raise InputError(
            "--checkout: files were left out of the recorded patch, such as for a secret in them "
            f"({shorten(lacking)}; environment/code.json says why); leave --checkout out to run "
            "the present code"
        )
    with checked_out(root, commit=code.commit, patch=code.patch) as tree:
        patched = list_patched(tree, code.patch) if code.patch else []
        note = f", with the patch in the store of {', '.join(patched)}" if patched else ""
        yield tree, f"as recorded: {str(code.commit)[:12]}{note}"


def _compare_with_present(original: RunRecord, root: Path) -> str:
    code = original.code
    recorded = "not recorded" if code.commit is None else code.commit[:12]
    recorded += " with uncommitted changes" if code.patch else ""
    with open_trees(root) as trees:
        before, now = trees.recorded(code.commit, code.patch), trees.present()
        if before is None or now is None:
            return f"present; recorded: {recorded}, which cannot be compared with it here"
        changes = trees.changes(before, now)
    if lacking := list_code(code.left_out):
        recorded += f" without {shorten(lacking)}, left out of its patch"
    if not changes:
        return f"present, the same as recorded ({recorded})"
    return f"present; changed since {recorded}: {shorten(changes)}"


def run_again(
    original: RunRecord,
    code: Project,
    present: Project,
    *,
    overrides: Sequence[str],
    uri: str,
    num_threads: int | None,
) -> RunRecord:
    """Train again in another process, and read the new run.

    Args:
        code: the checkout that runs, and whose YAML lists the targets that a record may have.
        present: the checkout whose config says where to write.

    Raises:
        InputError: the record is refused, or the new run logged no numbers.
        KeyboardInterrupt: a person has stopped it; the new run is closed.

    """
    # Found by its name, because older code of a checkout has no other way to mark a rerun.
    run_name = f"rerun-{original.run_id[:8]}-{secrets.token_hex(4)}"
    assert original.config_text is not None
    recorded = parse_config(original.config_text)
    given = parse_given(overrides, recorded)
    require_safe(recorded, code, given=given, store_dirs=_store_dirs(present, given, uri))
    require_recorded_files(
        recorded,
        original.files or {},
        given=given,
        remedy="give that key on the command line to read it all the same",
    )
    _require_start(original, recorded, given, uri=uri)
    config = build_config(recorded, code, present, given=given, uri=uri, run_name=run_name)
    environment = build_environment(code.root, num_threads=num_threads, num_gpus=original.num_gpus)
    require_own_sources(code.root, environment)
    checkpoint_dir = locate(present.config["tracking"]["checkpoint_dir"])
    before = {folder.name for folder in checkpoint_dir.glob("*")}
    try:
        exit_code = run_train(code.root, config, overrides=overrides, environment=environment)
    finally:
        run_id = find_by_name(run_name, uri=uri)
        if run_id is not None:
            _note_origin(run_id, original, uri=uri)
            # An interrupted run keeps its checkpoints, but a rerun is never resumed. Whoever writes
            # to the store may have given its name to another run.
            if run_id not in before:
                shutil.rmtree(checkpoint_dir / run_id, ignore_errors=True)
    repeated = None if run_id is None else load_record(run_id, uri=uri)
    if repeated is None or (exit_code and not repeated.metrics):
        raise InputError(
            f"the rerun of {original.run_id} failed before it logged a metric; see above"
        )
    return repeated


def _require_start(
    original: RunRecord, recorded: Mapping[str, Any], given: Sequence[GivenValue], *, uri: str
) -> None:
    """Check that the run which the original started from still has its model."""
    key = "model.source.run_id"
    run_id = recorded["model"]["source"].get("run_id")
    if run_id is None or any(value.key == key for value in given):
        return
    try:
        resolve_run(run_id, uri=uri)
    except OutageError:
        raise
    except InputError as error:
        raise InputError(
            f"run {original.run_id} started from another: {error}; give {key}=RUN_ID to start "
            "from a run that has it"
        ) from error


def _store_dirs(present: Project, given: Sequence[GivenValue], uri: str) -> list[Path]:
    """List the folders that a run may write to: those of the present config or given ones."""
    tracking = present.config["tracking"]
    named = [tracking["artifact_dir"], tracking["checkpoint_dir"], present.config["cache_dir"]]
    keys = ("tracking.artifact_dir", "tracking.checkpoint_dir", "cache_dir")
    named += [value.value for value in given if value.key in keys]
    if uri.startswith("sqlite:///"):
        named.append(find_database(uri).parent)
    return [locate(str(name)) for name in named]


def _note_origin(run_id: str, original: RunRecord, *, uri: str) -> None:
    # A recorded config does not have the names of its choices.
    tags = {f"tunetrail.{name}" for name in CHOICES} & original.tags.keys()
    known = {name: original.tags[name] for name in tags}
    run_log = add_to_run(uri=uri, run_id=run_id)
    run_log.tags({"tunetrail.rerun_of": original.run_id, **known})
    first = link_to_run(original.name, run_log.experiment_id, original.run_id)
    append(run_log.client, run_id, f"It repeats {first}; `reports/rerun.md` compares the two.")


def compare_with_original(
    original: RunRecord, repeated: RunRecord, root: Path, *, tolerance: float
) -> Rerun:
    """Compare a rerun with its original, and find what may explain the differences."""
    agreement = check_agreement(
        original.metrics,
        repeated.metrics,
        tolerance=tolerance,
        has_ended_early=original.has_ended_early,
    )
    with open_trees(root) as trees:
        before, after = (
            trees.recorded(record.code.commit, record.code.patch) for record in (original, repeated)
        )
        rows = lay_out([original, repeated], [trees.digest(before), trees.digest(after)])
        changes = trees.changes(before, after) if before and after else []
    reasons = describe(rows, changes)
    if repeated.status != "FINISHED" and not original.has_ended_early:
        failure = repeated.tags.get("tunetrail.failure", repeated.status)
        reasons.append(f"the rerun did not finish ({failure})")
    so_far = ""
    if original.has_ended_early:
        state = original.tags.get(STATE, original.status)
        so_far = f"compared as far as the original went ({state})"
    line = format_verdict(agreement, reasons, so_far=so_far)
    return Rerun(original, repeated, agreement, rows, line)


def log_comparison(rerun: Rerun, *, uri: str) -> None:
    """Log verdict, report, table and figure to the new run."""
    run_log = add_to_run(uri=uri, run_id=rerun.repeated.run_id)
    run_log.text(write_report(rerun), "reports/rerun.md")
    run_log.text(tabulate(rerun).to_csv(index=False), "tables/rerun.csv")
    run_log.figure(plot(rerun), "figures/rerun.png")
    # Last, because its presence means that everything is logged.
    run_log.tags({"tunetrail.rerun": str(rerun.agreement.verdict)})
