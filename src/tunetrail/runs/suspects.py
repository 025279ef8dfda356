"""The labels of a recorded run that are probably wrong."""

import io
from dataclasses import dataclass

import pandas as pd

from tunetrail.config.secrets import redact
from tunetrail.data.quality.suspects import COLUMNS, write_suspects
from tunetrail.errors import InputError
from tunetrail.runs.records import find_run
from tunetrail.tracking.artifacts import Artifacts
from tunetrail.tracking.run_log import SUSPECTS
from tunetrail.tracking.store import connect_existing, store_errors


@dataclass(frozen=True)
class SuspectTable:
    """A CSV with an empty column for what the annotator decides."""

    text: str
    num_rows: int


def read_suspects(run_id: str, *, uri: str) -> SuspectTable:
    """Read the suspects of a run.

    Args:
        run_id: its id, or the first 8 digits or more.
        uri: of the store.

    Raises:
        InputError: there is no such run, it has no suspects, or their table cannot be read.

    """
    client = connect_existing(uri)
    with store_errors(uri):
        run = find_run(client, run_id, uri=uri)
        found = Artifacts(client, run).text(SUSPECTS)
    if found is None:
        raise InputError(
            f"run {run_id} has no {SUSPECTS} in {redact(uri)}: it ran with checks.labels=off, "
            "ended before that check, or is older"
        )
    try:
        # Texts stay as they are: NA is a word.
        frame = pd.read_csv(io.StringIO(found), dtype=str, keep_default_na=False)
        frame = frame[list(COLUMNS)]
    except (ValueError, KeyError) as error:
        raise InputError(f"run {run_id}: its {SUSPECTS} is no table of suspects") from error
    # Others may write to a store: cells are made harmless again.
    return SuspectTable(write_suspects(frame.assign(corrected_label="")), len(frame))
