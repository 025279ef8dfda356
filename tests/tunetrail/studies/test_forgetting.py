"""What the trials of a study forgot, beside their scores."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from toys import make_texts, write_lines

from tunetrail.studies.forgetting import describe_forgotten, plot_forgotten

TABLE = pd.DataFrame(
    {
        "trial": [2, 0, 1],
        "approach": ["full", "lora", "frozen"],
        "runs": [1, 1, 1],
        "validation/accuracy": [0.66, 0.64, 0.61],
        "± validation/accuracy": [0.05, 0.05, 0.05],
        "forgotten": [0.4, 0.1, 0.0],
        "certainly forgotten": [0.3, 0.05, 0.0],
    }
)


def test_the_sentence_names_the_best_and_the_best_that_forgot_nothing() -> None:
    said = describe_forgotten(TABLE, "validation/accuracy")
    assert said.startswith("2 of 3 trials forgot more than noise. The best, trial 2 (full), has")
    assert "forgot +0.400" in said
    assert said.endswith("trial 1 (frozen), has 0.61.")
    without = describe_forgotten(TABLE.iloc[:2], "validation/accuracy")
    assert "the least, trial 0 (lora), forgot +0.100 and has 0.64." in without
    assert describe_forgotten(TABLE.iloc[:1], "validation/accuracy").endswith("the least of all.")
    kept = describe_forgotten(TABLE.iloc[2:], "validation/accuracy")
    assert kept.startswith("0 of 1 trial ")
    assert kept.endswith("which is no more than noise.")
    assert describe_forgotten(TABLE.iloc[:0], "validation/accuracy") == ""


def test_the_figure_has_what_was_forgotten_against_the_score_and_the_baseline() -> None:
    figure = plot_forgotten(TABLE, "validation/accuracy", baselines={"validation/accuracy": 0.4})
    (axes,) = figure.axes
    assert axes.get_xlabel() == "forgotten (nats a token, or accuracy of a probe)"
    assert axes.get_ylabel() == "validation/accuracy"
    assert [text.get_text() for text in axes.texts] == ["full", "lora", "frozen"]


def test_names_of_trials_that_are_near_each_other_do_not_overlap() -> None:
    near = [(n, f"method {n}", 1, 0.66 - n / 1000, 0.05, 0.1 + n / 5000, 0.0) for n in range(20)]
    table = pd.DataFrame(near, columns=TABLE.columns)
    (axes,) = plot_forgotten(table, "validation/accuracy", baselines={}).axes
    assert axes.texts[0].get_text() == "method 0"
    boxes = [text.get_window_extent() for text in axes.texts]
    assert 2 < len(boxes) < 20
    assert not any(box.count_overlaps(boxes[n + 1 :]) for n, box in enumerate(boxes))


@pytest.mark.slow
def test_a_study_shows_full_tuning_beside_a_frozen_body(
    train: Callable[..., Any], tiny: list[str]
) -> None:
    write_lines(Path("reference.txt"), make_texts(60, seed=8))
    train(
        "-m", *tiny, "study=forget", "method=full,frozen", "sampler=grid", "sweep.num_trials=2",
        "sweep.try_default=false", "sweep.final_seeds=0", "forgetting=text",
        "sweep.search_space={trainer.learning_rate:null,"
        "trainer.per_device_train_batch_size:null,trainer.num_train_epochs:null}",
        "forgetting.text.path=reference.txt", "forgetting.share=1", "registry.name=null",
    )  # fmt: skip
    client = MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tunetrail")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'forget'")
    folder = Path(parent.info.artifact_uri.removeprefix("file://"))
    assert (folder / "figures/forgetting.png").is_file()
    assert "## What was forgotten" in (folder / "report.md").read_text()
    # The start of both trials was measured once.
    assert len([*Path("mlruns/cache/forgetting").glob("*.json")]) == 1
