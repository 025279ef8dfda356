"""Finals in several processes and warm workers: shared, stopped, and completed after a kill."""

import json
import re
import signal
import subprocess
import sys

import pytest

from .test_pool import TWO
from .test_processes import finish, wait_for
from .test_sweep import states
from .toy_finals import FINALS, finalists_of


@pytest.mark.slow
def test_the_finals_are_left_to_a_process_that_still_searches(sweep, load_study, workspace, capfd):
    study = sweep("num_trials=1")
    code = (
        "import json, pathlib; from hydra_plugins.optuna_study._jobs.workers import Worker\n"
        "with Worker(pathlib.Path('store/.optuna.db.workers')) as worker:\n"
        "    print(json.dumps(worker.identity), flush=True); input()"
    )
    program = [sys.executable, "-c", code]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        signature = json.loads(other.stdout.readline())
        study.ask(study.trials[0].distributions).set_user_attr("worker", signature)
        sweep(*FINALS, "num_trials=1")
        assert "no finals: the search still runs in another process" in capfd.readouterr().out
        other.kill()
    sweep(*FINALS, "num_trials=1")
    assert len(load_study("toy-finals-2").trials) == 1


@pytest.mark.slow
def test_ctrl_c_in_the_finals_ends_warm_workers_in_order(launch, load_finals, workspace):
    command = ("-m", TWO, *FINALS, "num_trials=4")
    process = launch(*command, "behaviour=crawl")
    wait_for(workspace / "sweeps/toy/finals-2/trial-1")
    process.send_signal(signal.SIGINT)
    output = finish(process)
    assert process.returncode == 130, output
    assert states(load_finals()) == ["FAIL"] * 2 + ["WAITING"] * 2
    assert "interrupted; to continue: python" in output
    finish(launch(*command))
    assert states(load_finals()) == ["FAIL"] * 2 + ["COMPLETE"] * 2


@pytest.mark.slow
def test_warm_workers_share_the_finals(launch, load_study, load_finals, workspace):
    output = finish(launch("-m", "behaviour='meet 2'", TWO, *FINALS, "num_trials=4"))
    assert states(load_study()) == ["COMPLETE"] * 4
    assert states(load_finals()) == ["COMPLETE"] * 2
    pids = {trial.user_attrs["worker"]["pid"] for trial in load_study().trials}
    assert {trial.user_attrs["worker"]["pid"] for trial in load_finals().trials} == pids
    assert len(re.findall(r"^final of trial \d+ \| complete", output, re.MULTILINE)) == 2
    # Of the search alone: in the finals no point is proposed.
    assert output.count("2 workers: the order") == 1
    folder = workspace / "sweeps/toy/finals-2/trial-0"
    assert "jobs" in (folder / "console.log").read_text()
    assert "jobs" in (folder / "seed-1/console.log").read_text()


@pytest.mark.slow
def test_two_processes_share_the_finals_of_their_study(launch, load_study, load_finals):
    command = ("-m", "behaviour=slow", *FINALS, "hydra.sweeper.finalists=4", "num_trials=8")
    processes = [launch(*command) for _ in range(2)]
    outputs = [finish(process) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert states(load_study()) == ["COMPLETE"] * 8
    finals = load_finals()
    assert states(finals) == ["COMPLETE"] * 4
    assert len(set(finalists_of(finals))) == 4
    for output in outputs:
        assert "finals of study toy (mean over 2 seeds: 1, 2):" in output


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), (TWO,)])
def test_after_a_kill_the_same_command_completes_the_finals(
    launch, load_study, load_finals, workspace, workers
):
    command = ("-m", "behaviour=slow", *FINALS, "hydra.sweeper.finalists=3", "num_trials=3")
    process = launch(*command, *workers)
    wait_for(workspace / "sweeps/toy/finals-2/trial-1")
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = [trial for trial in load_finals().trials if trial.state.name == "COMPLETE"]
    output = finish(launch(*command, *workers))
    finals = load_finals()
    assert len(load_study().trials) == 3
    complete = [trial for trial in finals.trials if trial.state.name == "COMPLETE"]
    assert sorted(t.user_attrs["finalist_of"] for t in complete) == [0, 1, 2], output
    assert set(states(finals)) == {"COMPLETE", "FAIL"}
    for trial in done:
        assert finals.trials[trial.number] == trial
