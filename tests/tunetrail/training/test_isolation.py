"""A process that runs many trials: each gives the same as alone, and things are read once."""

import gc
import json
import os
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from mlflow.tracking import MlflowClient
from optuna.trial import FrozenTrial
from toys import make_rows, write_csv
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from tunetrail.models import loading
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import Loader, Weights, read_weights
from tunetrail.studies.ranking import rank
from tunetrail.training.inputs import _load_data, _load_splits
from tunetrail.training.isolation import isolated
from tunetrail.training.tokens import _encode

Train = Callable[..., Any]
RunTrial = Callable[..., FrozenTrial]
STORAGE = "sqlite:///mlruns/optuna.db"


@pytest.fixture
def study(workspace: Path) -> optuna.Study:
    return optuna.create_study(storage=STORAGE, study_name="s", direction="maximize")


@pytest.fixture
def run_trial(train: Train, tiny: list[str], study: optuna.Study) -> RunTrial:
    """Ask for a trial, run its job in this process, report it to the study, without a sweeper."""

    def run(*overrides: str) -> FrozenTrial:
        asked = study.ask()
        names = [f"trial.storage={STORAGE}", "trial.study=s", f"trial.number={asked.number}"]
        value = train(*tiny, *overrides, *names, "pruner=none")
        study.tell(asked, value)
        return study.trials[asked.number]

    return run


def client() -> MlflowClient:
    return MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")


def record(run_id: str) -> dict[str, Any]:
    """Every number of a run that is not a time, and the bytes of the model it saved."""
    run = client().get_run(run_id)
    histories: dict[str, Any] = {
        name: [(m.step, m.value) for m in client().get_metric_history(run_id, name)]
        for name in run.data.metrics
        if not name.startswith("speed/")
    }
    for output in run.outputs.model_outputs:
        location = client().get_logged_model(output.model_id).artifact_location
        folder = Path(location.removeprefix("file://"))
        for name in ("model/model.safetensors", "model/config.json"):
            histories[name] = (folder / name).read_bytes()
        for path in sorted((folder / "components" / "tokenizer").iterdir()):
            histories[path.name] = path.read_bytes()
    return histories


def record_of(trial: FrozenTrial) -> dict[str, Any]:
    return record(trial.user_attrs["mlflow_run_id"])


PLAIN = ("sweep.keep_best=99", "trainer.logging_steps=2")
QUICK = ("tracking.log_model=false", "trainer.num_train_epochs=1")
OTHERS = (
    (*PLAIN, "trainer.learning_rate=1e-2", "trainer.per_device_train_batch_size=16"),
    (*PLAIN, "training_seed=7", "task.max_length=6", "+trainer.full_determinism=true"),
    (*PLAIN, "precision=bf16", "method=frozen"),
)


@pytest.mark.slow
def test_a_trial_is_the_same_after_others_as_before_them(run_trial: RunTrial) -> None:
    first = record_of(run_trial(*PLAIN))
    assert {"validation/loss", "train/step_loss", "model/model.safetensors"} <= set(first)
    others = [record_of(run_trial(*overrides)) for overrides in OTHERS]
    assert record_of(run_trial(*PLAIN)) == first
    for other in others:
        assert other["train/step_loss"] != first["train/step_loss"]
        assert other["model/model.safetensors"] != first["model/model.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [PLAIN, *OTHERS], ids=["plain", "rate", "seed", "bf16"])
def test_a_trial_among_others_is_the_run_alone_in_a_fresh_process(
    run_trial: RunTrial,
    run_train: Callable[..., Any],
    tiny: list[str],
    overrides: tuple[str, ...],
) -> None:
    for other in (PLAIN, *OTHERS):
        if other != overrides:
            run_trial(*other)
    warm = record_of(run_trial(*overrides))
    done = run_train(*tiny, *overrides, "tracking.experiment=alone")
    assert done.returncode == 0, done.stderr
    experiment = client().get_experiment_by_name("alone")
    (alone,) = client().search_runs([experiment.experiment_id])
    assert record(alone.info.run_id) == warm


@pytest.mark.slow
def test_a_training_seed_changes_the_training_and_not_the_rows(
    train: Train, tiny: list[str], run_trial: RunTrial
) -> None:
    small = ("data.num_train=40", "data.num_validation=20", *QUICK)
    fingerprints, losses = set(), set()
    for seed in (42, 7, 8):
        trial = run_trial(*small, f"training_seed={seed}")
        run = client().get_run(trial.user_attrs["mlflow_run_id"])
        fingerprints.add(run.data.tags["tunetrail.data_fingerprint"])
        losses.add(run.data.metrics["validation/loss"])
        assert run.data.params["trainer.seed"] == run.data.params["trainer.data_seed"] == str(seed)
    assert (len(fingerprints), len(losses)) == (1, 3)


@pytest.mark.slow
def test_rows_are_loaded_and_encoded_once_for_the_same_settings(
    run_trial: RunTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    _load_data.cache_clear()
    _encode.cache_clear()
    for settings in ((), ("training_seed=5",), ("task.max_length=6",), ("trainer.weight_decay=0",)):
        run_trial(*settings, *QUICK)
    assert (_load_data.cache_info().misses, _load_data.cache_info().hits) == (1, 3)
    # of each split
    assert (_encode.cache_info().misses, _encode.cache_info().hits) == (4, 4)


@pytest.mark.slow
def test_each_repeat_draws_other_examples_from_rows_that_are_read_once(
    run_trial: RunTrial,
) -> None:
    _load_splits.cache_clear()
    _encode.cache_clear()

    def draw(number: int, seed: int, *overrides: str) -> int:
        few = (f"data.per_label={number}", f"training_seed={seed}", *QUICK, *overrides)
        trial = run_trial(*few)
        run = client().get_run(trial.user_attrs["mlflow_run_id"])
        path = Path(run.info.artifact_uri.removeprefix("file://"))
        splits = json.loads((path / "reports/data.json").read_text())["splits"]
        assert splits["train"]["num_rows"] == 3 * number
        seeds = json.loads((path / "environment/seeds.json").read_text())
        drawn.append((splits["train"]["sha256"], splits["validation"]["sha256"]))
        return int(seeds["per_label"])

    drawn: list[tuple[str, str]] = []
    assert [draw(4, seed) for seed in (1, 2, 1)] == [1, 2, 1]
    assert draw(4, 2, "data.per_label_seed=1") == 1
    train, validation = zip(*drawn, strict=True)
    assert train[0] == train[2] == train[3] != train[1]
    assert len(set(validation)) == 1
    assert _load_splits.cache_info().misses == 1
    assert _encode.cache_info().misses == 3


@pytest.mark.slow
def test_a_warm_process_gives_a_frozen_run_the_same_bits_as_a_fresh_one(
    run_trial: RunTrial, run_train: Callable[..., Any], tiny: list[str]
) -> None:
    """Whatever is in memory, in batches of another size, and with the body of another run."""
    frozen = (*PLAIN, "method=frozen", "trainer.learning_rate=1e-2")
    for other in (
        ("trainer.per_device_train_batch_size=5", "trainer.per_device_eval_batch_size=7"),
        ("data.num_train=30", "training_seed=3"),
        ("method.num_layers_trained=1",),
    ):
        run_trial(*frozen, *other)
    warm = record_of(run_trial(*frozen))
    done = run_train(*tiny, *frozen, "tracking.experiment=alone")
    assert done.returncode == 0, done.stderr
    experiment = client().get_experiment_by_name("alone")
    (alone,) = client().search_runs([experiment.experiment_id])
    assert record(alone.info.run_id) == warm


@pytest.mark.slow
def test_a_changed_file_of_the_same_name_is_read_again(
    run_trial: RunTrial, workspace: Path
) -> None:
    def fingerprint() -> str:
        trial = run_trial(*QUICK)
        run = client().get_run(trial.user_attrs["mlflow_run_id"])
        return str(run.data.tags["tunetrail.data_fingerprint"])

    before = fingerprint()
    write_csv(workspace / "train.csv", make_rows(60, seed=9))
    assert fingerprint() != before


def classifier(checkpoint: Checkpoint, weights: Weights | None = None) -> Any:
    loader = Loader(checkpoint, weights)
    return loader(AutoModelForSequenceClassification, label_names=["a", "b"], pad_token_id=0)


def load(checkpoint: Checkpoint) -> Any:
    torch.manual_seed(3)
    return classifier(checkpoint, read_weights(checkpoint))


def test_weights_from_memory_are_those_from_disk(tiny_gpt2: Path) -> None:
    checkpoint = Checkpoint(str(tiny_gpt2), origin="a test")
    torch.manual_seed(3)
    from_disk = classifier(checkpoint)
    state = torch.get_rng_state()
    loaded = load(checkpoint)
    assert torch.equal(torch.get_rng_state(), state)
    expected = from_disk.state_dict()
    found = loaded.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert loaded.config.to_dict() == from_disk.config.to_dict()
    assert loaded.name_or_path == from_disk.name_or_path == str(tiny_gpt2)
    assert loaded.training == from_disk.training


def test_changes_of_a_model_never_reach_the_next(tiny_gpt2: Path) -> None:
    checkpoint = Checkpoint(str(tiny_gpt2), origin="a test")
    first = load(checkpoint)
    before = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(1.0)
    again = load(checkpoint).state_dict()
    assert all(torch.equal(again[name], before[name]) for name in before)


def test_a_checkpoint_is_read_once_until_it_is_written_again(
    tiny_gpt2: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_gpt2, folder)
    checkpoint = Checkpoint(str(folder), origin="a test")
    before = read_weights(checkpoint)
    assert before is not None
    assert read_weights(checkpoint) is before
    other = load(checkpoint)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2.0)
    old = {name: tensor.clone() for name, tensor in before.items()}
    # in place, so that a tensor that lies in the file would change with it
    content = (folder / "model.safetensors").stat()
    other.save_pretrained(tmp_path / "other")
    body = (tmp_path / "other" / "model.safetensors").read_bytes()
    with (folder / "model.safetensors").open("r+b") as file:
        file.write(body)
        file.truncate()
    os.utime(folder / "model.safetensors", ns=(0, content.st_mtime_ns + 1))
    assert all(torch.equal(old[name], before[name]) for name in old)
    after = read_weights(checkpoint)
    assert after is not None
    assert after is not before
    assert torch.equal(after["transformer.wte.weight"], 2 * before["transformer.wte.weight"])
    # never two sets of weights
    assert len(loading._held) == 1


def test_all_shards_of_a_checkpoint_are_kept_in_memory(tiny_gpt2: Path, tmp_path: Path) -> None:
    load(Checkpoint(str(tiny_gpt2), origin="a test")).save_pretrained(
        tmp_path, max_shard_size="60KB"
    )
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    checkpoint = Checkpoint(str(tmp_path), origin="a test")
    torch.manual_seed(3)
    from_disk = classifier(checkpoint)
    found = load(checkpoint).state_dict()
    for name, tensor in from_disk.state_dict().items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.slow
def test_a_model_is_free_once_its_run_is_over(
    run_trial: RunTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[Any] = []
    real = Loader.__call__

    def watch(*args: Any, **kwargs: Any) -> Any:
        model = real(*args, **kwargs)
        models.append(weakref.ref(model))
        return model

    monkeypatch.setattr(Loader, "__call__", watch)
    run_trial(*QUICK)
    gc.collect()
    assert [model() for model in models] == [None]


def test_settings_of_one_run_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.setenv("ACCELERATE_DYNAMO_MODE", "default")
    precision = torch.backends.fp32_precision
    with isolated():
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"
        os.environ["ACCELERATE_DYNAMO_MODE"] = "max-autotune"
        torch.backends.fp32_precision = "tf32"
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.deterministic = True
    assert "ACCELERATE_MIXED_PRECISION" not in os.environ
    assert os.environ["ACCELERATE_DYNAMO_MODE"] == "default"
    assert torch.backends.fp32_precision == precision
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic


@pytest.mark.slow
def test_the_tokenizer_that_is_saved_is_the_checkpoint_s_own(
    run_trial: RunTrial, tiny_gpt2: Path
) -> None:
    """Truncation leaves a length in a tokenizer; the saved one has none."""
    found = record_of(run_trial("task.max_length=6"))
    assert json.loads(found["tokenizer.json"])["truncation"] is None
    assert PreTrainedTokenizerFast.from_pretrained(tiny_gpt2).model_max_length == 64


@pytest.mark.slow
def test_a_trial_notes_its_constraints_and_its_number_of_evaluations(
    run_trial: RunTrial, study: optuna.Study
) -> None:
    constraints = '{gap/accuracy: "<= -0.5", validation/accuracy: " >= 0.9 "}'
    trial = run_trial(f"++sweep.constraints={constraints}", "tracking.log_model=false")
    measured = client().get_run(trial.user_attrs["mlflow_run_id"]).data.metrics
    assert trial.constraints == {
        "gap/accuracy": measured["best/gap/accuracy"] + 0.5,
        "validation/accuracy": 0.9 - measured["best/validation/accuracy"],
    }
    assert max(trial.constraints.values()) > 0
    assert trial.user_attrs["num_evaluations"] == len(trial.intermediate_values) == 2
    feasible = run_trial(*QUICK, '++sweep.constraints={gap/accuracy: "<= 9"}')
    assert [found.number for found in rank(study)] == [feasible.number, trial.number]


@pytest.mark.slow
def test_each_repeat_is_a_run_and_the_last_of_a_kept_trial_saves_its_weights(
    train: Train, tiny: list[str], study: optuna.Study
) -> None:
    asked = study.ask()
    values = []
    for repeat in range(2):
        values.append(
            train(
                *tiny, "trainer.num_train_epochs=1", f"trial.storage={STORAGE}", "trial.study=s",
                f"trial.number={asked.number}", f"++trial.repeat={repeat}",
                "++trial.num_repeats=2", f"training_seed={5 + repeat}", "pruner=none",
                '++sweep.constraints={gap/accuracy: "<= 0"}',
            )
        )  # fmt: skip
        asked.set_user_attr("repeats", [[value] for value in values])
    study.tell(asked, sum(values) / 2)
    (trial,) = study.trials
    assert len(trial.intermediate_values) == 1
    experiment = client().get_experiment_by_name("tunetrail")
    runs = client().search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    assert [run.info.run_name for run in runs] == [f"trial 0 · seed {seed}" for seed in (5, 6)]
    assert [run.data.tags["tunetrail.repeat"] for run in runs] == ["0", "1"]
    assert [len(run.outputs.model_outputs) for run in runs] == [0, 1]
    assert trial.user_attrs["mlflow_run_id"] == runs[1].info.run_id
    gaps = [run.data.metrics["best/gap/accuracy"] for run in runs]
    assert trial.constraints == {"gap/accuracy": pytest.approx(sum(gaps) / 2)}
