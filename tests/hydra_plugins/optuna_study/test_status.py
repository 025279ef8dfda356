"""What a person sees while trials run: live lines on a terminal, a line at times elsewhere."""

import io
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from datetime import datetime, timedelta
from types import SimpleNamespace

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study._console import screen
from hydra_plugins.optuna_study._console.screen import shorten
from hydra_plugins.optuna_study._console.status import Around, Status

from .conftest import APP

SWEEP = ["-m", "behaviour=crawl", "num_reports=1", "num_trials=3", "hydra.sweeper.num_workers=2"]
LINE = re.compile(r"\[[#-]{16}\] \d+ of \d+ (trials|finals)")


def on_terminal(workspace, arguments, *, interrupt_at=None):
    """Run a sweep at a terminal; returns what it has written, what stays, and its exit code."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 100))
    process = subprocess.Popen(
        [sys.executable, str(APP), *arguments],
        cwd=workspace,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            seen += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if interrupt_at is not None and interrupt_at in seen:
            os.killpg(process.pid, signal.SIGINT)
            interrupt_at = None
    code = process.wait(timeout=10)
    return seen.decode(), draw(seen.decode()), code


def draw(text):
    """What a terminal shows in the end: it moves up, erases lines, and writes."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[2K|\x1b\[1?A|\r|\n|[^\x1b\r\n]+", text):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part.endswith("A"):
            row -= 1
        elif part != "\r":
            lines[row] += part
    return lines


@pytest.mark.slow
def test_live_lines_show_the_study_and_each_running_trial_and_leave_nothing(workspace):
    seen, shown, code = on_terminal(workspace, [*SWEEP, "hydra.sweeper.final_seeds=1"])
    assert code == 0
    assert "0 of 3 trials, then 2 finals" in seen
    assert re.search(r"trial 0 \| runs \| .* s \| x=", seen)
    assert re.search(r"trial 1 \| runs \| .* s \| x=", seen)
    assert re.search(r"finals \| .*left", seen)
    assert sum(line.startswith("trial") and "| complete |" in line for line in shown) == 3
    assert not any(LINE.search(line) or "runs" in line for line in shown)


@pytest.mark.slow
def test_ctrl_c_leaves_the_terminal_clean(workspace):
    _, shown, code = on_terminal(workspace, SWEEP, interrupt_at=b"trial 1 | runs")
    assert code == 130
    assert any(line.startswith("interrupted; to continue:") for line in shown)
    assert not any(LINE.search(line) for line in shown)


@pytest.mark.slow
def test_a_pipe_gets_whole_lines_and_few(launch):
    said, _ = launch(*SWEEP).communicate(timeout=60)
    assert "\x1b" not in said
    assert "\r" not in said
    assert sum(bool(LINE.search(line)) for line in said.splitlines()) <= 1


def test_in_a_file_it_is_a_line_at_times_and_only_where_something_has_changed(monkeypatch):
    monkeypatch.setattr(screen, "REFRESH_SECONDS", 0.01)
    monkeypatch.setattr(screen, "PLAIN_SECONDS", 0.0)
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    shown = screen.Screen(OmegaConf.create(), lambda text: text)
    with shown.shown(), shown.describing(lambda: ["a", "b"]):
        time.sleep(0.3)
    assert out.getvalue() == "a; b\n"


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (34, "2 of 9 | about 14 min left | 1.5 s"),
        (33, "2 of 9 | about 14 min left"),
        (26, "2 of 9 | about 14 min left"),
        (25, "2 of 9"),
        (6, "2 of 9"),
        (5, "2 of…"),
    ],
)
def test_a_narrow_terminal_gets_whole_parts_of_a_line(width, shown):
    assert shorten("2 of 9 | about 14 min left | 1.5 s", width) == shown


def add_trial(study, state, seconds=0, **attrs):
    """Add a trial that took so many seconds, if it has ended."""
    start, ended = datetime(2026, 1, 1), state.is_finished()  # noqa: DTZ001 - Optuna writes local time
    value = 0.5 if state is TrialState.COMPLETE else None
    study.add_trial(
        FrozenTrial(
            number=-1, trial_id=-1, state=state, value=value, params={}, distributions={},
            datetime_start=start, user_attrs=attrs, system_attrs={}, intermediate_values={},
            datetime_complete=start + timedelta(seconds=seconds) if ended else None,
        )
    )  # fmt: skip


def status_of(study, folder, *, num_trials, num_seeds=1, num_workers=1, around=None):
    settings = SimpleNamespace(num_trials=num_trials, num_seeds=num_seeds)
    return Status(
        study, {}, settings, folder=folder, around=around or Around(), num_workers=num_workers
    )


def test_time_left_counts_the_trainings_of_finals_which_are_not_pruned(tmp_path):
    study = optuna.create_study()
    around = Around(trials_after=3, jobs_after=4)
    assert status_of(study, tmp_path, num_trials=5).progress() == "0 of 5"
    add_trial(study, TrialState.COMPLETE, 10)
    add_trial(study, TrialState.COMPLETE, 10)
    add_trial(study, TrialState.PRUNED, 4)
    status = status_of(study, tmp_path, num_trials=5, around=around)
    # Two trials of 8 s, and four trainings of 10 s.
    assert status.progress() == "3 of 5, then 3 finals, about 56.0 s left"
    assert "] 3 of 5 trials, then 3 finals | about 56.0 s left | " in status.lines()[0]
    two = status_of(study, tmp_path, num_trials=5, around=around, num_workers=2)
    assert two.progress() == "3 of 5, then 3 finals, about 28.0 s left"
    # The last trial has one worker, whatever the others do.
    last = status_of(study, tmp_path, num_trials=4, num_workers=2)
    assert last.progress() == "3 of 4, about 8.0 s left"
    assert status_of(study, tmp_path, num_trials=3).progress() == "3 of 3"


def test_time_left_of_finals_leaves_out_what_the_search_has_trained(tmp_path):
    finals = optuna.create_study()
    finals.set_user_attr("final_of", "s")
    add_trial(finals, TrialState.COMPLETE, 20)
    for _ in range(2):
        add_trial(finals, TrialState.WAITING, carried=[[0.5]])
    status = status_of(finals, tmp_path, num_trials=3, num_seeds=2, around=Around(jobs_before=4))
    assert status.progress() == "1 of 3, about 20.0 s left"
    # Four trainings of the search and two of eight.
    assert status.lines()[0].startswith("[############----] 1 of 3 finals | about 20.0 s left | ")
