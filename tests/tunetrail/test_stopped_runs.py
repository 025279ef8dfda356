"""A run that is stopped: closed as killed, and continued to the same numbers."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_records import all_runs, artifact, client_of, only_run
from toys import ROOT
from warm import Warm

Train = Callable[..., Any]


@pytest.mark.slow
def test_an_interrupted_run_continues_to_the_same_numbers(
    train: Train, tiny: list[str], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped by Ctrl-C after its first epoch, resumed into the same MLflow run."""
    from tunetrail.training.callbacks import ProgressBar

    whole = train(*tiny)
    reference = only_run(workspace)
    client = client_of(workspace)

    class Stop(ProgressBar):
        def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.epoch >= 1:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tunetrail.pipeline.ProgressBar", Stop)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(*tiny)
    (stopped,) = all_runs(workspace, "attributes.status = 'KILLED'")
    with pytest.raises(SystemExit) as caught:
        train(*tiny, f"resume={stopped.info.run_id}", "trainer.learning_rate=1e-3")
    assert "trainer.learning_rate: 0.003 -> 0.001" in str(caught.value)
    began = artifact(stopped, "config.yaml").read_text()
    assert train(*tiny, f"resume={stopped.info.run_id}") == whole
    resumed = client.get_run(stopped.info.run_id)
    # what it began with stays; what went on with it is said beside
    assert artifact(resumed, "config.yaml").read_text() == began
    for name in ("code", "machine", "seeds", "model"):
        first = artifact(resumed, f"environment/{name}.json").read_text()
        assert artifact(resumed, f"environment/resumed/{name}.json").read_text() == first
    assert resumed.info.status == "FINISHED"
    assert "tunetrail.failure" not in resumed.data.tags
    speed = resumed.data.metrics["speed/train_samples_per_second"]
    assert 0 < speed < 100 * reference.data.metrics["speed/train_samples_per_second"]
    for name in ("validation/loss", "train/loss", "validation/accuracy", "train/macro_f1"):
        assert resumed.data.metrics[name] == reference.data.metrics[name], name


@pytest.mark.slow
def test_a_run_that_is_terminated_is_closed_as_killed(tiny: list[str], workspace: Path) -> None:
    """SIGTERM, as a scheduler sends it, to a real process in the middle of its training."""
    process = Warm(
        [sys.executable, str(ROOT / "train.py"), *tiny, "trainer.num_train_epochs=500"],
        cwd=workspace,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        checkpoints = workspace / "mlruns" / "checkpoints"
        while not list(checkpoints.glob("*/checkpoint-*")) and time.monotonic() < deadline:
            time.sleep(0.2)
        process.terminate()
        assert process.wait(timeout=60) == 143
    finally:
        process.kill()
    run = only_run(workspace)
    assert run.info.status == "KILLED"
    # it can be resumed from its checkpoint
    assert list((checkpoints / run.info.run_id).glob("checkpoint-*"))
