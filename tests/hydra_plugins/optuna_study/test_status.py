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

import pytest
from omegaconf import OmegaConf

from hydra_plugins.optuna_study._console import screen

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
    assert "0 of 3 trials, then 2 in finals" in seen
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
