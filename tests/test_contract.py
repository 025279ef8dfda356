"""The contract of the seam: every task with every method on every architecture.

Each cell is a run of two steps through the door that a person uses. What conf/task and conf/method
hold is found: a new task needs rows in ``toys.py``, a new method a line here for what it refuses.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from architectures import ARCHITECTURES, DECODERS, ENCODER_DECODERS, NO_TAGGER
from hydra.utils import instantiate
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from omegaconf import OmegaConf
from toys import ROOT, fill_workspace, run_here, write_task

from tunetrail.__main__ import main
from tunetrail.data.tables.files import load_table
from tunetrail.tracking.models import example_of

TASKS, METHODS = (
    [path.stem for path in sorted((ROOT / "conf" / group).glob("*.yaml"))]
    for group in ("task", "method")
)


def find_remedy(task: str, method: str, architecture: str) -> str | None:  # noqa: PLR0911
    """What a run says would work, where a cell makes no sense; None where it does."""
    if method == "in_context" and task != "text_classification":
        return "task=text_classification"
    if architecture in ENCODER_DECODERS and task in ("causal_lm", "masked_lm"):
        return "task=text_generation"
    if architecture in ENCODER_DECODERS and task == "token_classification":
        return "model=minilm"
    if task == "text_generation" and architecture not in DECODERS | ENCODER_DECODERS:
        return "model=smollm2"
    if method == "in_context" and architecture not in DECODERS:
        return "model=smollm2"
    if task == "causal_lm" and architecture not in DECODERS:
        return "task=masked_lm"
    if task == "masked_lm" and architecture in DECODERS:
        return "task=causal_lm"
    # Their QA model in transformers does not load the body of their checkpoints.
    if task == "question_answering" and architecture in ("llama", "qwen2"):
        return "model=minilm"
    # All that their head has is in the body.
    tied = ("gpt2", "qwen2", "t5", "bart")
    if (
        task in ("causal_lm", "text_generation") and method == "frozen" and architecture in tied
    ) or ((task, method, architecture) == ("question_answering", "frozen", "t5")):
        return "method.num_layers_trained=1"
    return None


# A task with the head of another one needs no more than those that differ most.
FEW = {"multi_label_classification": ("bert", "modernbert", "llama")}
CELLS = [
    cell
    for cell in itertools.product(TASKS, METHODS, ARCHITECTURES)
    if find_remedy(*cell) is None and cell[2] in FEW.get(cell[0], ARCHITECTURES)
]
REFUSED = [
    cell
    for cell in itertools.product(TASKS, METHODS, ARCHITECTURES)
    if find_remedy(*cell) is not None
    # Where it is the task that is wrong, one method of each architecture, and one architecture for
    # the method that has one task.
    and (
        cell[1] == "full"
        or cell[1:] == ("in_context", "gpt2")
        or cell[:2] == ("text_classification", "in_context")
        or "method" in find_remedy(*cell)
    )
]


def choose_cell(task: str, index: int) -> tuple[str, str, str]:
    """The first cell of a task that makes sense, beginning with other methods and architectures."""
    methods = [*METHODS[index % len(METHODS) :], *METHODS]
    architectures = ("bert", "llama", "modernbert") * 2
    return next(
        cell
        for method, architecture in itertools.product(methods, architectures[index % 3 :])
        if (cell := (task, method, architecture)) in CELLS
    )


# Each task and each method once, on architectures that differ most.
DIAGONAL = [choose_cell(task, index) for index, task in enumerate(TASKS)]
DIAGONAL += [
    next(cell for cell in CELLS if cell[1:] == (method, "llama"))
    for method in METHODS
    if method not in {cell[1] for cell in DIAGONAL}
]
# A sum of labels, a table of tags and texts that are generated; the rest is slow.
FAST = [
    cell
    for cell in DIAGONAL
    if cell[0] in ("text_classification", "token_classification", "text_generation")
    and cell[1] != "in_context"
]
# The architecture of each task where one is enough.
PLAIN = {task: "bert" if (task, "full", "bert") in CELLS else "llama" for task in TASKS}
# What a task with a method needs on a model that reads 64 tokens.
OF_CELL = {
    ("text_classification", "in_context"): (
        "data.per_label=1", "task.max_length=8", "method.instruction=''",
        "method.template='{text}: {label} '",
        "method.verbalizers={negative:bad,neutral:river,positive:good}",
    ),
}  # fmt: skip
SHORT = (
    "trainer=smoke", "trainer.max_steps=2", "trainer.eval_steps=2", "trainer.save_steps=2",
    "trainer.per_device_train_batch_size=6", "trainer.learning_rate=1e-2", "precision=fp32",
)  # fmt: skip

COMPARED = ("text_classification",)

TrainCell = Callable[..., Run]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Checkpoints of all architectures by name, each made when it is first asked for."""
    folder = tmp_path_factory.mktemp("checkpoints")
    known = {**ARCHITECTURES, "opt": NO_TAGGER}
    return lru_cache(lambda name: known[name].save(folder / name))


@pytest.fixture(scope="module")
def here(
    tmp_path_factory: pytest.TempPathFactory, empty_store: Path
) -> Iterator[pytest.MonkeyPatch]:
    """A folder with a store for all cells: to open another takes as long as to train."""
    folder = tmp_path_factory.mktemp("cells")
    fill_workspace(folder, empty_store)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield patch


@pytest.fixture
def cell(here: pytest.MonkeyPatch, checkpoints: Callable[[str], Path]) -> TrainCell:
    """Train a cell for two steps; return the last run."""

    def run(task: str, method: str, architecture: str, *overrides: str) -> Run:
        run_here(
            here, *overrides, *write_task(task, Path.cwd(), num_rows=12), *SHORT,
            f"method={method}", *OF_CELL.get((task, method), ()),
            "model=directory", f"model.path={checkpoints(architecture)}",
        )  # fmt: skip
        return all_runs()[0]

    return run


def client() -> MlflowClient:
    return MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")


def all_runs(condition: str = "") -> list[Run]:
    experiment = client().get_experiment_by_name("tunetrail")
    if experiment is None:
        return []
    return list(client().search_runs([experiment.experiment_id], condition))


def artifact(run: Run, path: str) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://")) / path


def predict(model: str, path: str, folder: Path) -> pd.DataFrame:
    """``tunetrail predict`` on a file."""
    suffix = {".conll": ".jsonl", ".txt": ".tsv"}.get(Path(path).suffix, Path(path).suffix)
    out = folder / f"out{suffix}"
    column = ["--text-column", "prompt"] if "text_generation" in path else []
    assert main(["predict", model, "--input", path, "--output", str(out), *column]) == 0
    return load_table(out, name="out").to_pandas()


def require_answers(found: pd.DataFrame, table: pd.DataFrame) -> None:
    """What predict adds is what the run says of its rows, as far as it says it."""
    assert "prediction" in found
    require_same(found, table[[name for name in found if name in table and name != "text"]])


def require_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert len(expected.columns) > 0
    for name, values in expected.items():
        if values.dtype.kind == "f":
            close = pytest.approx(values.to_numpy(), rel=1e-4, abs=1e-5)
            assert found[name].to_numpy(dtype=float) == close, name
        else:
            assert list(found[name]) == list(values), name


@pytest.mark.parametrize(
    ("task", "method", "architecture"),
    [pytest.param(*c, marks=[] if c in FAST else pytest.mark.slow) for c in CELLS],
    ids=["-".join(c) for c in CELLS],
)
def test_a_run_scores_test_and_its_logged_model_answers_the_same(
    cell: TrainCell, tmp_path: Path, task: str, method: str, architecture: str
) -> None:
    run = cell(task, method, architecture, "score_test=true")
    assert run.info.status == "FINISHED"
    assert (run.data.tags["tunetrail.task"], run.data.tags["tunetrail.method"]) == (task, method)
    cfg = OmegaConf.load(artifact(run, "config.yaml"))
    built = instantiate(cfg.task)
    for split in ("train", "validation", "test"):
        assert {f"{split}/{name}" for name in ("loss", *built.metrics)} <= run.data.metrics.keys()

    table = pd.read_parquet(artifact(run, "predictions/test.parquet"))
    assert len(table) == 12
    (output,) = run.outputs.model_outputs
    served = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    require_same(served.predict(example_of(built.inputs(table))), built.answers(table))
    require_answers(predict(run.info.run_id, cfg.data.test, tmp_path), table)


@pytest.mark.parametrize(
    ("task", "method", "architecture"),
    [pytest.param(*c, marks=[] if c[2] in ("bert", "gpt2") else pytest.mark.slow) for c in REFUSED],
    ids=["-".join(c) for c in REFUSED],
)
def test_a_cell_that_makes_no_sense_is_refused_in_one_line(
    cell: TrainCell, task: str, method: str, architecture: str
) -> None:
    before = {run.info.run_id for run in all_runs()}
    with pytest.raises(SystemExit) as caught:
        cell(task, method, architecture)
    message = str(caught.value.code)
    remedy = find_remedy(task, method, architecture)
    assert remedy is not None
    assert remedy in message
    assert "\n" not in message
    # What the config alone shows is refused before there is a run.
    for run in all_runs():
        if run.info.run_id not in before:
            assert run.info.status == "FAILED"
            assert not any(name.startswith("train/") for name in run.data.metrics)


@pytest.mark.slow
@pytest.mark.usefixtures("warm_processes")
@pytest.mark.parametrize(
    ("task", "method", "architecture"), DIAGONAL, ids=["-".join(c) for c in DIAGONAL]
)
def test_a_rerun_gives_the_same_bits(
    cell: TrainCell, capfd: pytest.CaptureFixture[str], task: str, method: str, architecture: str
) -> None:
    run = cell(task, method, architecture, "tracking.log_model=false")
    capfd.readouterr()
    assert main(["rerun", run.info.run_id]) == 0
    found = re.search(r"\nbit-identical: (\d+) values of \d+ metrics\n$", capfd.readouterr().out)
    assert found is not None
    num_values = sum(
        len({metric.step for metric in client().get_metric_history(run.info.run_id, name)})
        for name in run.data.metrics
        if not name.startswith(("speed/", "model/"))
    )
    assert int(found[1]) == num_values > 20
    (again,) = all_runs(f"tags.`tunetrail.rerun_of` = '{run.info.run_id}'")
    assert again.data.tags["tunetrail.rerun"] == "bit-identical"


@pytest.mark.slow
# Those of text classification are tested in studies/finals.
@pytest.mark.parametrize("task", [task for task in TASKS if task != "text_classification"])
def test_a_study_ends_with_finals_and_a_champion_that_answers(
    cell: TrainCell, tmp_path: Path, task: str
) -> None:
    cell(
        task, METHODS[-1], PLAIN[task], "-m", f"study={task}", f"registry.name={task}",
        "trainer.num_train_epochs=1,2", "sweep.num_trials=2", "sweep.finalists=1",
    )  # fmt: skip
    (parent,) = all_runs(f"attributes.run_name = '{task}'")
    assert parent.data.tags["tunetrail.registered"] == f"{task}/1"
    winner = client().get_run(parent.data.tags["tunetrail.winner_run"])
    assert winner.data.tags["tunetrail.study"] == f"{task}-finals-2"
    cfg = OmegaConf.load(artifact(winner, "config.yaml"))
    measured = {f"test/{name}" for name in ("loss", *instantiate(cfg.task).metrics)}
    assert measured <= winner.data.metrics.keys()
    # One number of the study's own, with its interval.
    assert f"test/{cfg.task.main_metric}" in measured & parent.data.metrics.keys()
    table = pd.read_parquet(artifact(winner, "predictions/test.parquet"))
    require_answers(predict(f"{task}@champion", cfg.data.test, tmp_path), table)


def test_a_model_without_a_head_for_the_task_is_refused_in_one_line(cell: TrainCell) -> None:
    with pytest.raises(SystemExit) as caught:
        cell("token_classification", "full", "opt")
    message = str(caught.value.code)
    assert "cannot be loaded by AutoModelForTokenClassification" in message
    assert "\n" not in message
    assert all_runs()[0].info.status == "FAILED"


@pytest.mark.parametrize(
    ("task", "method", "cause"),
    [
        # One that gives scores is fast.
        pytest.param(
            task, method, cause,
            marks=pytest.mark.slow if method == "NoHead" or task not in COMPARED else [],
            id=f"{task}-{said}",
        )
        for task in TASKS
        for method, cause, said in (
            ("OtherHead", "the logged model answers {", "another head"),
            ("NoHead", "the logged model does not answer", "no head"),
        )
    ],
)  # fmt: skip
def test_a_run_fails_whose_logged_model_answers_otherwise_and_leaves_no_model(
    cell: TrainCell, task: str, method: str, cause: str
) -> None:
    before = {*Path("mlruns/artifacts").rglob("*.safetensors")}
    with pytest.raises(SystemExit) as caught:
        cell(task, "full", PLAIN[task], f"method._target_=toys.{method}")
    message = str(caught.value.code)
    assert message.startswith(f"error: {cause}")
    assert "\n" not in message
    run = all_runs()[0]
    assert run.info.status == "FAILED"
    assert run.data.tags["tunetrail.failure"] == f"InputError: {message.removeprefix('error: ')}"
    assert run.outputs.model_outputs == []
    models = client().search_logged_models([run.info.experiment_id])
    assert run.info.run_id not in {model.source_run_id for model in models}
    assert {*Path("mlruns/artifacts").rglob("*.safetensors")} == before
