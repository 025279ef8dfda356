"""The winner of a study, from real finals: scored on test once, compared, registered, reported."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pandas as pd
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial
from PIL import Image
from servers import Server
from toys import fill_workspace, make_rows, run_here, tiny_overrides, write_csv

from tunetrail.errors import InputError
from tunetrail.evaluation import held_out as scoring
from tunetrail.studies.callback import TrackStudy
from tunetrail.studies.finals import winner
from tunetrail.tracking import recording, registry
from tunetrail.tracking.store import connect

pytestmark = pytest.mark.slow

STORE = "sqlite:///mlruns/mlflow.db"
STORAGE = "sqlite:///mlruns/optuna.db"
RATE = "trainer.learning_rate"
NAME = "tunetrail-files"
TRACKING = {
    "uri": STORE,
    "experiment": "tunetrail",
    "artifact_dir": "mlruns/artifacts",
    "checkpoint_dir": "mlruns/checkpoints",
    "log_model": True,
}


def config(**changes: Any) -> DictConfig:
    values = {
        "seed": 1,
        "score_test": False,
        "tracking": TRACKING,
        "cache_dir": "mlruns/cache",
        "registry": {"name": NAME},
        "sampler": {"_target_": "sampler"},
        "pruner": {"_target_": "pruner"},
        "sweep": {"constraints": {}},
    }
    return OmegaConf.merge(values, changes)


class Finals:
    """A study and its finals, as the sweeper leaves them; only the finals have runs."""

    def __init__(
        self, run: Callable[..., Any], name: str = "s", *, seeds: int = 2, uri: str = STORE
    ) -> None:
        self.run, self.seeds = run, seeds
        self.client = connect(uri)
        self.tracking = {**TRACKING, "uri": uri}
        self.study = self._open(name)
        self.finals = self._open(f"{name}-finals-{seeds}")
        self.finals.set_user_attr("final_of", name)
        self.finalists: dict[int, int] = {}

    def _open(self, name: str) -> optuna.Study:
        study = optuna.create_study(study_name=name, storage=STORAGE, direction="maximize")
        study.set_user_attr("objectives", {"validation/accuracy": "maximize"})
        study.set_user_attr("search_space", {RATE: "interval(0,1)"})
        study.set_user_attr("fixed_overrides", {})
        self.track(study)
        return study

    def track(self, study: optuna.Study) -> TrackStudy:
        """What a new process does."""
        track = TrackStudy(OmegaConf.create(self.tracking), 1)
        track.on_study_start(study, config())
        return track

    def add(self, rate: float, searched: float, *overrides: str, **attrs: Any) -> int:
        """A trial of the search, and the same point trained again; its number in the finals."""
        distributions = {RATE: FloatDistribution(0, 1)}
        self.study.add_trial(
            create_trial(
                params={RATE: rate}, distributions=distributions, value=searched, user_attrs=attrs
            )
        )
        self.finals.enqueue_trial({RATE: rate})
        asked = self.finals.ask(distributions)
        values: list[list[float]] = []
        for repeat in range(self.seeds):
            value = self.run(
                f"{RATE}={rate}", f"trial.storage={STORAGE}",
                f"trial.study={self.finals.study_name}", f"trial.number={asked.number}",
                f"++trial.repeat={repeat}", f"++trial.num_repeats={self.seeds}",
                f"training_seed={50 + repeat}", "pruner=none", "trainer.save_only_model=true",
                *overrides,
            )  # fmt: skip
            values.append([value])
            asked.set_user_attr("repeats", values)
        self.finals.tell(asked, sum(value[0] for value in values) / self.seeds)
        self.track(self.finals)
        self.finalists[self.study.trials[-1].number] = asked.number
        return asked.number

    def end(self, **changes: Any) -> list[str]:
        """What the plugin does last; returns the lines of the console."""
        records: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
        logger = logging.getLogger("tunetrail.studies.callback")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            self.track(self.study).on_finals_end(
                self.study, self.finals, self.finalists, config(**changes)
            )
        finally:
            logger.removeHandler(handler)
        return records

    def runs_of(self, final: int) -> list[Run]:
        found = self.client.search_runs(
            [self.parent.info.experiment_id],
            f"tags.`tunetrail.study` = '{self.finals.study_name}' "
            f"and tags.`tunetrail.trial` = '{final}'",
        )
        return sorted(found, key=lambda run: run.data.tags["tunetrail.repeat"])

    @property
    def parent(self) -> Run:
        return self.client.get_run(self.study.user_attrs["mlflow_run_id"])

    def artifact(self, path: str, run: Run | None = None) -> Path:
        run = run or self.parent
        return Path(run.info.artifact_uri.removeprefix("file://")) / path

    def versions(self) -> list[Any]:
        found = self.client.search_model_versions(f"name='{NAME}'")
        return [self.client.get_model_version(NAME, v) for v in sorted(v.version for v in found)]


def width(path: Path) -> int:
    with Image.open(path) as image:
        return image.width


@pytest.fixture
def run(workspace: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    write_csv(workspace / "test.csv", make_rows(45, seed=3))
    return lambda *overrides: run_here(monkeypatch, *tiny, "data.test=test.csv", *overrides)


@pytest.fixture(scope="module")
def played(
    tmp_path_factory: pytest.TempPathFactory, empty_store: Path, tiny_gpt2: Path
) -> Iterator[Finals]:
    """A default config that learns nothing, a point that does, and the lines at the end."""
    folder = tmp_path_factory.mktemp("winner")
    fill_workspace(folder, empty_store)
    write_csv(folder / "test.csv", make_rows(45, seed=3))
    tiny = [*tiny_overrides(tiny_gpt2), "data.test=test.csv", "trainer.num_train_epochs=4"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        finals = Finals(lambda *overrides: run_here(patch, *tiny, *overrides))
        finals.add(1e-6, 0.3, enqueued="default")
        finals.add(4e-3, 1.0)
        finals.said = finals.end()  # type: ignore[attr-defined]
        yield finals


def test_the_winner_alone_is_scored_on_test(played: Finals) -> None:
    scored = [run for final in (0, 1) for run in played.runs_of(final)
              if any(name.startswith("test/") for name in run.data.metrics)]  # fmt: skip
    last = played.runs_of(1)[-1]
    assert [run.info.run_id for run in scored] == [last.info.run_id]
    metrics = scored[0].data.metrics
    table = pd.read_parquet(played.artifact("predictions/test.parquet", last))
    assert len(table) == 45
    assert metrics["test/accuracy"] == (table["target"] == table["prediction"]).mean() > 0.6
    for name in ("accuracy", "macro_f1", "macro_precision", "macro_recall"):
        low, high = metrics[f"test/{name}_low"], metrics[f"test/{name}_high"]
        assert low <= metrics[f"test/{name}"] <= high
    assert width(played.artifact("figures/confusion_matrix_test.png", last)) > 300
    parent = played.parent.data.metrics
    names = [f"test/accuracy{ending}" for ending in ("", "_low", "_high")]
    assert {name: parent[name] for name in names} == {name: metrics[name] for name in names}
    assert {name for name in parent if name.startswith("test/")} == set(names)
    history = played.client.get_metric_history(played.parent.info.run_id, "test/accuracy")
    assert [one.step for one in history] == [0]
    contexts = {one.tags[0].value for one in last.inputs.dataset_inputs}
    assert contexts == {"train", "validation", "test"}
    (found,) = played.client.search_runs(
        [played.parent.info.experiment_id], "dataset.context = 'test'"
    )
    assert found.info.run_id == last.info.run_id
    # It leads to the winner, and the winner is marked.
    assert (
        f"[the winner](#/experiments/{last.info.experiment_id}/runs/{last.info.run_id})"
        in (played.parent.data.tags["mlflow.note.content"])
    )
    assert last.info.run_name == "★ trial 1 · seed 51"


def test_the_saved_weights_score_what_the_training_run_would_have(
    played: Finals, tiny_gpt2: Path
) -> None:
    last = played.runs_of(1)[-1]
    with pytest.MonkeyPatch.context() as patch:
        tiny = [*tiny_overrides(tiny_gpt2), "data.test=test.csv", "trainer.num_train_epochs=4"]
        alone = ("tracking.experiment=alone", "training_seed=51", "score_test=true")
        run_here(patch, *tiny, f"{RATE}=4e-3", *alone)
    experiment = played.client.get_experiment_by_name("alone")
    (single,) = played.client.search_runs([experiment.experiment_id])
    tables = [
        pd.read_parquet(played.artifact("predictions/test.parquet", run)) for run in (last, single)
    ]
    pd.testing.assert_frame_equal(*tables)
    names = [name for name in single.data.metrics if name.startswith("test/")]
    assert {n: single.data.metrics[n] for n in names} == {n: last.data.metrics[n] for n in names}


def test_the_report_says_what_is_more_than_noise(played: Finals) -> None:
    report = played.artifact("report.md").read_text()
    assert report.index("## Winner: trial 1") < report.index("## Best: trial 1")
    assert "better than the default config by more than noise: gain in accuracy +" in report
    assert "(30 validation rows, 2 seeds)" in report
    assert "better than the majority class (negative) by more than noise" in report
    assert "No other model of this study was measured on it." in report
    assert f"`{NAME}` version 1, alias `champion`" in report
    table = [line for line in report.splitlines() if line.startswith("| trial 1 ")]
    assert table[0].count("|") == 6
    assert width(played.artifact("figures/finals.png")) > 500


def test_the_console_has_a_line_for_each_fact(played: Finals) -> None:
    said = played.said  # type: ignore[attr-defined]
    heads = [line.split()[0] for line in said]
    # What it is worth beside the default config, and three baselines, the best of them first.
    assert heads == ["winner", "worth", "test", *["against"] * 3, "registered"]
    assert said[1][13:].startswith("The search bought more than noise over the default config")
    assert " (trial 0): gain in accuracy +" in said[1]
    assert " s instead of " in said[1]
    assert "a linear model of words, the best baseline, " in said[3]
    assert all(line[12] == " " != line[13] for line in said)


def test_a_version_leads_back_to_where_it_came_from(played: Finals) -> None:
    (version,) = played.versions()
    last = played.runs_of(1)[-1]
    assert version.aliases == ["champion"]
    assert version.run_id == last.info.run_id
    tags = version.tags
    assert tags["tunetrail.trial"] == "1"
    assert tags["tunetrail.study"] == "s"
    assert tags["tunetrail.data_fingerprint"] == last.data.tags["tunetrail.data_fingerprint"]
    assert float(tags["tunetrail.test_score"]) == last.data.metrics["test/accuracy"]
    assert len(tags["tunetrail.test_fingerprint"]) == 16
    path = played.client.download_artifacts(last.info.run_id, "config.yaml")
    assert tags["tunetrail.config"] == f"runs:/{last.info.run_id}/config.yaml"
    assert "learning_rate: 0.004" in Path(path).read_text()


def test_the_card_is_on_the_version_the_run_and_the_files(played: Finals) -> None:
    (version,) = played.versions()
    last = played.runs_of(1)[-1]
    card = played.artifact("model_card.md", last).read_text()
    assert version.description.startswith(f"# {NAME}\n")
    title, links, rest = version.description.split("\n\n", 2)
    assert links.startswith(f"See [its run](#/experiments/{last.info.experiment_id}/runs/")
    assert card.endswith(f"---\n\n{title}\n\n{rest}\n")
    assert "Each gain in accuracy is a mean over the same rows" in card
    (output,) = last.outputs.model_outputs
    folder = played.client.get_logged_model(output.model_id).artifact_location
    assert Path(folder.removeprefix("file://"), "model_card.md").read_text() == card
    for title in (
        "Data",
        "Training",
        "Results",
        "Limits",
        "Use it from its store, and run it again",
    ):
        assert f"\n## {title}\n" in card
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: text-classification\n")
    assert f"tunetrail rerun {last.info.run_id}" in card
    assert f"tunetrail predict {NAME}/1" in card
    assert "Texts are cut after 128 tokens" in card
    assert card.count("not known here") == 2  # licences of a file and of a folder
    assert "| test | 45 | `" in card


def test_the_champion_answers_with_label_names(played: Finals) -> None:
    loaded = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    table = pd.read_parquet(played.artifact("predictions/test.parquet", played.runs_of(1)[-1]))
    answers = loaded.predict(table[["text"]])
    assert answers["label"].tolist() == table["prediction"].tolist()


def test_registered_weights_are_never_deleted(run: Callable[..., Any], workspace: Path) -> None:
    """The study continues, and another point wins: only that would be kept."""
    finals = Finals(run, seeds=1)
    finals.add(1e-6, 0.3, enqueued="default")
    finals.end()
    finals.add(4e-3, 1.0, "trainer.num_train_epochs=4")
    said = finals.end()
    assert said[0].startswith("winner       trial 1: ")
    assert {version.version: version.aliases for version in finals.versions()} == {
        1: [],
        2: ["champion"],
    }
    assert "of version 1, the champion until then," in said[-1]
    against = finals.versions()[1].tags["tunetrail.against_champion"]
    assert against.startswith("version 1: gain in accuracy +")
    finals.track(finals.finals)
    for version in (1, 2):
        mlflow.pyfunc.load_model(f"models:/{NAME}/{version}").predict([{"text": "a good day"}])
    report = finals.artifact("report.md").read_text()
    assert "2 models of this study were measured on it" in report
    assert "One seed each" in report
    assert finals.study.user_attrs["test_looks"] == [
        finals.runs_of(final)[0].info.run_id for final in (0, 1)
    ]


STEPS = [
    (scoring, "score_test"),
    (recording, "log_test"),
    (registry, "register"),
    (registry, "describe"),
    (winner, "_log_conclusion"),
]


def test_the_same_command_completes_the_end_and_repeats_nothing(
    run: Callable[..., Any], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after each step of the end, as by a kill."""
    finals = Finals(run, seeds=1)
    finals.add(4e-3, 0.9, enqueued="default")
    real = [getattr(module, name) for module, name in STEPS]
    for (module, name), function in zip(STEPS, real, strict=True):

        def stop(*args: Any, _function: Any = function, **options: Any) -> Any:
            _function(*args, **options)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(module, name, stop)
            with pytest.raises(KeyboardInterrupt):
                finals.end()
    first = finals.end()
    assert first == finals.end()
    assert [version.aliases for version in finals.versions()] == [["champion"]]
    (scored,) = finals.runs_of(0)
    assert len(finals.client.get_metric_history(scored.info.run_id, "test/loss")) == 1
    assert finals.study.user_attrs["test_looks"] == [scored.info.run_id]
    assert "The winner is the default config" in finals.artifact("report.md").read_text()

    # what is done is neither loaded nor written again
    shutil.rmtree(workspace / "mlruns" / "artifacts" / "models", ignore_errors=True)
    (workspace / "test.csv").unlink()
    assert finals.end() == first


@pytest.mark.parametrize(
    ("overrides", "changes", "left_out", "versions"),
    [
        (["data.test=null"], {}, "there is no test split", [["challenger"]]),
        (
            ["tracking.log_model=false"],
            {"tracking": {"log_model": False}},
            "tracking.log_model=false keeps no weights",
            [],
        ),
        ([], {"registry": {"name": None}}, None, []),
    ],
    ids=["no test", "no weights", "no registry"],
)
def test_a_step_that_fails_is_one_line_and_the_others_are_done(
    run: Callable[..., Any],
    overrides: list[str],
    changes: dict[str, Any],
    left_out: str | None,
    versions: list[list[str]],
) -> None:
    finals = Finals(run, seeds=1)
    finals.add(4e-3, 0.9, *overrides)
    said = finals.end(**changes)
    assert said[0].startswith("winner       trial 0: ")
    notes = [line for line in said if line.startswith("left out")]
    assert any(left_out in note for note in notes) if left_out else len(notes) == 1
    assert any("the default config: it is not among the finalists" in note for note in notes)
    assert [version.aliases for version in finals.versions()] == versions
    assert "## Winner: trial 0" in finals.artifact("report.md").read_text()


def test_changed_data_is_not_scored_and_the_same_command_completes_the_end(
    run: Callable[..., Any], workspace: Path
) -> None:
    finals = Finals(run, seeds=1)
    finals.add(4e-3, 0.9, enqueued="default")
    before = (workspace / "test.csv").read_text()
    write_csv(workspace / "test.csv", make_rows(45, seed=4))
    said = finals.end()
    assert "the data is not what the winner was trained on" in said[-1]
    assert [version.aliases for version in finals.versions()] == [["challenger"]]
    (workspace / "test.csv").write_text(before)
    said = finals.end()
    assert any(line.startswith("test         accuracy") for line in said)
    (version,) = finals.versions()
    assert sorted(version.aliases) == ["champion"]


def test_a_record_that_was_changed_reads_no_other_file(
    run: Callable[..., Any], workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What an error says of a file would be in the store: its first line, as names of columns."""
    finals = Finals(run, seeds=1)
    final = finals.add(4e-3, 0.9, enqueued="default")
    private = tmp_path_factory.mktemp("home") / "private.csv"
    private.write_text("precious,words\n1,2\n")
    record = finals.artifact("config.yaml", finals.runs_of(final)[0])
    record.write_text(record.read_text().replace("train: train.csv", f"train: {private}"))
    said = finals.end()
    assert f"test and baselines: data.source.train={private}: " in said[-1]
    assert "precious" not in "\n".join(said) + finals.artifact("report.md").read_text()


def test_a_server_holds_it_all_as_well(run: Callable[..., Any], workspace: Path) -> None:
    server = Server(workspace)
    server.start()
    try:
        finals = Finals(lambda *o: run(f"tracking.uri={server.uri}", *o), seeds=1, uri=server.uri)
        finals.add(4e-3, 0.9, enqueued="default")
        said = finals.end()
        assert said[-1] == (
            f"registered   {NAME} version 1, champion: the first version with a test score"
        )
        (last,) = finals.runs_of(0)
        path = finals.client.download_artifacts(last.info.run_id, "predictions/test.parquet")
        table = pd.read_parquet(path)
        answers = mlflow.pyfunc.load_model(f"models:/{NAME}@champion").predict(table[["text"]])
        assert answers["label"].tolist() == table["prediction"].tolist()
        card = finals.client.download_artifacts(last.info.run_id, "model_card.md")
        title, _links, rest = finals.versions()[0].description.split("\n\n", 2)
        assert f"{title}\n\n{rest}" in Path(card).read_text()
    finally:
        server.stop()


def test_no_usable_finalist_is_reported(run: Callable[..., Any], workspace: Path) -> None:
    finals = Finals(run, seeds=1)
    with pytest.raises(InputError, match="the study has no winner"):
        finals.end()
    assert "## Winner: none" in finals.artifact("report.md").read_text()
    assert json.loads(finals.artifact("reports/winner.json").read_text())["complete"] is True


def test_a_registry_that_refuses_does_not_fail_the_study(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's model of the same name, while its version of the same number is being made."""
    finals = Finals(run, seeds=1)
    finals.add(4e-3, 0.9, enqueued="default")
    with monkeypatch.context() as patch:

        def refuse(*args: Any, **options: Any) -> None:
            raise mlflow.exceptions.MlflowException("not for you")

        patch.setattr(MlflowClient, "create_registered_model", refuse)
        said = finals.end()
    assert f"registry.name={NAME}: the model registry refused (not for you)" in said[-1]
    assert any(line.startswith("test ") for line in said)
    assert any(line.startswith("registered") for line in finals.end())
