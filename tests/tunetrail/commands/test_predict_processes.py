"""``tunetrail predict`` as a process: pipes, a full disk, an interruption, and its memory."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import warm
from toys import Store
from warm import Warm

TUNETRAIL = [sys.executable, "-m", "tunetrail"]


@pytest.mark.slow
def test_a_closed_pipe_ends_it_quietly(here: Store) -> None:
    Path("in.txt").write_text("good day\n" * 20_000)
    with Warm(
        [*TUNETRAIL, "predict", here.exported, "--input", "in.txt"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"text\tprediction")
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


@pytest.mark.slow
def test_answers_that_find_no_space_end_in_one_line(here: Store) -> None:
    with Path("/dev/full").open("w") as full:
        done = warm.run(
            [*TUNETRAIL, "predict", here.exported, "good day"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.stderr == "error: stdout cannot be written: No space left on device\n"
    assert done.returncode == 1


@pytest.mark.slow
def test_an_interruption_leaves_the_old_file(here: Store) -> None:
    Path("in.txt").write_text("good day\n" * 300_000)
    Path("out.tsv").write_text("as it was")
    with Warm(
        [*TUNETRAIL, "predict", here.exported, "--input", "in.txt", "--output", "out.tsv"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        until = time.monotonic() + 60
        # Beside the file, in a folder of its own.
        while len(list(Path().rglob("out.tsv"))) == 1 and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.read().splitlines()[-1] == "interrupted; out.tsv is as it was"
        assert process.wait(timeout=60) == 130
    assert Path("out.tsv").read_text() == "as it was"
    assert list(Path().rglob("out.tsv")) == [Path("out.tsv")]


_MEASURED = """
import sys
from tunetrail.__main__ import main
assert main(sys.argv[1:]) == 0
# Not ru_maxrss, which begins with what the process that started this one had held.
status = open("/proc/self/status").read()
print(status.partition("VmHWM:")[2].split()[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_memory_does_not_grow_with_the_file(here: Store, kind: str) -> None:
    """Peak memory (600 MB of libraries) grows by less than the file."""
    peaks, sizes = [], []
    for num_rows in (10_000, 100_000):
        source = write_large(kind, num_rows)
        options = ["--input", str(source), "--output", f"out.{kind}"]
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED, "predict", str(here.exported), *options],
            capture_output=True,
            text=True,
            timeout=600,
            check=True,
        )
        peaks.append(int(done.stdout) / 1024)
        sizes.append(source.stat().st_size / 1024**2)
    assert sizes[1] > 150
    assert peaks[1] - peaks[0] < 60


def write_large(kind: str, num_rows: int) -> Path:
    """Write short texts beside notes of 1,600 characters: much to hold, little to classify."""
    path = Path(f"in-{num_rows}.{kind}")
    rows = ((f"good day {number}", os.urandom(800).hex()) for number in range(num_rows))
    if kind == "parquet":
        # One row group: the largest piece that a reader could be tempted to hold.
        texts, notes = zip(*rows, strict=True)
        table = pa.table({"text": texts, "notes": notes})
        pq.write_table(table, path, row_group_size=num_rows)
        return path
    with path.open("w") as file:
        if kind == "csv":
            file.write("text,notes\n")
        line = "{},{}\n" if kind == "csv" else '{{"text": "{}", "notes": "{}"}}\n'
        file.writelines(line.format(*row) for row in rows)
    return path
