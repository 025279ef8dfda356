"""Hosts on one study: real processes with names of their own, a real PostgreSQL, real kills."""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from servers import Database
from sqlalchemy import NullPool, create_engine, inspect, text

from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._steering import enqueue_point, stop_study
from hydra_plugins.optuna_study._study import heartbeat
from hydra_plugins.optuna_study._study.storage import close_storage, open_storage

from .conftest import APP
from .test_processes import finish, wait_for, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def database():
    """A server on loopback without any table."""
    if Database.folder_of_programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with Database() as database:
        yield database


@pytest.fixture
def start(tmp_path):
    """Start a sweep in the clone of a host; none outlives the test."""
    processes = []

    def run(host, storage, *overrides, clone=None):
        folder = tmp_path / (clone or host)
        folder.mkdir(exist_ok=True)
        sweep = [sys.executable, str(APP), "-m", f"hydra.sweeper.storage='{storage}'", *overrides]
        if can_rename():
            sweep = ["unshare", "-u", "sh", "-c", f'hostname {host}; exec "$@"', "sh", *sweep]
        process = subprocess.Popen(
            sweep, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def can_rename():
    """Whether a process may have a host name of its own."""
    unshare = shutil.which("unshare")
    return unshare and subprocess.run([unshare, "-u", "true"], check=False).returncode == 0


def list_trials(storage, study):
    opened = optuna.storages.RDBStorage(storage)
    try:
        return optuna.load_study(study_name=study, storage=opened).trials
    finally:
        opened.engine.dispose()


def count_complete(storage, study):
    try:
        return sum(trial.state.name == "COMPLETE" for trial in list_trials(storage, study))
    except KeyError:
        return 0


def require_whole(storage, num_trials, study="toy"):
    """Require the exact total, no point twice, and each interrupted point run again."""
    trials = list_trials(storage, study)
    assert Counter(t.state.name for t in trials if t.state.name != "FAIL") == {
        "COMPLETE": num_trials
    }
    complete = [t for t in trials if t.state.name == "COMPLETE"]
    assert len({tuple(t.params.items()) for t in complete}) == num_trials
    failed = [t for t in trials if t.state.name == "FAIL"]
    assert {t.user_attrs["failure"] for t in failed} <= {"interrupted"}
    again = {t.user_attrs.get("retry_of") for t in trials}
    # What is no whole point yet is drawn again, and not queued.
    assert {t.number for t in failed if "overrides" in t.user_attrs} <= again
    return trials


@pytest.mark.parametrize("server", ["postgresql", "sqlite"])
def test_two_clones_on_hosts_of_one_name_start_a_study_together(request, start, tmp_path, server):
    storage = f"sqlite:///{tmp_path}/study.db"
    if server == "postgresql":
        storage = request.getfixturevalue("database").create()
    hosts = [start("same", storage, "num_trials=16", clone=clone) for clone in ("one", "two")]
    outputs = [finish(host) for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], outputs
    trials = require_whole(storage, 16)
    assert len(trials) == 16
    assert len({trial.user_attrs["worker"]["pid"] for trial in trials}) == 2


def test_no_trial_is_lost_whichever_host_is_killed_whenever(database, start):
    storage = database.create()
    command = (storage, "num_trials=24", "behaviour=slow", "hydra.sweeper.grace_period=1.5")
    hosts = {name: start(name, *command) for name in ("one", "two")}
    moments = random.Random(5)
    for _ in range(4):
        time.sleep(moments.uniform(1.5, 3.5))
        name = moments.choice(list(hosts))
        hosts[name].kill()
        hosts[name] = start(name, *command)
    outputs = [finish(host) for host in hosts.values()]
    assert [host.returncode for host in hosts.values()] == [0, 0], outputs
    require_whole(storage, 24)


def test_who_does_not_know_a_long_grace_period_sees_that_a_trial_runs(
    database, tmp_path, monkeypatch
):
    usual = 0.6
    monkeypatch.setattr(heartbeat, "GRACE_PERIOD", usual)
    storage = database.create()
    opened = open_storage(storage)
    study = optuna.create_study(study_name="s", storage=opened)
    trial = study.ask()
    running = study.get_trials(deepcopy=False)
    sweep = heartbeat.build_worker(storage, "s", tmp_path / "sweep", grace_period=3600)
    other = heartbeat.build_worker(storage, "s", tmp_path / "other", grace_period=usual)
    with sweep, other:
        sweep.holds.add(trial._trial_id)
        for _ in range(4):
            assert other.find_left(running) == []
            time.sleep(usual)
        sweep.holds.clear()
        time.sleep(2 * usual)
        assert other.find_left(running) == running
    close_storage(opened)


def test_a_host_that_was_away_for_too_long_finds_its_trial_closed(database, start, tmp_path):
    storage = database.create()
    command = (storage, "num_trials=3", "hydra.sweeper.grace_period=1")
    away = start("one", *command, "behaviour=crawl")
    wait_for(tmp_path / "one/sweeps/toy/trial-0")
    away.send_signal(signal.SIGSTOP)
    finish(start("two", *command))
    away.send_signal(signal.SIGCONT)
    output = finish(away)
    assert away.returncode == 0, output
    assert "trial 0 was closed by another process" in output
    assert "Traceback" not in output
    trials = require_whole(storage, 3)
    assert [trial.state.name for trial in trials] == ["FAIL"] + ["COMPLETE"] * 3


def test_no_point_is_drawn_twice_when_the_database_takes_the_turn_away_meanwhile(database, start):
    storage = database.create()
    command = (storage, "num_trials=8", "behaviour=slow")
    command += ("hydra.sweeper.custom_search_space=turns.lose_turn",)
    hosts = [start(name, *command) for name in ("one", "two")]
    outputs = [finish(host) for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], outputs
    trials = require_whole(storage, 8)
    assert [trial.number for trial in trials if trial.state.name == "FAIL"] == [3]


def test_a_restart_of_the_database_and_a_killed_host_lose_no_trial_and_no_final(
    database, start, tmp_path
):
    storage = database.create()
    command = (storage, "num_trials=20", "behaviour=slow", "hydra.sweeper.grace_period=2")
    command += ("hydra.sweeper.finalists=3", "hydra.sweeper.final_seeds=3")
    hosts = [start(name, *command) for name in ("one", "two")]
    # One that starts while the database is away ends with a line that says so.
    for name in ("one", "two"):
        wait_until(lambda name=name: [*tmp_path.glob(f"{name}/sweeps/toy/trial-*")], "no trial")
    database.stop()
    database.start()
    wait_until(lambda: count_complete(storage, "toy-finals-3") > 0, "no finals")
    hosts[0].kill()
    hosts[0] = start("one", *command)
    outputs = [finish(host) for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], outputs
    assert not any("Traceback" in output for output in outputs)
    require_whole(storage, 20)
    finals = require_whole(storage, 3, "toy-finals-3")
    complete = [trial for trial in finals if trial.state.name == "COMPLETE"]
    assert len({trial.user_attrs["finalist_of"] for trial in complete}) == 3
    assert {len(trial.user_attrs["repeats"]) for trial in complete} == {3}
    for trial in complete:
        assert trial.value == pytest.approx(abs(trial.params["x"]) + trial.params["n"])


@pytest.mark.parametrize(
    ("statement", "is_refused"),
    [
        ("CREATE TABLE c (id INT)", False),
        ("CREATE TABLE alembic_version (version_num TEXT)", True),
        ("CREATE TABLE trials (drug TEXT)", True),
    ],
)
def test_a_database_in_which_another_program_has_tables_of_the_same_names_is_refused(
    database, statement, is_refused
):
    url = database.create()
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(statement))
    before = inspect(engine).get_table_names()
    if not is_refused:
        open_storage(url)._backend.engine.dispose()
        return
    with pytest.raises(SweepError) as caught:
        open_storage(url)
    assert inspect(engine).get_table_names() == before
    assert f"(its tables: {before[0]}); give another database" in str(caught.value)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_the_job_that_submitit_has_launched(launch, workspace, number):
    process = launch("-m", "hydra/launcher=submitit_local", "behaviour=hang", "num_trials=4")
    wait_for(workspace / "hanging-2")
    # submitit names the files of a job by the process that controls it.
    jobs = {file.stem.split("_")[0] for file in workspace.glob("sweeps/toy/.submitit/*/*_log.out")}
    assert any(Path("/proc", job).exists() for job in jobs)
    process.send_signal(number)
    output = finish(process)
    assert process.returncode == 130, output
    assert "interrupted; to continue: python" in output
    assert not any(Path("/proc", job).exists() for job in jobs)


def test_a_study_is_steered_from_outside_of_its_hosts(database, start):
    storage = database.create()
    command = (storage, "num_trials=40", "behaviour=crawl", "hydra.sweeper.grace_period=2")
    hosts = [start(name, *command) for name in ("one", "two")]
    wait_until(lambda: count_complete(storage, "toy") >= 2, "no trial ends")
    queued = enqueue_point(storage, "toy", ["x=0.125"])
    assert queued.is_running
    wait_until(lambda: count_complete(storage, "toy") > queued.number, "it is not run")
    assert stop_study(storage, "toy", now=True) >= 1
    outputs = [finish(host) for host in hosts]
    assert [host.returncode for host in hosts] == [130, 130], outputs
    trials = list_trials(storage, "toy")
    assert trials[queued.number].params["x"] == 0.125
    assert len(trials) < 20
    assert not any(trial.state.name == "RUNNING" for trial in trials)
    with pytest.raises(SweepError, match="not running"):
        stop_study(storage, "toy", now=True)
