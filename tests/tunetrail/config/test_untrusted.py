"""A recorded config that was tampered with is refused by name, and nothing that it names runs."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from mlflow.tracking import MlflowClient
from omegaconf import OmegaConf
from toys import ROOT

from tunetrail.__main__ import main
from tunetrail.config.untrusted import (
    Trusted,
    build_config,
    load_project,
    parse_config,
    parse_given,
    require_safe,
)
from tunetrail.errors import InputError
from tunetrail.evaluation.held_out import load_recorded
from tunetrail.tracking.run_log import open_run

URI = "sqlite:///mlruns/mlflow.db"
Record = Callable[..., str]
# What a study's own config names.
TRUSTED = Trusted(
    load_project(ROOT).targets, frozenset({"ROWS", "NO_SUCH_VARIABLE"}), cache_dir="mine/cache"
)


@pytest.fixture
def config(tiny: list[str]) -> dict[str, Any]:
    """What a good run records."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose("config", tiny)
    plain = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(plain, dict)
    return plain


@pytest.fixture
def record(workspace: Path) -> Record:
    """Put a run with a config of one's own into the store; its id comes back."""

    def put(config: dict[str, Any] | str) -> str:
        with open_run(uri=URI, experiment="tunetrail", artifact_dir="mlruns/artifacts") as run_log:
            text = config if isinstance(config, str) else yaml.safe_dump(config)
            run_log.text(text, "config.yaml")
            run_log.metrics({"train/loss": 1.0}, step=1)
        return run_log.run_id

    return put


@pytest.fixture
def trap(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that leaves a file behind when it is imported, wherever Python looks for it."""
    sprung = workspace / "sprung"
    (workspace / "trap.py").write_text(
        f"import pathlib\npathlib.Path({str(sprung)!r}).touch()\ndef spring(**values): pass\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(workspace))
    monkeypatch.syspath_prepend(str(workspace))
    return sprung


def num_runs() -> int:
    client = MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tunetrail")
    return len(client.search_runs([experiment.experiment_id]))


def put(config: Any, key: str, value: Any) -> None:
    *names, last = key.split(".")
    for name in names:
        config = config[int(name)] if isinstance(config, list) else config[name]
    config[last] = value


HARM = {"_target_": "trap.spring"}
REFUSED = {
    "a program": ("task._target_", "os.system", "task._target_=os.system"),
    "a module that runs when imported": (
        "model.source", HARM, "model.source._target_=trap.spring",
    ),
    "in a nested list": (
        "data.label_names", [["a", {"b": [HARM]}]],
        "data.label_names[0][1].b[0]._target_=trap.spring",
    ),
    "no text": ("method._target_", ["trap.spring"], "method._target_=['trap.spring']"),
    "in what is not used": ("tracking.more", HARM, "tracking.more._target_=trap.spring"),
    "Hydra's own callbacks": ("hydra", {"callbacks": {"x": HARM}}, "hydra: this project records"),
    "other config files": ("defaults", ["/etc/passwd"], "defaults: this project records"),
    "the environment": (
        "data.text_column", "${oc.env:PLANTED}",
        "data.text_column: reads the environment variable PLANTED; give data.text_column=VALUE",
    ),
    "an interpolation in a list": (
        "data.label_names", ["a", "${oc.decode:x}"],
        "data.label_names[1]: =${oc.decode:x} is resolved",
    ),
    "a secret": ("model.path", "https://***@host/x", "model.path: is a secret"),
    "a path outside": (
        "model.source.cache_dir", "/etc/cron.d", "model.source.cache_dir=/etc/cron.d: is outside",
    ),
    "a path that climbs out": (
        "trainer.logging_dir", "mlruns/../../x", "trainer.logging_dir=mlruns/../../x: is outside",
    ),
    "a path that is none": (
        "model.source.cache_dir", "\0", "model.source.cache_dir='\\x00': ",
    ),
    "the home of nobody": (
        "model.source.cache_dir", "~nobody-there/x", "cache_dir=~nobody-there/x: is outside",
    ),
    "a number for keys": ("data", 5, "data.source: the record has no keys under it"),
    "a list for keys": ("model.source", [1], "model.source: the record has no keys under it"),
    "a text for keys": ("sweep", "x", "sweep: the record has no keys under it"),
    "sending weights away": ("trainer.push_to_hub", True, "trainer.push_to_hub=True: would upload"),
}  # fmt: skip


def refuse(config: dict[str, Any], workspace: Path) -> str:
    project = load_project(ROOT)
    with pytest.raises(InputError) as caught:
        require_safe(config, project, given=[], store_dirs=[workspace / "mlruns"])
    return str(caught.value)


@pytest.mark.parametrize("kind", REFUSED)
def test_a_config_that_was_tampered_with_is_refused_by_name(
    config: dict[str, Any], trap: Path, workspace: Path, kind: str
) -> None:
    key, value, message = REFUSED[kind]
    put(config, key, value)
    # as it comes back from the store
    assert message in refuse(parse_config(yaml.safe_dump(config)), workspace)
    assert not trap.exists()


def test_a_refused_config_starts_nothing(
    config: dict[str, Any],
    record: Record,
    trap: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Through the command itself, for each kind of harm."""
    monkeypatch.setenv("PLANTED", "the-planted-value")
    kinds = ("a program", "in a nested list", "the environment", "a path that climbs out")
    for number, kind in enumerate(kinds, start=1):
        key, value, message = REFUSED[kind]
        harmed = deepcopy(config)
        put(harmed, key, value)
        assert main(["rerun", record(harmed)]) == 1
        said = capsys.readouterr()
        assert said.err.startswith("error: ")
        assert message in said.err
        assert said.err.count("\n") == 1
        assert "the-planted-value" not in said.err + said.out
        assert not trap.exists()
        assert num_runs() == number


def test_a_rerun_deletes_no_checkpoints_that_were_there(
    config: dict[str, Any], record: Record, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can write to the store can give another run the name of the rerun meanwhile."""
    original, other = record(config), record(config)
    precious = workspace / "mlruns/checkpoints" / other / "checkpoint-1"
    precious.mkdir(parents=True)

    def train_and_tamper(root: Path, text: str, **_: Any) -> int:
        name = yaml.safe_load(text)["tracking"]["run_name"]
        MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db").update_run(other, name=name)
        return 0

    monkeypatch.setattr("tunetrail.runs.rerun.run_train", train_and_tamper)
    main(["rerun", original])
    assert precious.is_dir()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("task._target_", "os.system", "task._target_=os.system: a recorded config may only"),
        ("data.source", HARM, "data.source._target_=trap.spring: a recorded config may only"),
        (
            "data.source.train", "${oc.create:'{_target_: trap.spring}'}",
            "trap.spring}'}: the study's own config reads no such variable",
        ),
        (
            "model.source.path", "\\${oc.create:'{_target_: trap.spring}'}",
            "the study's own config reads no such variable",
        ),
        ("data.text_column", "${oc.env:NO_SUCH_VARIABLE}", "config.yaml: cannot be resolved ("),
        ("data.text_column", "${oc.env:HOME}", "reads no such variable, and a record may read no"),
        ("data.text_column", "${oc.env:ROWS,${oc.env:HOME}}", "reads no such variable"),
        ("data.text_column", "${oc.decode:${oc.env:HOME}}", "reads no such variable"),
        ("data.text_column", "${oc.dict.keys:task}", "reads no such variable"),
        ("data.text_column", "${hydra:runtime.cwd}", "reads no such variable"),
        ("trainer.push_to_hub", True, "trainer.push_to_hub=True: would upload the results"),
    ],
)  # fmt: skip
def test_the_record_of_a_winner_is_not_trusted_either(
    config: dict[str, Any], trap: Path, key: str, value: Any, message: str
) -> None:
    put(config, key, value)
    with pytest.raises(InputError) as caught:
        load_recorded(yaml.safe_dump(config), trusted=TRUSTED, uri=URI)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not trap.exists()


def test_the_record_of_a_winner_may_read_the_environment_and_name_what_the_study_does(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROWS", "/data/rows.csv")
    put(config, "data.source.train", "${oc.env:ROWS}")
    put(config, "method._target_", "mine.apply")
    known = Trusted(TRUSTED.targets | {"mine.apply"}, TRUSTED.variables, TRUSTED.cache_dir)
    put(config, "model.source.more", [{"cache_dir": "/etc/cron.d", "tracking_uri": "sqlite:///x"}])
    recorded = load_recorded(yaml.safe_dump(config), trusted=known, uri=URI)
    assert recorded.values["data"]["source"]["train"] == "/data/rows.csv"
    assert recorded.values["model"]["source"]["more"] == [
        {"cache_dir": "mine/cache", "tracking_uri": URI}
    ]


TEXTS = {
    "a tag that makes an object": "seed: !!python/object/apply:os.system ['true']\n",
    "an alias": "seed: &a [1]\nmore: [*a, *a]\n",
    "no mapping": "- 1\n",
    "no YAML": "seed: [\n",
    "too long": "seed: 1\n" + "# padding\n" * 200_000,
    "nested without end": "a: " + "[" * 3000 + "]" * 3000,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_that_is_no_config_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^config\.yaml: ") as caught:
        parse_config(text)
    assert "\n" not in str(caught.value)


def test_a_good_config_passes_and_does_not_say_where_to_write(
    config: dict[str, Any], workspace: Path
) -> None:
    config["tracking"] |= {"uri": "sqlite:////elsewhere/x.db", "artifact_dir": "/elsewhere"}
    config["cache_dir"] = "/elsewhere"
    config["trial"] |= {"number": 3, "storage": "sqlite:///x.db", "study": "s"}
    config["sweep"]["custom_search_space"] = "trap.spring"
    config["data"]["label_names"] = [{"tracking_uri": "${oc.env:HOME}"}]
    config["sweep"]["objectives"] = {"validation/loss": "minimize"}
    del config["diagnostics"], config["checks"]["leakage"]
    project = load_project(ROOT)
    require_safe(config, project, given=[], store_dirs=[workspace / "mlruns"])
    text = build_config(config, project, project, given=[], uri=URI, run_name="again")
    written = OmegaConf.create(text)
    assert "elsewhere" not in text
    assert "trap" not in text
    assert "HOME" not in text
    assert written.tracking.uri == URI
    assert written.tracking.run_name == "again"
    assert not written.tracking.log_model
    assert written.tracking.artifact_dir == "mlruns/artifacts"
    assert written.trial.number is None
    # what an older record lacks is as it is today
    assert written.diagnostics.num_train_sample == 300
    assert written.checks.leakage == "warn"
    # and what a search alone reads has the form of today
    assert written.sweep.objectives == "validation/accuracy"
    assert written.trainer == config["trainer"]
    assert "_target_: os" not in text


def test_an_override_may_replace_what_the_record_must_not_name(
    config: dict[str, Any], workspace: Path
) -> None:
    config["data"]["train"] = "${oc.env:TOKEN}"
    config["model"]["source"]["cache_dir"] = "/big/disk"
    project = load_project(ROOT)
    given = parse_given(["data.train=here.csv", "model.source.cache_dir=/other"], config)
    require_safe(config, project, given=given, store_dirs=[workspace / "mlruns"])
    written = build_config(config, project, project, given=given, uri=URI, run_name="again")
    assert "TOKEN" not in written
    assert "/big/disk" not in written
    # the record itself is as it was
    assert config["data"]["train"] == "${oc.env:TOKEN}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tracking.uri=sqlite:///x.db", "use --uri"),
        ("trial.number=3", "cannot be set here"),
        ("hydra.run.dir=x", "cannot be set here"),
        ("resume=abc", "use python train.py resume=RUN_ID"),
        ("seed=1,2", "one value for each key"),
        ("~seed", "one value for each key"),
        ("model=minilm", "give model.NAME=VALUE"),
        ("model.path", "not KEY=VALUE"),
    ],
)
def test_an_override_that_a_rerun_cannot_take_is_an_error(
    config: dict[str, Any], override: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        parse_given([override], config)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "typed",
    [
        ["seed=3", "--threads", "1", "seed=1,2"],
        ["--threads", "1", "seed=1,2"],
        ["seed=1,2", "--tolerance", "0"],
        ["--checkout=no"],
        ["--threads", "1", "seed=1,2", "--no-such-option"],
        ["--threads", "0"],
        ["--threads", "two"],
        ["--tolerance", "nan"],
        ["--tolerance", "-1"],
    ],
    ids=" ".join,
)
def test_overrides_count_anywhere_and_options_are_checked(
    config: dict[str, Any],
    record: Record,
    capsys: pytest.CaptureFixture[str],
    typed: list[str],
) -> None:
    run_id = record(config)
    if "seed=1,2" in typed and "--no-such-option" not in typed:
        assert main(["rerun", run_id, *typed]) == 1
        assert "error: seed=1,2: a rerun takes one value for each key" in capsys.readouterr().err
    else:
        with pytest.raises(SystemExit) as caught:
            main(["rerun", run_id, *typed])
        assert caught.value.code == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert typed[-1].partition("=")[0] in said
        assert "_read" not in said


def test_every_target_of_the_project_s_own_yaml_may_be_named() -> None:
    targets = load_project(ROOT).targets
    assert {"transformers.TrainingArguments", "optuna.pruners.MedianPruner"} <= targets
    assert "tunetrail.models.methods.frozen.Frozen" in targets
    assert not any(name.startswith(("os", "subprocess", "builtins")) for name in targets)


def test_numbers_and_texts_keep_their_types() -> None:
    values = {"a": 1e-05, "b": "1e-5", "c": "null", "d": None, "e": True, "f": "off", "g": [1, "2"]}
    assert parse_config(OmegaConf.to_yaml(OmegaConf.create(values))) == values
