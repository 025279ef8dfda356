"""What a person at a terminal sees while trials run."""

import os
import pty
import subprocess
import sys
import termios
import time

import pytest

from .conftest import APP


@pytest.mark.slow
def test_each_running_trial_has_a_line_that_makes_room_for_the_log(workspace):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 100))
    process = subprocess.Popen(
        [sys.executable, str(APP), "-m", "behaviour=crawl", "num_reports=1", "num_trials=3",
         "hydra.sweeper.num_workers=2"],
        cwd=workspace,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            seen += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    assert process.wait(timeout=10) == 0
    text = seen.decode()
    assert "trial 0 | runs | x=" in text
    assert "trial 1 | runs | x=" in text
    lines = [line.rpartition("\x1b[A")[2] for line in text.replace("\r", "\n").splitlines()]
    assert sum(line.startswith("trial") and "| complete |" in line for line in lines) == 3
    # Nothing is left of the moving lines below the summary.
    assert "runs" not in text[text.index("best trials:") :]
