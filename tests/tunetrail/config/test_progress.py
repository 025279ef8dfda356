"""How far a job is: a file of one line, and never a reason to fail."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunetrail.config.progress import report_progress, write_progress_to


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "trial-0.json"
    write_progress_to(str(path))
    yield path
    write_progress_to(None)


def test_what_is_said_last_stands_there_with_the_steps_that_were_done(file: Path) -> None:
    assert json.loads(file.read_text()) == {"said": "begins", "share": 0.0}
    report_progress("trains, step", 3, 8)
    assert json.loads(file.read_text()) == {"said": "trains, step 3 of 8", "share": 0.375}
    # Half a second has not passed.
    report_progress("trains, step", 4, 8)
    assert json.loads(file.read_text())["share"] == 0.375
    report_progress("logs the model")
    assert json.loads(file.read_text()) == {"said": "logs the model", "share": 0.375}
    assert [path.name for path in file.parent.iterdir()] == ["trial-0.json"]


def test_a_folder_that_is_gone_and_a_run_of_its_own_are_no_fault(tmp_path: Path) -> None:
    write_progress_to(str(tmp_path / "gone" / "trial-0.json"))
    report_progress("loads rows")
    write_progress_to(None)
    report_progress("loads rows")
    assert list(tmp_path.iterdir()) == []
