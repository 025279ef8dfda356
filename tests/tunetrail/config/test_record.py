"""What is recorded of a config, and what two configs must have in common."""

from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from toys import ROOT

from tunetrail.config import secrets
from tunetrail.config.record import (
    flatten_params,
    list_differences,
    record,
    require_same_settings,
)
from tunetrail.errors import InputError

CONFIG = """
direct: ${oc.env:PLANTED}
inside: sqlite:///${oc.env:PLANTED}/runs.db
through: ${direct}
through_node: ${nested}
nested:
  deep: [1, "${oc.env:PLANTED}"]
  both: ${oc.env:PLANTED}-${oc.env:OTHER,else}
with_default: ${oc.env:PLANTED,else}
not_set: ${oc.env:NOT_SET,else}
chained: ${oc.env:NOT_SET,${oc.env:PLANTED}}
number: ${oc.decode:${oc.env:NUMBER}}
chosen: ${by_name.${oc.env:PLANTED}}
by_name: {planted-marker: 7}
selected: ${oc.select:direct}
rate: 1.0e-05
login: {user: me, password: marker}
hub_token: marker
pad_token: <pad>
note: hf_AbCdEfGhIjKlMnOpQrStUv
uri: http://me:marker@host
"""


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> DictConfig:
    monkeypatch.setattr(secrets, "_read", set())
    monkeypatch.setenv("PLANTED", "planted-marker")
    monkeypatch.setenv("NUMBER", "3")
    loaded = OmegaConf.create(CONFIG)
    assert isinstance(loaded, DictConfig)
    return loaded


def test_what_the_environment_gave_is_recorded_by_its_name(config: DictConfig) -> None:
    planted = "${oc.env:PLANTED}"
    assert record(config) == {
        "direct": planted,
        "inside": f"sqlite:///{planted}/runs.db",
        "through": planted,
        "through_node": {"deep": [1, planted], "both": f"{planted}-else"},
        "nested": {"deep": [1, planted], "both": f"{planted}-else"},
        "with_default": planted,
        "not_set": "else",
        "chained": planted,
        "number": "${oc.decode:${oc.env:NUMBER}}",
        "chosen": "${by_name.${oc.env:PLANTED}}",
        "by_name": {planted: 7},
        "selected": planted,
        "rate": 1e-05,
        "login": {"user": "me", "password": "***"},
        "hub_token": "***",
        "pad_token": "<pad>",
        "note": "***",
        "uri": "http://***@host",
    }
    # the run itself uses the values, before and after
    assert (config.direct, config.number, config.chosen) == ("planted-marker", 3, 7)
    # and from now on the value is hidden wherever it stands
    assert secrets.redact("no planted-marker there") == f"no {planted} there"


def test_what_is_recorded_reads_the_environment_when_it_is_loaded_again(
    config: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    del config["by_name"], config["chosen"]
    written = OmegaConf.to_yaml(OmegaConf.create(record(config)))
    assert "planted-marker" not in written
    monkeypatch.setenv("PLANTED", "another")
    loaded: Any = OmegaConf.create(written)
    assert loaded.inside == "sqlite:///another/runs.db"
    assert loaded.number == 3
    assert loaded.rate == 1e-05


def test_params_have_no_value_of_the_environment(config: DictConfig) -> None:
    assert flatten_params(record(config))["nested.both"] == "${oc.env:PLANTED}-else"


def test_a_resume_compares_redacted_values_with_redacted_values(
    config: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another value of a variable or token is not another setting; another number is."""
    written = OmegaConf.to_yaml(OmegaConf.create(record(config)))
    monkeypatch.setenv("NUMBER", "4")
    config.hub_token = "another"
    require_same_settings(config, written, run_id="r")
    config.rate = 2e-5
    config.login.user = "you"
    with pytest.raises(InputError) as caught:
        require_same_settings(config, written, run_id="r")
    assert "login.user: me -> you; rate: 1e-05 -> 2e-05" in str(caught.value)


def test_only_what_is_not_a_default_differs_from_the_defaults() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        changed = ["trainer.learning_rate=0.1", "training_seed=1", "study=s"]
        recorded = record(compose("config", changed))
    # What follows from a seed differs, too; the name of a study decides nothing.
    seeds = dict.fromkeys(("training_seed", "trainer.seed", "trainer.data_seed"), 1)
    found = list_differences(recorded)
    assert {**seeds, "trainer.learning_rate": 0.1}.items() <= found.items()
    assert len(found) < 6
