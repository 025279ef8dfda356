"""Commands that are printed compose the same config when they are pasted."""

import re
import shlex
import signal

import pytest
import yaml

from .test_processes import finish, wait_for

pytestmark = pytest.mark.slow

OTHER = """
defaults:
  - config
  - _self_
n: 2
"""


@pytest.fixture
def typed(workspace):
    """A command line whose config comes from more places than the app's own."""
    (workspace / "extra").mkdir()
    (workspace / "extra" / "other.yaml").write_text(OTHER)
    (workspace / "more" / "shape").mkdir(parents=True)
    (workspace / "more" / "shape" / "flat.yaml").write_text("offset: 7.0\n")
    return [
        "-m", "--config-dir", "extra", "-cn", "other", f"hydra.searchpath=[file://{workspace}/more]",
        "shape=flat", "name='a b'", "objectives.score=maximize", "n=2", "num_trials=3",
        "hydra.sweeper.max_failure_rate=1", "hydra.sweep.subdir=t-${hydra.job.num}",
    ]  # fmt: skip


def load(path):
    config = yaml.safe_load(path.read_text())
    return {name: value for name, value in config.items() if name not in ("trial", "num_trials")}


def test_the_best_is_run_again_by_its_command(launch, typed, workspace):
    output = finish(launch(*typed))
    command = shlex.split(output[output.index("run the best again:") :].splitlines()[1])
    assert command[0] == "python"
    assert not [text for text in command if text.startswith(("num_trials", "hydra.sweep"))]
    process = launch(*command[2:], "hydra.run.dir=again")
    said = finish(process)
    assert process.returncode == 0, said
    number = re.search(r"best .* \(trial (\d)\) \| 3 of 3", output).group(1)
    trial = load(workspace / "sweeps" / "toy" / f"t-{number}" / ".hydra" / "config.yaml")
    assert load(workspace / "again" / ".hydra" / "config.yaml") == trial
    assert trial["shape"] == {"offset": 7.0}
    assert trial["objectives"] == {"score": "maximize"}


def test_a_stopped_study_continues_by_its_command(launch, typed, workspace, load_study):
    process = launch(*typed, "behaviour=hang")
    wait_for(workspace / "hanging-2")
    process.send_signal(signal.SIGINT)
    command = shlex.split(re.search(r"to continue: (.*)", finish(process)).group(1))
    process = launch(*command[2:], "behaviour=null")
    said = finish(process)
    assert process.returncode == 0, said
    assert "3 complete" in said
    assert load_study().direction.name == "MAXIMIZE"
