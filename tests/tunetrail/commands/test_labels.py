"""``tunetrail labels``: the labels of a run that are probably wrong, for an annotator."""

import json
from pathlib import Path

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from toys import fill_workspace, make_rows, run_here, tiny_overrides, write_csv

from tunetrail.__main__ import main

PLANTED = {3, 50}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, tiny_gpt2: Path) -> Path:
    """A workspace with a run on rows of which two have a wrong label, one of them a formula."""
    folder = tmp_path_factory.mktemp("labelled")
    fill_workspace(folder, empty_store)
    rows = make_rows(150, seed=1)
    for index in PLANTED:
        text, label = rows[index]
        rows[index] = (f"=1+1 {text}", "positive" if label == "negative" else "negative")
    write_csv(folder / "train.csv", rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_here(
            patch, *tiny_overrides(tiny_gpt2), "trainer.num_train_epochs=1", "task.max_length=12"
        )
    return folder


@pytest.fixture
def run_id(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(labelled)
    (table,) = (labelled / "mlruns" / "artifacts").glob("*/artifacts/reports/suspects.csv")
    return table.parents[2].name


def read(run_id: str, name: str) -> str:
    return Path(f"mlruns/artifacts/{run_id}/artifacts/reports/{name}").read_text("utf-8")


def test_the_table_names_what_was_planted_and_runs_no_formula(
    run_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "suspects.csv"
    assert main(["labels", run_id[:8], "--output", str(path)]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    train = table[table["split"] == "train"]
    assert set(map(int, train["row"])) == PLANTED
    assert train["text"].str.startswith("'=1+1").all()
    assert list(table)[-1] == "corrected_label"
    assert not table["corrected_label"].any()
    assert main(["labels", run_id]) == 0
    assert capsys.readouterr().out == path.read_text("utf-8-sig")


def test_the_trained_model_judges_validation(run_id: str) -> None:
    report = json.loads(read(run_id, "suspects.json"))
    judged = [(one["model"], one["split"], one["num_judged"]) for one in report["judged"]]
    assert ("trained model", "validation", 30) in judged
    assert ("linear model before training", "train", 150) in judged


def test_the_report_of_quality_says_how_many_tokens_are_cut(run_id: str) -> None:
    report = json.loads(read(run_id, "data_quality.json"))
    train = report["splits"][0]["tokens"]
    assert train["num_cut_rows"] > 0
    assert train["tokens"]["maximum"] > 12
    assert 0 < train["cut_tokens_share"] < 1
    assert "| tokens that are cut |" in read(run_id, "data_quality.md")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["0123456789abcdef"], "is not in"),
        (["nothing"], "is no id of a run"),
        (["RUN", "--output", "suspects.xlsx"], "give a name that ends in .csv"),
        (["RUN", "--output", "nowhere/suspects.csv"], "there is no folder"),
    ],
)
def test_what_cannot_be_written_is_one_line(
    run_id: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [run_id if argument == "RUN" else argument for argument in arguments]
    assert main(["labels", *given]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("content", [None, "no,table\n1,2\n", '"never closed', ""])
def test_a_table_that_others_have_changed_is_one_line(
    run_id: str, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(f"mlruns/artifacts/{run_id}/artifacts/reports/suspects.csv")
    kept = path.read_text("utf-8")
    try:
        path.unlink() if content is None else path.write_text(content, "utf-8")
        assert main(["labels", run_id]) == 1
    finally:
        path.write_text(kept, "utf-8")
    assert "suspects.csv" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_is_the_same_with_its_checks_on_and_off(
    workspace: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(workspace / "train.csv", make_rows(60, seed=1, noise=0.2))
    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    metrics = []
    for policy in ("warn", "off"):
        run_here(monkeypatch, *tiny, f"checks.labels={policy}", f"checks.quality={policy}")
        run, *_ = client.search_runs([e.experiment_id for e in client.search_experiments()])
        folder = Path(f"mlruns/artifacts/{run.info.run_id}/artifacts/reports")
        assert (folder / "suspects.csv").exists() == (policy == "warn")
        found = run.data.metrics.items()
        metrics.append({name: value for name, value in found if not name.startswith("speed/")})
    assert metrics[0] == metrics[1]
    assert metrics[0]["best/validation/loss"] > 0
