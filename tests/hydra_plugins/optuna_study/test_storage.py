"""A database that does not answer for a while is asked again."""

import sqlite3
import sys
import threading

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
