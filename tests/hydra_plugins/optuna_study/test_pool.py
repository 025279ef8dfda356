"""Long-lived workers, real ones: warm, each with its share, replaced when they die."""

import contextlib
import functools
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import types
import uuid
from pathlib import Path
from typing import ClassVar

import pytest
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from optuna.trial import TrialState

from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._jobs.devices import count_workers, num_cores, worker_environment
from hydra_plugins.optuna_study._jobs.interruption import Interruption
from hydra_plugins.optuna_study._jobs.pool import LauncherPool
from hydra_plugins.optuna_study._jobs.worker_process import name_task

from .conftest import APP
from .test_processes import finish, states, wait_for

TWO = "hydra.sweeper.num_workers=2"
KEYS = {"num_workers": "workers", "workers_per_gpu": "per_gpu"}


def console(workspace, number):
    return (workspace / "sweeps" / "toy" / f"trial-{number}" / "console.log").read_text()


def wait_for_hanging(load_study, num_trials):
    """Wait until so many trials hang, in the middle of their jobs; returns them."""
    deadline = time.monotonic() + 60
    while True:
        running = []
        with contextlib.suppress(KeyError):  # there is no study yet
            running = [t for t in load_study().trials if t.state.name == "RUNNING"]
        hanging = [t for t in running if Path(f"hanging-{t.number}").exists()]
        if len(hanging) == len(running) == num_trials:
            return hanging
        assert time.monotonic() < deadline
        time.sleep(0.1)


def wait_for_end(load_study, number):
    """Wait until a trial has ended."""
    deadline = time.monotonic() + 60
    while not load_study().trials[number].state.is_finished():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_workers_stay_warm_and_leave_the_console_to_the_study(launch, workspace, load_study):
    output = finish(launch("-m", "behaviour='meet 2'", TWO, "num_trials=8"))
    study = load_study()
    assert states(study) == ["COMPLETE"] * 8
    said = [console(workspace, number) for number in range(8)]
    pids = {re.search(r"pid (\d+)", text).group(1) for text in said}
    assert len(pids) == 2
    assert {str(t.user_attrs["worker"]["pid"]) for t in study.trials} == pids
    # Eight jobs in two processes: their modules were loaded once.
    jobs = [int(re.search(r"jobs (\d+)", text).group(1)) for text in said]
    assert max(jobs) >= 4
    assert "pid" not in output
    assert len(re.findall(r"^trial \d+ \| complete", output, re.MULTILINE)) == 8
    # The job's own log is where it always is.
    log = (workspace / "sweeps" / "toy" / "trial-3" / "app.log").read_text()
    assert "job at x=" in log


@pytest.mark.slow
def test_each_worker_has_its_share(launch, workspace, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    process = launch("-m", "behaviour='meet 2'", "hydra.sweeper.num_workers=auto", "num_trials=6")
    output = finish(process)
    assert process.returncode == 0, output
    said = "".join(console(workspace, number) for number in range(6))
    assert set(re.findall(r"'CUDA_VISIBLE_DEVICES': '(.*?)'", said)) == {"4", "7"}
    assert set(re.findall(r"'OMP_NUM_THREADS': '(.*?)'", said)) == {str(max(1, num_cores() // 2))}


def test_the_number_of_workers_follows_the_machine(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert count_workers("auto", workers_per_gpu=1, keys=KEYS) == 2
    assert count_workers("auto", workers_per_gpu=3, keys=KEYS) == 6
    assert count_workers(4, workers_per_gpu=2, keys=KEYS) == 4
    with pytest.raises(SweepError, match=r"^workers=3: 2 GPUs with per_gpu=1 hold 2; raise"):
        count_workers(3, workers_per_gpu=1, keys=KEYS)
    devices = [
        worker_environment(index, num_workers=4, workers_per_gpu=2)["CUDA_VISIBLE_DEVICES"]
        for index in range(4)
    ]
    assert devices == ["0", "0", "1", "1"]
    # No GPU is to be seen: what the processor carries.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert count_workers("auto", workers_per_gpu=1, keys=KEYS) == max(1, num_cores() // 2)
    assert count_workers(3, workers_per_gpu=1, keys=KEYS) == 3
    assert "CUDA_VISIBLE_DEVICES" not in worker_environment(0, num_workers=2, workers_per_gpu=1)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert "OMP_NUM_THREADS" not in worker_environment(0, num_workers=2, workers_per_gpu=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("behaviour", "words"),
    [("die on 1", "its process was killed by SIGKILL"), ("exit on 1", "its process ended with")],
)
def test_a_worker_that_dies_is_replaced_and_its_trial_failed(launch, load_study, behaviour, words):
    process = launch("-m", f"behaviour={behaviour}", TWO, "num_trials=6")
    output = finish(process)
    assert process.returncode == 0, output
    study = load_study()
    assert states(study).count("COMPLETE") == 6
    assert states(study)[1] == "FAIL"
    assert study.trials[1].user_attrs["failure_kind"] == "worker died"
    assert words in study.trials[1].user_attrs["failure"]
    assert f"trial 1 | fail | worker died ({words}" in output


@pytest.mark.slow
def test_a_death_is_noticed_although_a_child_process_lives(launch, load_study):
    """A job's own processes, such as a data loader's, inherit pipes that would close at its end."""
    began = time.monotonic()
    process = launch("-m", "behaviour='fork and die on 1'", TWO, "num_trials=4")
    # Not finish: the child keeps this end of the console open, too.
    assert process.wait(timeout=60) == 0
    assert time.monotonic() - began < 25
    assert load_study().trials[1].user_attrs["failure_kind"] == "worker died"


@pytest.mark.slow
def test_jobs_that_end_together_are_all_reported_when_one_ends_the_sweep(launch, load_study):
    process = launch(
        "-m",
        "behaviour='end together'",
        "hydra.sweeper.num_workers=3",
        "hydra.sweeper.max_repeated_failures=1",
        "num_trials=9",
        "+hydra.sweeper.callbacks.slow={_target_: callbacks.Slow}",
    )
    output = finish(process)
    assert process.returncode == 1
    assert "1 trial in a row failed with ValueError: broken" in output
    assert states(load_study())[:3] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert "RUNNING" not in states(load_study())


@pytest.mark.slow
def test_a_point_that_cannot_be_composed_fails_alone(launch, load_study):
    process = launch("-m", "shape=round,nowhere", TWO, "num_trials=2",
                     "hydra.sweeper.max_repeated_failures=9",
                     "hydra.sweeper.max_failure_rate=1")  # fmt: skip
    output = finish(process)
    assert process.returncode == 0, output
    failed = [trial for trial in load_study().trials if trial.state.name == "FAIL"]
    assert failed
    assert {trial.params["shape"] for trial in failed} == {"nowhere"}
    assert "nowhere" in failed[0].user_attrs["failure"]


@pytest.mark.slow
def test_a_worker_killed_from_outside_is_replaced(launch, workspace, load_study):
    process = launch("-m", "behaviour=hang", TWO, "num_trials=5")
    killed, _ = wait_for_hanging(load_study, 2)
    os.kill(killed.user_attrs["worker"]["pid"], signal.SIGKILL)
    wait_for_end(load_study, killed.number)
    # Both places are taken again.
    running = wait_for_hanging(load_study, 2)
    assert load_study().trials[killed.number].user_attrs["failure_kind"] == "worker died"
    assert len({trial.user_attrs["worker"]["pid"] for trial in running}) == 2
    process.send_signal(signal.SIGINT)
    finish(process)
    assert process.returncode == 130
    assert "RUNNING" not in states(load_study())


@pytest.mark.slow
def test_a_job_that_exceeds_a_memory_limit_is_infeasible(launch, load_study):
    limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, limit[1]))
    try:
        process = launch("-m", "behaviour='eat memory on 1'", TWO, "num_trials=6")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
    output = finish(process)
    assert process.returncode == 0, output
    trial = load_study().trials[1]
    assert trial.user_attrs["failure"] == "MemoryError"
    assert trial.constraints == {"out_of_memory": 1.0}
    assert states(load_study()).count("COMPLETE") == 5
    assert "trial 1 | infeasible | out of memory (MemoryError)" in output


@pytest.fixture
def group():
    """A control group that holds 200 MiB."""
    folder = Path("/sys/fs/cgroup/memory") / f"tunetrail-{uuid.uuid4().hex[:8]}"
    limit = folder / "memory.limit_in_bytes"
    if not folder.parent.is_dir():
        folder = Path("/sys/fs/cgroup") / folder.name
        limit = folder / "memory.max"
    try:
        folder.mkdir()
        limit.write_text(str(200 << 20))
    except OSError as error:
        pytest.skip(f"control groups cannot be made here: {error}")
    yield folder
    folder.rmdir()


@pytest.mark.slow
def test_a_worker_that_the_kernel_kills_for_memory_is_infeasible(launch, load_study, group):
    behaviour = "behaviour='enter group and eat memory on 1'"
    process = launch("-m", behaviour, TWO, "num_trials=5", f"group={group}")
    output = finish(process)
    assert process.returncode == 0, output
    trial = load_study().trials[1]
    assert trial.user_attrs["failure"] == "the kernel killed the worker, out of memory"
    assert trial.state.name == "PRUNED"
    assert trial.constraints == {"out_of_memory": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_reaches_every_worker_within_seconds(launch, workspace, load_study, number):
    process = launch("-m", "behaviour=hang", TWO, "num_trials=5")
    pids = {t.user_attrs["worker"]["pid"] for t in wait_for_hanging(load_study, 2)}
    sent = time.monotonic()
    # Twice: some programs signal a process, and then its group.
    process.send_signal(number)
    process.send_signal(number)
    output = finish(process)
    assert time.monotonic() - sent < 9  # less than it takes to be killed
    assert process.returncode == 130
    assert "interrupted; to continue: python" in output
    assert "Traceback" not in output
    study = load_study()
    assert "RUNNING" not in states(study)
    interrupted = [t for t in study.trials if t.user_attrs.get("failure_kind") == "interrupted"]
    assert len(interrupted) == states(study).count("WAITING") == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert list((workspace / "store" / ".optuna.db.workers").glob("*-*-*.lock")) == []


@pytest.mark.slow
def test_a_second_stop_does_not_wait_for_jobs(launch, workspace, load_study):
    process = launch("-m", "behaviour='hang on'", TWO, "num_trials=5")
    wait_for_hanging(load_study, 2)
    process.send_signal(signal.SIGINT)
    time.sleep(1.5)
    assert process.poll() is None
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    output = finish(process)
    assert time.monotonic() - sent < 5
    assert process.returncode == 130
    assert "Traceback" not in output
    assert states(load_study()).count("WAITING") == 2


@pytest.mark.slow
def test_workers_do_not_outlive_a_sweep_that_is_killed(launch, workspace, load_study):
    process = launch("-m", "behaviour=hang", TWO, "num_trials=5")
    pids = {t.user_attrs["worker"]["pid"] for t in wait_for_hanging(load_study, 2)}
    process.kill()
    finish(process)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process = launch("-m", TWO, "num_trials=5")
    finish(process)
    study = load_study()
    assert states(study).count("COMPLETE") == 5
    assert set(states(study)) == {"COMPLETE", "FAIL"}


@pytest.mark.slow
def test_two_sweeps_with_workers_share_one_budget(launch, load_study):
    sweeps = [launch("-m", "behaviour='meet 4'", TWO, "num_trials=13") for _ in range(2)]
    outputs = [finish(process) for process in sweeps]
    assert [process.returncode for process in sweeps] == [0, 0], outputs
    study = load_study()
    assert states(study) == ["COMPLETE"] * 13
    assert len({trial.user_attrs["worker"]["pid"] for trial in study.trials}) == 4


@pytest.mark.slow
def test_a_process_takes_over_the_trial_of_one_that_died(launch, workspace, load_study):
    """The budget is filled by a trial of a process that dies: the other was waiting for it."""
    dying = launch("-m", "behaviour=hang", "num_trials=3")
    wait_for(workspace / "hanging-2")
    living = launch("-m", "num_trials=3")
    seen = ""
    while "waiting for them" not in seen:
        seen += living.stdout.readline()
    dying.kill()
    finish(living)
    assert "the rest of the budget runs in other processes; waiting for them" in seen
    assert states(load_study()) == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE"]


class CountingLauncher(BasicLauncher):
    """Some launcher that a person has chosen: it runs jobs its own way, one after the other."""

    launched: ClassVar[list[int]] = []

    def launch(self, job_overrides, initial_job_idx):
        self.launched.append(initial_job_idx)
        return super().launch(job_overrides, initial_job_idx)


@pytest.fixture
def other_launcher(monkeypatch):
    # Hydra takes plugins from this package alone.
    module = types.ModuleType("hydra_plugins.counting")
    module.CountingLauncher = CountingLauncher
    CountingLauncher.__module__ = module.__name__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    Plugins.instance().register(CountingLauncher)
    target = f"{module.__name__}.CountingLauncher"
    store = ConfigStore.instance()
    store.store(group="hydra/launcher", name="counting", node={"_target_": target})
    CountingLauncher.launched.clear()
    yield "hydra/launcher=counting"
    del store.repo["hydra"]["launcher"]["counting.yaml"]


def test_a_launcher_that_was_chosen_runs_the_jobs(sweep, other_launcher, workspace):
    study = sweep(
        other_launcher,
        "num_trials=3",
        "behaviour='raise on odd'",
        "hydra.sweeper.max_failure_rate=1",
    )
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE", "FAIL", "COMPLETE"]
    assert CountingLauncher.launched == [0, 1, 2, 3, 4]
    assert study.trials[1].user_attrs["failure"] == "ValueError: broken at 1"
    log = (workspace / "sweeps" / "toy" / "trial-1" / "app.log").read_text()
    assert "Traceback" in log


def test_a_launcher_gets_what_the_sweeper_sets_without_a_password(config_loader, workspace):
    """Hydra writes the overrides itself there, and names folders by them."""
    url = "postgresql+psycopg://me:Pl4nted@127.0.0.1:1/studies"
    master = config_loader.load_configuration(
        "config", [f"hydra.sweeper.storage='{url}'"], RunMode.MULTIRUN
    )
    app = types.SimpleNamespace(config=master)
    pool = LauncherPool(app, None, ["score"], None, {})
    own = {"trial.storage": url, "trial.study": "it's", "trial.number": 3}
    overrides = pool._as_overrides(own)
    assert "Pl4nted" not in str(overrides)
    config = config_loader.load_sweep_config(master, ["x=0.5", *overrides])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HydraConfig.instance(), "cfg", config)
        assert dict(config.trial) == {"storage": url, "study": "it's", "number": 3}
        assert config.hydra.job.override_dirname == "x=0.5"


@pytest.mark.slow
def test_a_launcher_that_was_chosen_runs_the_finals(sweep, other_launcher, load_study):
    sweep(other_launcher, "hydra.sweeper.final_seeds=2", "num_trials=2")
    assert CountingLauncher.launched == [0, 1, 0, 0, 1, 1]
    assert states(load_study("toy-finals-2")) == ["COMPLETE"] * 2


def test_workers_and_another_launcher_exclude_each_other(sweep, other_launcher):
    with pytest.raises(SweepError, match=r"num_workers=2: workers are processes of their own"):
        sweep(other_launcher, TWO)


def guard(function):
    """A decorator of an app's own."""

    @functools.wraps(function)
    def wrapped(cfg):
        return function(cfg) + 1

    return wrapped


@guard
@guard
def guarded(cfg):
    return cfg


def test_another_process_finds_the_function_under_its_decorators():
    for function, num_wrappers in ((guarded, 0), (guarded.__wrapped__, 1)):
        name = name_task(function, key="workers")
        assert name.num_wrappers == num_wrappers
        assert name.find() is function


def test_a_stop_that_came_before_a_job_stops_the_job():
    interruption = Interruption()
    interruption.requested = True
    with pytest.raises(KeyboardInterrupt), interruption.job():
        raise AssertionError("it began")


def test_a_trial_that_another_process_closed_is_not_changed(sweep, load_study, capfd):
    def task(cfg):
        if cfg.trial.number == 1:
            load_study().tell(1, state=TrialState.FAIL)
            raise ValueError("too late")
        return cfg.x

    study = sweep("num_trials=3", task=task)
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert "trial 1 was closed by another process" in capfd.readouterr().out


def test_a_job_that_no_other_process_finds_is_refused(sweep):
    with pytest.raises(SweepError, match="cannot be found from another process"):
        sweep(TWO, task=lambda cfg: cfg.x)


@pytest.mark.slow
def test_workers_that_cannot_start_end_the_sweep(workspace):
    """A script that breaks where it is imported, as a worker does, and not where it is run."""
    shutil.copytree(APP.parent, workspace / "app")
    script = workspace / "app" / "app.py"
    broken = 'if __name__ == "__mp_main__":\n    raise RuntimeError("not here")\n'
    script.write_text(script.read_text() + broken)
    run = subprocess.run(
        [sys.executable, str(script), "-m", TWO],
        cwd=workspace,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert "3 workers ended before they could take a trial: its process ended" in run.stderr
    assert "RuntimeError: not here" in run.stderr
