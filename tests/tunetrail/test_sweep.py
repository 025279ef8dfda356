"""``python train.py -m``: a study, its trials as runs, and what is kept of them."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

Train = Callable[..., Any]

SPACE = ["trainer.learning_rate=tag(log,interval(1e-5,1e-2))", "trainer.num_train_epochs=2,3"]


@pytest.fixture
def small(tiny: list[str]) -> list[str]:
    """The space is on the command line here: what it searches is not fixed as well."""
    searched = ("trainer.learning_rate=", "trainer.num_train_epochs=")
    return [
        "-m",
        *(override for override in tiny if not override.startswith(searched)),
        *SPACE,
        "trainer.per_device_train_batch_size=16",
        "sweep.final_seeds=0",
        "study=s",
    ]


def load_study() -> optuna.Study:
    return optuna.load_study(study_name="s", storage="sqlite:///mlruns/optuna.db")


@pytest.mark.slow
def test_a_study_prunes_tracks_every_trial_and_keeps_only_the_best_weights(
    train: Train, small: list[str], workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Path("mlruns/optuna.db").unlink()  # as on a fresh machine: the sweep makes it
    # one startup trial that learns, so that the median stops those that cannot
    train(*small, "sweep.num_trials=5", "pruner.n_startup_trials=1", "seed=3")
    study = load_study()
    trials = study.get_trials()
    states = [trial.state for trial in trials]
    assert len(trials) == 5
    assert states.count(TrialState.PRUNED) >= 1
    assert states.count(TrialState.COMPLETE) + states.count(TrialState.PRUNED) == 5

    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    parent = client.get_run(study.user_attrs["mlflow_run_id"])
    assert parent.info.status == "FINISHED"
    runs = {trial.number: client.get_run(trial.user_attrs["mlflow_run_id"]) for trial in trials}
    for trial in trials:
        run = runs[trial.number]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["tunetrail.state"] == trial.state.name
        assert run.info.status == "FINISHED"
        assert run.data.params["trainer.learning_rate"] == str(
            trial.params["trainer.learning_rate"]
        )
        reported = {
            m.value for m in client.get_metric_history(run.info.run_id, "validation/accuracy")
        }
        assert set(trial.intermediate_values.values()) == reported
        if trial.state is TrialState.COMPLETE:
            assert trial.value == run.data.metrics["best/validation/accuracy"]
        else:
            assert len(trial.intermediate_values) < trial.params["trainer.num_train_epochs"]

    # one set of weights and one heavy page, those of the best; no checkpoints
    best = runs[study.best_trial.number]
    weights = list((workspace / "mlruns").rglob("*.safetensors"))
    (output,) = best.outputs.model_outputs
    assert [output.model_id in str(path) for path in weights] == [True]
    pages = list((workspace / "mlruns").rglob("learning_curves.html"))
    assert [best.info.run_id in str(path) for path in pages] == [True]

    artifacts = Path(parent.info.artifact_uri.removeprefix("file://"))
    page = (artifacts / "figures" / "study.html").read_text()
    for name in ("Optimization History", "Timeline", "Slice", "Intermediate Values"):
        assert f"{name} Plot" in page
    report = (artifacts / "report.md").read_text()
    assert f"## Best: trial {study.best_trial.number}" in report
    assert "## Fit and baselines" in report
    assert f"Trial {study.best_trial.number}, the best: " in report
    assert (artifacts / "figures" / "fits.png").is_file()
    rate = study.best_trial.params["trainer.learning_rate"]
    assert f"learning_rate: {rate}" in (artifacts / "best_config.yaml").read_text()


@pytest.mark.slow
def test_the_same_name_continues_a_study_up_to_its_budget(
    train: Train, small: list[str], workspace: Path
) -> None:
    train(*small, "sweep.num_trials=2", "pruner=none")
    before = load_study().get_trials()
    parent = load_study().user_attrs["mlflow_run_id"]
    train(*small, "sweep.num_trials=3", "pruner=none")
    after = load_study()
    assert [t.params for t in after.trials[:2]] == [t.params for t in before]
    assert len(after.trials) == 3
    assert after.user_attrs["mlflow_run_id"] == parent


@pytest.mark.slow
def test_a_bad_value_fails_its_trial_and_the_sweep_continues(
    train: Train, small: list[str], workspace: Path
) -> None:
    """A grid of more rows than there are and of fewer, two numbers of epochs each."""
    train(
        *(override for override in small if not override.startswith("trainer.learning_rate")),
        "trainer.learning_rate=1e-3",
        "data.num_train=1000,16",
        "sampler=grid",
        "pruner=none",
        "sweep.num_trials=4",
    )
    by_state: dict[TrialState, list[Any]] = {}
    for trial in load_study().trials:
        by_state.setdefault(trial.state, []).append(trial)
    assert set(by_state) == {TrialState.COMPLETE, TrialState.FAIL}
    for trial in by_state[TrialState.FAIL]:
        assert trial.params["data.num_train"] == 1000
        assert trial.user_attrs["failure"].startswith("InputError: data.num_train=1000: train has ")
    assert {t.params["data.num_train"] for t in by_state[TrialState.COMPLETE]} == {16}


@pytest.mark.slow
def test_several_objectives_come_back_in_their_order(
    train: Train, small: list[str], workspace: Path
) -> None:
    train(
        *small,
        "sweep.num_trials=2",
        "sweep.objectives=[validation/accuracy,gap/loss]",
    )
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    for trial in load_study().trials:
        metrics = client.get_run(trial.user_attrs["mlflow_run_id"]).data.metrics
        assert trial.values == [metrics["best/validation/accuracy"], metrics["best/gap/loss"]]


@pytest.mark.slow
def test_another_objective_takes_the_place_of_the_default(
    train: Train, small: list[str], workspace: Path
) -> None:
    train(*small, "sweep.num_trials=1", "sweep.objectives=validation/loss",
          "trainer.metric_for_best_model=validation_loss")  # fmt: skip
    study = load_study()
    assert study.direction is optuna.study.StudyDirection.MINIMIZE
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    (trial,) = study.trials
    run = client.get_run(trial.user_attrs["mlflow_run_id"])
    assert trial.value == run.data.metrics["best/validation/loss"]
    # The same objective in any form continues the study, and another one does not.
    again = (*small, "trainer.metric_for_best_model=validation_loss", "sweep.num_trials=1")
    train(*again, "sweep.objectives=[validation/loss]")
    with pytest.raises(SystemExit, match="was started with other objectives"):
        train(*again, "sweep.objectives=[validation/accuracy]")


@pytest.mark.slow
def test_a_sweep_that_fails_leaves_a_failed_parent_with_its_cause(
    train: Train, small: list[str], workspace: Path
) -> None:
    with pytest.raises(SystemExit):
        train(*small, "data.label_column=nope", "hydra.sweeper.max_repeated_failures=2")
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    parent = client.get_run(load_study().user_attrs["mlflow_run_id"])
    assert parent.info.status == "FAILED"
    assert "2 trials in a row failed" in parent.data.tags["tunetrail.failure"]


@pytest.mark.slow
def test_make_sweep_in_small(run_train: Callable[..., Any], tiny: list[str]) -> None:
    """A process of its own: a line a trial, a table, a command that can be pasted, and no noise."""
    fixed = [o for o in tiny if "learning_rate" not in o and "num_train_epochs" not in o]
    objective = "sweep.objectives=validation/macro_f1"
    done = run_train("-m", *fixed, *SPACE, "sweep.num_trials=3", "study=s", objective)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert len(re.findall(r"^trial \d+( \(.*?\))? \|", said, re.MULTILINE)) == 3
    assert len(re.findall(r"^final of trial \d+( \(.*?\))? \| complete", said, re.MULTILINE)) in (
        2,
        3,
    )
    assert "Warning" not in said
    assert "it/s" not in said
    command = next(line for line in said.splitlines() if "train.py" in line and "learning" in line)
    program, _, *overrides = shlex.split(command)
    assert program == "python"
    assert objective in overrides
    again = run_train(*overrides)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sweep.objectives=validation/acuracy", "sweep.objectives=validation/acuracy"),
        ("+sweep.constraints={gap/acc: '<= 0.1'}", "sweep.constraints=gap/acc"),
        ("trainer.metric_for_best_model=bleu", "trainer.metric_for_best_model=bleu"),
    ],
)
def test_a_wrong_metric_is_found_before_the_first_trial(
    train: Train, small: list[str], override: str, message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        train(*small, override)
    said = str(caught.value.code)
    assert f"{message}: no such metric (found: " in said
    assert "accuracy" in said
    # No study, no run: the right name can be given under the same study's name.
    assert optuna.get_all_study_names("sqlite:///mlruns/optuna.db") == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sampler=tpee", "sampler=tpee: there is no such choice (found: cmaes, gp, "),
        ("pruner=meridian", "did you mean pruner=median?"),
        ("hydra/launcher=joblib", "hydra/launcher=joblib: there is no such choice (found: basic"),
        (
            "trainer.learning_rate=1e-4 trainer.num_train_epochs=2",
            "nothing to search: every key has one value; give one a choice(…), ",
        ),
        ("sweep=null", "sweep=null: there is no such choice (found: default)"),
        ("trainer.lerning_rate=1,2", "did you mean trainer.learning_rate?"),
        ("trainer.weight_decay=interval(1,", "trainer.weight_decay=interval(1,: Hydra cannot read"),
        ("sampler._target_=optuna.samplers.TPESampeler", "did you mean optuna.samplers.TPESampler"),
        ("trainer.optim=adamx", "trainer.optim=adamx: must be one of adamw_torch, "),
        ("model.path=nowhere", "model.path=nowhere: no directory there"),
        ("data.train=nowhere.csv", "data.train=nowhere.csv: no such file in "),
        (
            "trainer.optim=adamx,adamw_torch",
            "trainer.optim=adamx,adamw_torch: no trial can have trainer.optim=adamx (trainer.optim",
        ),
        ("trainer.weight_decay=choice(0.1,x)", "no trial can have trainer.weight_decay=x (trainer"),
        ("trainer.weight_decay=interval(-1,1)", "no trial can have trainer.weight_decay=-1.0 (tr"),
        (
            "task=text_classification,foo",
            "no trial can have task=foo (In 'config': Could not find 'task/foo')",
        ),
        (
            "training_seed=1,2 sweep.final_seeds=2",
            "training_seed is searched, so there is no fresh seed for finals; ",
        ),
    ],
)
def test_every_refusal_of_a_sweep_is_one_line(
    train: Train, small: list[str], override: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        train(*small, *override.split())
    line = str(caught.value.code)
    assert line.startswith("error: ")
    assert message in line
    assert "\n" not in line
    assert capfd.readouterr().err == ""


def test_a_value_that_suits_other_values_only_is_no_fault(
    train: Train, small: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    both = (f"trainer.{name}_strategy=epoch,steps" for name in ("eval", "save"))
    # the next check after those of the values
    with pytest.raises(SystemExit, match=r"sweep\.objectives=x: no such metric"):
        train(*small, *both, "sweep.objectives=[x]")
    with pytest.raises(SystemExit, match=r"no trial can have trainer\.eval_strategy=steps "):
        train(*small, "trainer.eval_strategy=epoch,steps", "trainer.weight_decay=0,0.1")


@pytest.mark.slow
def test_a_wrong_value_in_a_study_that_has_begun_is_named_as_wrong(
    train: Train, small: list[str]
) -> None:
    train(*small, "sweep.num_trials=1", "pruner=none")
    for override in ("data.train=nowhere.csv", "model.path=nowhere", "trainer.weight_decay=x"):
        with pytest.raises(SystemExit, match=f"^error: {override}: "):
            train(*small, "sweep.num_trials=1", "pruner=none", override)
