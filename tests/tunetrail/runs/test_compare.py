"""``tunetrail compare``: what differs between runs, and their metrics side by side."""

from pathlib import Path

import pytest
import yaml

from tunetrail.__main__ import main
from tunetrail.tracking.run_log import add_to_run, open_run

URI = "sqlite:///mlruns/mlflow.db"


def put_run(
    rate: float, loss: float, *, threads: int | None = None, packages: str = "a==1\n"
) -> str:
    """A run with a few facts of its own."""
    with open_run(uri=URI, experiment="tunetrail", artifact_dir="mlruns/artifacts") as run_log:
        config = {
            "seed": 1,
            "trainer": {"learning_rate": rate},
            "tracking": {"run_name": str(rate)},
        }
        run_log.text(yaml.safe_dump(config), "config.yaml")
        run_log.text(packages, "environment/requirements.txt")
        if threads is not None:
            run_log.data({"num_threads": threads, "system": "x"}, "environment/machine.json")
        for step in (1, 2):
            run_log.metrics({"validation/loss": loss / step, "epoch": step / 2}, step=step)
        run_log.metrics({"speed/seconds": 1.0, "best/validation/loss": loss})
    return run_log.run_id


def lines_of(said: str) -> list[str]:
    return [" ".join(line.split()) for line in said.splitlines()]


def test_only_what_differs_is_shown_with_the_metrics_beside_it(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = put_run(0.1, 1.0, threads=1)
    second = put_run(0.2, 0.5, threads=2, packages="a==1\nb==2\n")
    assert main(["compare", first, second[:8]]) == 0
    said = capsys.readouterr().out
    lines = lines_of(said)
    assert lines[0] == f"run {first[:8]} {second[:8]}"
    assert "trainer.learning_rate 0.1 0.2" in lines
    assert "num_threads 1 2" in lines
    assert "b - 2" in lines
    assert "validation/loss 0.5 0.25" in lines
    assert "epoch 1 1 =" in lines
    # the best stands after validation, times and places nowhere
    assert lines.index("validation/loss 0.5 0.25") < lines.index("best/validation/loss 1 0.5")
    for hidden in ("speed/", "tracking", "seed", "system"):
        assert hidden not in said
    assert main(["compare", first, second, "--all"]) == 0
    lines = lines_of(capsys.readouterr().out)
    assert {"seed 1 1", "system x x", "a 1 1"} <= set(lines)


def test_what_a_run_did_not_record_is_no_difference(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = put_run(0.1, 1.0, threads=1), put_run(0.1, 1.0)
    main(["compare", first, second])
    assert "num_threads" not in capsys.readouterr().out
    main(["compare", first, second, "--all"])
    assert "num_threads 1 not recorded" in lines_of(capsys.readouterr().out)


def test_many_runs_stand_in_tables_of_a_hundred_columns(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [put_run(0.1 + 1e-12 * number, 1.0 / (number + 3), threads=1) for number in range(5)]
    main(["compare", *runs])
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 100
    for run in runs:
        assert run[:8] in said
    assert sum(line.startswith("run ") for line in said.splitlines()) == 2


def test_a_run_that_is_not_there_is_one_line(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = put_run(0.1, 1.0)
    assert main(["compare", run_id, "0" * 32]) == 1
    assert capsys.readouterr().err.startswith(f"error: run {'0' * 32} is not in")
    with pytest.raises(SystemExit) as caught:
        main(["compare", run_id])
    assert caught.value.code == 2


@pytest.mark.parametrize(("sha256", "differs"), [("a" * 64, False), ("b" * 64, True)])
def test_the_same_weights_from_another_place_are_no_difference(
    workspace: Path, capsys: pytest.CaptureFixture[str], sha256: str, differs: bool
) -> None:
    """Another virtual environment holds the same package."""
    runs = [put_run(0.1, 1.0), put_run(0.1, 1.0)]
    for run_id, place, weights in zip(runs, ("here", "there"), ("a" * 64, sha256), strict=True):
        model = {"checkpoint": place, "revision": None, "sha256": weights}
        add_to_run(uri=URI, run_id=run_id).data(model, "environment/model.json")
    assert main(["compare", *runs]) == 0
    assert ("weights started from" in capsys.readouterr().out) == differs
