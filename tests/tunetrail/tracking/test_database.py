"""A database is recognised before MLflow opens it; a kill leaves no store half made."""

import hashlib
import os
import re
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from stores import OLDER, RUN_ID, dump, execute, fill, make_older

from tunetrail.__main__ import main
from tunetrail.errors import InputError
from tunetrail.tracking import database
from tunetrail.tracking.store import connect

# What a database is made of, and statements that change it.
OPTUNA = "optuna"
EMPTY = "empty"
FIRST = "first"
SAMPLES: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "foreign": (None, ("CREATE TABLE c (id INT)", "INSERT INTO c VALUES (1)")),
    "similar": (None, ("CREATE TABLE tags (id INTEGER)", "CREATE TABLE pages (id INTEGER)")),
    "of alembic": (
        None,
        (
            "CREATE TABLE alembic_version (version_num TEXT)",
            "INSERT INTO alembic_version VALUES ('abc')",
            "CREATE TABLE experiments (id INTEGER)",
        ),
    ),
    "of optuna": (OPTUNA, ()),
    "newer": (EMPTY, ("UPDATE alembic_version SET version_num = 'fffffffffff0'",)),
    "damaged": (EMPTY, ("DROP TABLE spans",)),
    "half made": (OLDER, ()),
    "half made, first tables": (FIRST, ()),
    "half made, one table": (None, ("CREATE TABLE experiments (experiment_id INTEGER)",)),
    "half made, in a migration": (
        OLDER, ("CREATE TABLE _alembic_tmp_runs (a INTEGER)", "DROP TABLE runs")
    ),
}  # fmt: skip


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    make_older(folder / OLDER, OLDER)
    make_older(folder / FIRST, None)
    return {
        OLDER: folder / OLDER,
        FIRST: folder / FIRST,
        EMPTY: empty_store,
        OPTUNA: empty_store.with_name("optuna.db"),
    }


FOREIGN = "a database of something else"
ANEW = "` makes them anew"
REFUSED = {
    "foreign": FOREIGN,
    "similar": FOREIGN,
    "of alembic": FOREIGN,
    "of optuna": FOREIGN,
    "newer": "newer MLflow (fffffffffff0); install that one",
    "damaged": "tables of MLflow are missing (spans)",
    **dict.fromkeys((name for name in SAMPLES if name.startswith("half made")), ANEW),
}


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def require_refused(uri: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command that reads says in one line what is wrong."""
    commands = (
        ["lineage", RUN_ID], ["compare", RUN_ID, RUN_ID], ["rerun", RUN_ID],
        ["predict", RUN_ID, "a text"], ["export", RUN_ID, "new"],
    )  # fmt: skip
    capsys.readouterr()
    for command in commands:
        assert main([*command, "--uri", uri]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(commands), said
    for line in said:
        assert f"--uri={uri}: " in line
        assert message in line


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_no_store_is_told_and_left_as_it_is(
    tmp_path: Path, bases: dict[str, Path], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = tmp_path / "some.db"
    base, statements = SAMPLES[name]
    if base is not None:
        shutil.copy(bases[base], path)
    execute(path, *statements)
    before = digest(tmp_path)
    require_refused(f"sqlite:///{path}", REFUSED[name], capsys)
    # nor does what writes take it
    with pytest.raises(InputError, match=re.escape(REFUSED[name])):
        connect(f"sqlite:///{path}")
    assert digest(tmp_path) == before


def test_a_file_without_tables_is_no_store_to_a_reader(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "some.db"
    path.touch()
    require_refused(f"sqlite:///{path}", "it holds no run yet", capsys)
    path.write_text("no database at all " * 100)
    require_refused(f"sqlite:///{path}", "file is not a database", capsys)
    path.unlink()
    assert main(["lineage", RUN_ID, "--uri", f"sqlite:///{path}"]) == 1
    assert "no store in" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_an_older_mlflow_is_read_by_none_and_upgraded_by_who_writes(
    tmp_path: Path, bases: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "some.db"
    shutil.copy(bases[OLDER], path)
    fill(path)
    before = dump(path)
    require_refused(
        f"sqlite:///{path}", f"older MLflow ({OLDER}); `tunetrail repair --uri sqlite:///", capsys
    )
    assert dump(path) == before
    # Somebody has it open meanwhile, and goes on with the same file.
    with closing(sqlite3.connect(path)) as other:
        client = connect(f"sqlite:///{path}")
        other.execute("UPDATE runs SET name = 'by other'")
        other.commit()
    assert client.get_run(RUN_ID).info.experiment_id == "7"
    assert dump(path.with_name(f"some.db.{OLDER}")) == before
    assert sqlite3.connect(path).execute("SELECT name FROM runs").fetchall() == [("by other",)]
    assert {file.name for file in tmp_path.iterdir()} == {
        "some.db", f"some.db.{OLDER}", ".some.db.lock"
    }  # fmt: skip


def test_an_upgrade_that_fails_changes_nothing(tmp_path: Path, bases: dict[str, Path]) -> None:
    """As after one that was killed in the middle: what the next step makes is there already."""
    path = tmp_path / "some.db"
    shutil.copy(bases[OLDER], path)
    fill(path)
    execute(path, "CREATE TABLE webhooks (a INTEGER)", "CREATE TABLE logged_models (a INTEGER)")
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"cannot be upgraded from .*already exists.*put a copy"):
        connect(f"sqlite:///{path}")
    assert path.read_bytes() == before


def kill_after(seconds: float, path: Path) -> None:
    """Kill a process that makes or upgrades a store."""
    pid = os.fork()
    if not pid:
        try:
            connect(f"sqlite:///{path}")
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.slow
@pytest.mark.parametrize("is_older", [False, True], ids=["made", "upgraded"])
def test_a_kill_at_any_moment_leaves_the_old_store_or_the_new_one(
    tmp_path: Path, bases: dict[str, Path], is_older: bool
) -> None:
    begun = time.monotonic()
    connect(f"sqlite:///{tmp_path}/whole.db")
    duration = 2 * (time.monotonic() - begun)
    states = set()
    for number in range(9):
        path = tmp_path / f"{number}.db"
        if is_older:
            shutil.copy(bases[OLDER], path)
            fill(path)
        kill_after(duration * number / 8, path)
        found = database.find_state(path).state
        states.add(found)
        with closing(sqlite3.connect(path)) as store:
            assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        client = connect(f"sqlite:///{path}")
        if is_older:
            assert client.get_run(RUN_ID).info.run_name == "kept"
        assert client.search_experiments()
        left = {file.name for file in tmp_path.glob(f"*{number}.db*")}
        assert left <= {f"{number}.db", f".{number}.db.lock", f"{number}.db.{OLDER}"}
    before = database.State.OLD if is_older else database.State.ABSENT
    assert states == {before, database.State.READY}


@pytest.mark.slow
def test_repair_makes_anew_what_holds_nothing_and_upgrades_what_holds_runs(
    tmp_path: Path,
    bases: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    said = {}
    for name, base in (("half", FIRST), ("older", OLDER), ("ready", EMPTY), ("optuna", OPTUNA)):
        shutil.copy(bases[base], f"{name}.db")
        if name == "older":
            fill(Path("older.db"))
        said[name] = main(["repair", "--uri", f"sqlite:///{name}.db"]), capsys.readouterr()
    assert said["half"][1].out.startswith("tables     the tables were made anew")
    assert said["older"][1].out.startswith(
        f"tables     the tables were brought up to date from {OLDER}"
    )
    assert said["ready"][1].out == "the store is in order\n"
    assert FOREIGN in said["optuna"][1].err
    assert [code for code, _ in said.values()] == [0, 0, 0, 1]
    assert dump(Path("half.db.half-made")) == dump(bases[FIRST])
    assert connect("sqlite:///older.db").get_run(RUN_ID).info.run_name == "kept"
    for name in ("half", "older", "ready"):
        assert database.find_state(Path(f"{name}.db")).state is database.State.READY
    assert main(["repair", "--uri", "sqlite:///none.db"]) == 1
    assert "no store in" in capsys.readouterr().err
    assert not Path("none.db").exists()
