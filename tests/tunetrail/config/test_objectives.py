"""What a run returns to a study: named in the config, with a direction that is looked up."""

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from tunetrail.config.objectives import direction, list_measured, read_objectives
from tunetrail.errors import InputError

TASK = "tunetrail.tasks.text_classification.TextClassification"


def read(objectives: object, main_metric: str = "accuracy") -> dict[str, str]:
    task = {"_target_": TASK, "max_length": 8, "padding": "longest", "main_metric": main_metric}
    return read_objectives(OmegaConf.create({"task": task, "sweep": {"objectives": objectives}}))


def test_a_name_and_a_list_of_names_are_read() -> None:
    assert read("validation/${task.main_metric}") == {"validation/accuracy": "maximize"}
    assert read("validation/${task.main_metric}", "macro_f1") == {"validation/macro_f1": "maximize"}
    assert list(read(["gap/loss", "validation/accuracy"]).items()) == [
        ("gap/loss", "minimize"),
        ("validation/accuracy", "maximize"),
    ]


def test_every_measured_value_has_a_direction() -> None:
    metrics = {
        "accuracy": SimpleNamespace(greater_is_better=True),
        "perplexity": SimpleNamespace(greater_is_better=False),
    }
    found = {name: direction(name, metrics) for name in list_measured(metrics)}
    assert {name for name, way in found.items() if way == "maximize"} == {
        "validation/accuracy", "train/accuracy", "speed/train_samples_per_second",
    }  # fmt: skip
    minimised = {"validation/perplexity", "gap/accuracy", "train/loss", "epoch", "speed/seconds"}
    assert minimised < found.keys()


@pytest.mark.parametrize("given", [{"validation/accuracy": "maximize"}, None, [], [3]])
def test_another_form_is_refused_with_the_right_one(given: object) -> None:
    with pytest.raises(
        InputError, match=r"^sweep\.objectives=.*: must be a name or a list"
    ) as error:
        read(given)
    assert "sweep.objectives=validation/accuracy" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_name_is_refused_with_what_there_is() -> None:
    with pytest.raises(
        InputError, match=r"^sweep\.objectives=gap/f1: no such metric \(found: vali"
    ):
        read(["validation/loss", "gap/f1"])


def test_a_name_that_stands_there_twice_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"^sweep\.objectives=\[.*\]: has gap/loss more than once; name each"
    ):
        read(["gap/loss", "validation/loss", "gap/loss"])
