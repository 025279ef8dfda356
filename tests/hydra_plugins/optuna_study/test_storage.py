"""What a storage may be, and that one that does not answer for a while is asked again."""

import shutil
import sqlite3
import sys
import threading
from contextlib import closing

import optuna
import pytest

from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._study import storage

URL = "sqlite:///store/optuna.db"


@pytest.fixture
def impatient(monkeypatch):
    """SQLite's own patience is a minute."""
    monkeypatch.setattr(storage, "SQLITE_TIMEOUT", 0.05)
    monkeypatch.setattr(storage, "OUTAGE_DELAYS", (0.1, 0.2, 0.4, 0.8))


@pytest.fixture
def blocker(workspace):
    """Another program that keeps the whole database to itself."""
    connection = sqlite3.connect(workspace / "store" / "optuna.db", check_same_thread=False)
    connection.isolation_level = None
    yield connection
    connection.close()


def test_a_call_waits_for_the_database(impatient, blocker, caplog):
    study = optuna.create_study(storage=storage.open_storage(URL))
    blocker.execute("BEGIN EXCLUSIVE")
    threading.Timer(0.7, blocker.rollback).start()
    study.set_user_attr("written", 1.0)
    assert study.user_attrs["written"] == 1.0
    assert "the storage fails (OperationalError: (sqlite3.OperationalError) database is" in (
        caplog.text
    )


def test_in_the_end_it_is_one_line_with_the_remedy(impatient, blocker):
    study = optuna.create_study(storage=storage.open_storage(URL))
    blocker.execute("BEGIN EXCLUSIVE")
    with pytest.raises(SweepError) as caught, storage.outages(URL, remedy="try later"):
        study.set_user_attr("written", 1.0)
    assert "database is locked" in str(caught.value)
    assert str(caught.value).endswith("; try later")
    assert "\n" not in str(caught.value)


def test_an_error_that_will_not_go_away_is_not_retried(impatient, workspace, caplog):
    study = optuna.create_study(storage=storage.open_storage(URL))
    with pytest.raises(KeyError):
        study._storage.get_trial(10_000)
    assert "again in" not in caplog.text


def test_a_server_that_does_not_answer_at_the_start_is_told_at_once():
    with pytest.raises(SweepError, match=r"Connection refused\); start its server, or"):
        storage.open_storage("postgresql+psycopg://nobody@127.0.0.1:1/none")


# Statements that make the file of a stranger, and the tables that are named of it.
FOREIGN = {
    "a table": (["CREATE TABLE c (id INT)"], "c"),
    "names as Optuna's": (
        ["CREATE TABLE trials (drug TEXT)", "CREATE TABLE studies (study_id INT)"],
        "studies, trials",
    ),
    "versions of its own": (
        ["CREATE TABLE version_info (version TEXT)", "CREATE TABLE c (id INT)"],
        "c, version_info",
    ),
    "alembic": (
        [
            "CREATE TABLE alembic_version (version_num TEXT)",
            "CREATE TABLE d (id INT)",
            "CREATE TABLE e (id INT)",
            "CREATE TABLE f (id INT)",
        ],
        "alembic_version, d, e, …",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path, name):
    path = tmp_path / "foreign.db"
    statements, tables = FOREIGN[name]
    execute(path, *statements)
    before = path.read_bytes()
    with pytest.raises(SweepError) as caught:
        storage.open_storage(f"sqlite:///{path}")
    assert str(caught.value) == (
        f"hydra.sweeper.storage=sqlite:///{path} belongs to something else (its tables: {tables}); "
        "give sqlite:///FILE of a new file"
    )
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["foreign.db"]


def test_a_kill_while_the_tables_were_made_or_tables_beside_them_are_no_fault(
    tmp_path, empty_database
):
    columns = "study_id INTEGER NOT NULL PRIMARY KEY, study_name VARCHAR(512) NOT NULL"
    execute(tmp_path / "killed.db", f"CREATE TABLE studies ({columns})")
    shutil.copy(empty_database, tmp_path / "beside.db")
    execute(tmp_path / "beside.db", "CREATE TABLE c (id INT)")
    (tmp_path / "empty.db").touch()
    for name in ("killed", "beside", "empty"):
        optuna.create_study(storage=storage.open_storage(f"sqlite:///{tmp_path}/{name}.db"))


def execute(path, *statements):
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize(
    ("url", "package"),
    [
        ("mysql://h/db", "mysqlclient"),
        ("oracle://h/db", "oracledb"),
        ("mysql+pymysql://h/db", "pymysql"),
        ("postgresql://h/db", "psycopg[binary]"),
        ("postgresql+psycopg://h/db", "psycopg[binary]"),
        ("postgresql+psycopg2://h/db", "psycopg2-binary"),
    ],
)
def test_a_driver_that_is_not_installed_is_named(url, package, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if it were not
    with pytest.raises(SweepError) as caught:
        storage.open_storage(url)
    assert str(caught.value).startswith(f"hydra.sweeper.storage={url} cannot be opened (")
    assert str(caught.value).endswith(f"pip install '{package}'")
