"""Real processes, stopped and killed for real."""

import re
import shlex
import signal
import time

import pytest

pytestmark = pytest.mark.slow


def wait_for(path):
    wait_until(path.exists, f"{path} did not appear")


def wait_until(is_so, otherwise, seconds=60):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


def finish(process, seconds=60):
    output, _ = process.communicate(timeout=seconds)
    return output


def states(study):
    return [trial.state.name for trial in study.trials]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_closes_the_trial_and_prints_how_to_continue(launch, workspace, load_study, number):
    process = launch("-m", "behaviour=hang", "study=toy")
    wait_for(workspace / "hanging-2")
    sent = time.monotonic()
    process.send_signal(number)
    output = finish(process)
    assert process.returncode == 130
    assert time.monotonic() - sent < 5
    assert "Traceback" not in output
    study = load_study()
    assert states(study) == ["COMPLETE", "COMPLETE", "FAIL", "WAITING"]
    assert study.trials[2].user_attrs["failure"] == "interrupted"
    # The command that was printed does what it says.
    command = shlex.split(re.search(r"interrupted; to continue: (.*)", output).group(1))
    assert command[0] == "python"
    process = launch(*command[2:], "behaviour=null")
    finish(process)
    assert process.returncode == 0
    assert states(load_study()) == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert load_study().trials[3].params == study.trials[2].params


def test_a_killed_sweep_continues(launch, workspace, load_study):
    process = launch("-m", "behaviour=hang")
    wait_for(workspace / "hanging-2")
    process.kill()
    finish(process)
    killed = load_study()
    assert states(killed) == ["COMPLETE", "COMPLETE", "RUNNING"]
    process = launch("-m")
    output = finish(process)
    assert process.returncode == 0
    assert "trial 2 | interrupted | x=" in output
    study = load_study()
    assert states(study) == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[3].params == killed.trials[2].params


@pytest.mark.parametrize("sampler", ["TPESampler", "QMCSampler", "CmaEsSampler"])
def test_a_kill_in_the_middle_changes_none_of_ten_points(launch, workspace, load_study, sampler):
    arguments = ["-m", f"sampler={{_target_: optuna.samplers.{sampler}}}", "num_trials=10"]
    finish(launch(*arguments, "study=whole"))
    process = launch(*arguments, "study=parts", "behaviour=hang")
    wait_for(workspace / "hanging-2")
    process.kill()
    finish(process)
    finish(launch(*arguments, "study=parts"))
    whole, parts = load_study("whole"), load_study("parts")
    assert states(parts).count("COMPLETE") == 10
    assert states(parts).count("FAIL") == 1
    # The point that was running is tried again in its turn.
    assert parts.trials[2].params == parts.trials[3].params == whole.trials[2].params
    complete = [trial for trial in parts.trials if trial.state.name == "COMPLETE"]
    assert [t.params for t in complete] == [t.params for t in whole.trials]
    assert [t.value for t in complete] == [t.value for t in whole.trials]


def test_two_processes_share_one_budget(launch, load_study):
    workers = [launch("-m", "behaviour='meet 2'", "num_trials=9") for _ in range(2)]
    outputs = [finish(worker) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    study = load_study()
    assert states(study) == ["COMPLETE"] * 9
    shares = [len(re.findall(r"^trial \d+", output, re.MULTILINE)) for output in outputs]
    assert sum(shares) == 9
    assert min(shares) >= 1
    assert len({trial.user_attrs["worker"]["pid"] for trial in study.trials}) == 2


def test_a_worker_takes_over_from_one_that_was_killed(launch, workspace, load_study):
    dying = launch("-m", "behaviour=hang")
    wait_for(workspace / "hanging-2")
    living = launch("-m", "behaviour=slow", "num_trials=14")
    wait_for(workspace / "sweeps" / "toy" / "trial-4")
    # While the other lives, its trial is left alone.
    assert load_study().trials[2].state.name == "RUNNING"
    dying.kill()
    finish(living)
    study = load_study()
    assert states(study).count("COMPLETE") == 14
    assert "RUNNING" not in states(study)
    assert study.trials[2].user_attrs["failure"] == "interrupted"


def test_errors_are_one_line(launch):
    process = launch("-m", "num_trials=0")
    output = finish(process)
    assert process.returncode == 1
    first, *rest = output.strip().splitlines()
    assert first == "num_trials=0: give a whole number from 1 up"
    assert [line for line in rest if line] == [
        "Set the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace."
    ]
