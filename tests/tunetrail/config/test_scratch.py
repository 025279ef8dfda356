"""Temporary folders: deleted at the end, or by the next process where the end was a kill."""

import os
import signal
import time
from pathlib import Path

from tunetrail.config.scratch import PREFIX, clear, scratch


def make_in_fork(parent: Path) -> tuple[int, Path]:
    """A process that works in a folder, and that folder."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        with scratch(parent) as folder:
            (folder / "weights").write_text("much")
            os.write(writing, str(folder).encode())
            time.sleep(60)
        os._exit(0)
    return pid, Path(os.read(reading, 1000).decode())


def test_what_a_killed_process_left_is_deleted_and_what_a_live_one_has_is_not(
    tmp_path: Path,
) -> None:
    with scratch(tmp_path) as own:
        killed, left = make_in_fork(tmp_path)
        alive, used = make_in_fork(tmp_path)
        os.kill(killed, signal.SIGKILL)
        os.waitpid(killed, 0)
        assert (left / "weights").is_file()
        assert clear(tmp_path) == [left]
        assert own.is_dir()
        assert (used / "weights").is_file()
        os.kill(alive, signal.SIGKILL)
        os.waitpid(alive, 0)
    assert not own.exists()
    pid = os.fork()
    if not pid:  # the next process clears by itself
        clear.__globals__["_clear_once"].cache_clear()
        with scratch(tmp_path):
            os._exit(0)
    os.waitpid(pid, 0)
    assert not used.exists()


def test_what_only_looks_like_one_stays(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (outside / ".tunetrail-lock").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(outside)
    for name, lock in (("file", None), ("folder", None), ("linked", "link"), ("pipe", "pipe")):
        path = tmp_path / f"{PREFIX}{name}"
        if name == "file":
            path.touch()
            continue
        path.mkdir()
        (path / "precious").touch()
        if lock == "link":
            (path / ".tunetrail-lock").symlink_to(outside / "precious")
        if lock == "pipe":
            os.mkfifo(path / ".tunetrail-lock")
    (tmp_path / "tunetrail-clone").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert clear(tmp_path) == []
    assert sorted(tmp_path.rglob("*")) == before
