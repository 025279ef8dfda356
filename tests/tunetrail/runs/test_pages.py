"""Which page of MLflow is opened for what a person names."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from stores import dump, refuse_tags

from tunetrail.errors import InputError
from tunetrail.runs.pages import find_page
from tunetrail.tracking.store import connect


@dataclass
class Shelf:
    """A store with two studies, the first with finals, and a run of its own."""

    uri: str
    client: MlflowClient
    ids: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, *, study: str = "", trial: str = "", below: str = "") -> None:
        tags = {"tunetrail.study": study, "tunetrail.trial": trial}
        tags["mlflow.parentRunId"] = self.ids.get(below, "")
        run = self.client.create_run(
            "0",
            run_name=name,
            # As many milliseconds apart as no clock is exact.
            start_time=1_000_000 + 1000 * len(self.ids),
            tags={key: value for key, value in tags.items() if value},
        )
        self.ids[name] = run.info.run_id

    def name_of(self, path: str) -> str:
        """The run that a page shows, or the study with its view."""
        [name] = [name for name, run_id in self.ids.items() if run_id in path]
        assert path.startswith("/#/experiments/0/runs")
        assert "workflowType=machine_learning" in path
        if "viewStateShareKey=" in path:
            assert "compareRunsMode=CHART" in path
            return f"view of {name}"
        return name


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Shelf:
    path = tmp_path_factory.mktemp("shelf") / "mlflow.db"
    shutil.copy(empty_store, path)
    shelf = Shelf(f"sqlite:///{path}", connect(f"sqlite:///{path}"))
    shelf.put("first", study="first")
    shelf.put("trial of first", study="first", trial="0", below="first")
    shelf.put("it's", study="it's")
    shelf.put("trial of it's", study="it's", trial="0", below="it's")
    shelf.put("first-finals-2", study="first-finals-2", below="first")
    shelf.put("final", study="first-finals-2", trial="0", below="first-finals-2")
    shelf.put("alone")
    shelf.put("gone")
    shelf.client.delete_run(shelf.ids["gone"])
    return shelf


def test_what_is_named_is_opened_and_without_a_name_the_newest_study(shelf: Shelf) -> None:
    wanted = {
        # The newest trial is of the finals of the first study.
        None: "view of first",
        "first": "view of first",
        "it's": "view of it's",
        "first-finals-2": "view of first-finals-2",
        "alone": "alone",
        "trial of it's": "trial of it's",
        shelf.ids["final"]: "final",
        shelf.ids["final"][:8]: "final",
        shelf.ids["first"]: "first",
    }
    found = {asked: shelf.name_of(find_page(asked, uri=shelf.uri).path) for asked in wanted}
    assert found == wanted


@pytest.mark.parametrize("was_shown", [True, False])
def test_a_store_that_can_only_be_read_is_shown_and_stays_as_it_was(
    tmp_path: Path, empty_store: Path, caplog: pytest.LogCaptureFixture, was_shown: bool
) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(empty_store, path)
    shelf = Shelf(f"sqlite:///{path}", connect(f"sqlite:///{path}"))
    shelf.put("s", study="s")
    shelf.put("alone")
    if was_shown:
        find_page("s", uri=shelf.uri)
    refuse_tags(path)
    before = dump(path)
    # MLflow shows no view that is not there.
    wanted = {"s": "view of s" if was_shown else "s", "alone": "alone"}
    found = {asked: shelf.name_of(find_page(asked, uri=shelf.uri).path) for asked in wanted}
    assert found == wanted
    assert dump(path) == before
    refused = [record.getMessage().partition(":")[0].split()[-1] for record in caplog.records]
    assert refused == ([] if was_shown else ["study", "experiment"])


def test_what_is_not_there_is_refused_in_a_line(shelf: Shelf, tmp_path: Path) -> None:
    wanted = {
        "frist": "no study and no run frist in .*; did you mean first\\?",
        "a'\"b": "no study and no run",
        "": "no study and no run",
        "f" * 32: "no study and no run",
        shelf.ids["gone"]: "was deleted; restore it with",
    }
    for asked, message in wanted.items():
        with pytest.raises(InputError, match=message) as caught:
            find_page(asked, uri=shelf.uri)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"no store in .*/none\.db; give another with"):
        find_page(None, uri=f"sqlite:///{tmp_path}/none.db")
    assert not list(tmp_path.iterdir())


def test_a_store_without_a_study_shows_its_newest_run(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(InputError, match=r"has no run yet; python train\.py makes one"):
        find_page(None, uri=uri)
    shelf = Shelf(uri, connect(uri))
    shelf.put("older")
    shelf.put("newer")
    assert shelf.name_of(find_page(None, uri=uri).path) == "newer"
