"""Every YAML that is shipped composes, names things that exist, and passes the run's own checks."""

import inspect
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig
from toys import ROOT
from transformers import TrainingArguments

from tunetrail.config.build import require_arguments
from tunetrail.config.checks import require_settings
from tunetrail.data.columns import ROLES
from tunetrail.errors import InputError
from tunetrail.training.inputs import require_job

CONF = ROOT / "conf"
GROUPS = (
    *("task", "data", "model", "method", "trainer", "sampler", "pruner", "sweep", "approach"),
    "forgetting",
)
FILES = sorted(CONF.rglob("*.yaml"))
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
# What a person has to give with an option that stands for many.
NEEDED = {
    ("data", "files"): ["data.train=train.csv"],
    ("data", "hub"): ["data.path=some/set", "data.text_column=text", "data.label_column=label"],
    ("model", "hub"): ["model.id=some/model"],
    ("model", "directory"): ["model.path=some/where"],
    ("forgetting", "text"): ["forgetting.text.path=news.txt"],
    ("forgetting", "probe"): ["forgetting.probe.path=topics.csv"],
    ("model", "run"): ["model.run_id=tunetrail-tweets@champion"],
}
PATIENCE = "early_stopping.early_stopping_patience"
# What code adds to the arguments that the YAML gives.
LATER = {"optuna.samplers.GridSampler": {"search_space"}}


@pytest.fixture(autouse=True)
def _config_dir() -> Iterator[None]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def nodes(config: Any) -> Iterator[dict[str, Any]]:
    """Every node of plain values that has a target."""
    if isinstance(config, dict) and {"_target_", "()"} & config.keys():
        yield config
    for value in config.values() if isinstance(config, dict) else ():
        yield from nodes(value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_every_target_exists_and_is_given_the_arguments_that_it_has(path: Path) -> None:
    for node in nodes(yaml.safe_load(path.read_text("utf-8"))):
        target = node.get("_target_") or node["()"]
        names = {name for name in node if not name.startswith("_") and name != "()"}
        if "()" in node:  # logging calls a formatter's format fmt
            names = {{"format": "fmt"}.get(name, name) for name in names}
        signature = inspect.signature(get_object(target))
        assert names <= signature.parameters.keys(), target
        signature.bind(**dict.fromkeys(names | LATER.get(target, set())))


def test_a_misspelt_argument_is_named_with_the_one_that_was_meant() -> None:
    task = "tunetrail.tasks.token_classification.TokenClassification"
    wrong = {"task": {"_target_": task, "max_lenght": 5, "_convert_": "all"}}
    with pytest.raises(InputError) as caught:
        require_arguments(wrong)
    assert str(caught.value).startswith(f"task.max_lenght: {task} has no such argument")
    assert str(caught.value).endswith("did you mean task.max_length?")
    wrapped = {"_target_": "optuna.pruners.NopPruner", "more": 1}
    patient = {"_target_": "optuna.pruners.PatientPruner", "wrapped_pruner": wrapped}
    with pytest.raises(InputError, match=r"^pruner\[0\]\.wrapped_pruner\.more: optuna\.pruners\."):
        require_arguments({"pruner": [patient]})
    with pytest.raises(InputError, match=r"^model\.source\._target_=no\.such: cannot be imported"):
        require_arguments({"model": {"source": {"_target_": "no.such"}}})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("trainer.max_steps=abc", "trainer.max_steps=abc: must be a whole number"),
        ("trainer.weight_decay=x", "trainer.weight_decay=x: must be a number"),
        ("trainer.save_total_limit=[1]", "trainer.save_total_limit=[1]: must be a whole number or"),
        ("trainer.load_best_model_at_end=null", "load_best_model_at_end=null: must be true or"),
        ("trainer.lr_scheduler_type=cosin", "did you mean cosine?"),
        ("trainer.eval_strategy=epochs", "must be one of no, steps, epoch; did you mean epoch?"),
        ("trainer.train_sampling_strategy=by_length", "did you mean group_by_length?"),
        ("trainer.optim=adamw_troch", "did you mean adamw_torch?"),
        ("trainer.optim=galore_adamw", "trainer.optim=galore_adamw: You need to install"),
        ("+trainer.torch_compile_backend=indutor", "did you mean INDUCTOR?"),
        ("+trainer.lr_scheduler_kwargs={cycles: 2}", "unexpected keyword argument 'cycles'"),
        ("trainer.lr_scheduler_type=cosine_with_min_lr", "One of min_lr or min_lr_rate should be"),
        ("+trainer.optim_args=x", "trainer.optim=adamw_torch_fused with trainer.optim_args=x: "),
        ("+trainer.hub_strategy=x", "trainer.hub_strategy=x: must be one of end, every_save"),
        ("+trainer.dataloader_prefetch_factor=2", "trainer: --dataloader_prefetch_factor can"),
        ("data=files data.train=5", "data.train=5: must be a text; put quotes around it: '\"5\"'"),
        ("data=files data.train=a.csv data.columns=null", "data.source.list_column: ConfigType"),
        ("model=directory model.path=null", "model.path=null: must be a text"),
        ("task.max_length=[1]", "task.max_length=[1]: must be a whole number"),
        ("method=lora method.target_modules=[1]", "must be all-linear or a list of texts or null"),
        ("sampler.n_startup_trials=x", "sampler.n_startup_trials=x: must be a whole number"),
        ("sampler._target_=optuna.samplers.TPESampeler", "did you mean optuna.samplers.TPESampler"),
        ("pruner=patient pruner.patience=null", "pruner.patience=null: must be a whole number"),
        ("pruner=patient pruner.wrapped_pruner=median", "must be a node with _target_ (a BasePr"),
        ("checks=null", "checks=null: every run reads it"),
        ("early_stopping=null", "early_stopping=null: every run reads it"),
        (f"{PATIENCE}=0", f"{PATIENCE}=0: must be a whole number of 1 or more, or null"),
        (f"{PATIENCE}=x", f"{PATIENCE}=x: must be a whole number or null"),
        (
            f"{PATIENCE}=1 early_stopping.early_stopping_threshold=-1",
            "early_stopping.early_stopping_threshold=-1: must be a number of 0 or more",
        ),
        (
            f"{PATIENCE}=1 early_stopping.early_stopping_threshold=inf",
            "early_stopping.early_stopping_threshold=inf: must be a number of 0 or more",
        ),
        (
            f"{PATIENCE}=1 trainer.load_best_model_at_end=false",
            f"{PATIENCE}=1: trainer.load_best_model_at_end=false would keep the weights of the",
        ),
        ("diagnostics.baselines=2", "diagnostics.baselines=2: must be true or false"),
        ("diagnostics.baselines=null", "diagnostics.baselines=null: must be true or false"),
        ("~forgetting", "forgetting=null: diagnostics.forgetting=true reads it; set that to f"),
        ("diagnostics.forgetting=some", "diagnostics.forgetting=some: must be true or false"),
        ("forgetting.share=0", "forgetting.share=0: must be a number above 0, at most 1"),
        ("forgetting.most_tokens=0", "forgetting.most_tokens=0: must be a whole number"),
        ("registry=5", "registry=5: every run reads it"),
        ("tracking.uri=null", "tracking.uri=null: must be a text"),
        ("tracking.experiment=", "tracking.experiment=: must not be empty"),
        ("tracking.log_model=x", "tracking.log_model=x: must be true or false"),
        ("score_test=maybe", "score_test=maybe: must be true or false"),
        ("seed=abc", "seed=abc: must be a whole number from 0 to 4294967295"),
        ("resume=5", "resume=5: must be a text or null"),
        ("sweep.constraints=5", "sweep.constraints=5: must be a mapping or null"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_and_what_it_must_be(
    overrides: str, message: str
) -> None:
    given = [overrides] if "{" in overrides else overrides.split()
    with pytest.raises(InputError) as caught:
        require_job(compose("config", given))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["eval_loss", "accuracy", "validation/macro_f1"])
def test_metrics_go_by_the_names_that_people_type(name: str) -> None:
    require_job(compose("config", [f"trainer.metric_for_best_model={name}"]))


@pytest.mark.parametrize("key", ["task.max_length", "task.main_metric", "method.name"])
def test_an_argument_that_a_yaml_lacks_is_named(key: str) -> None:
    with pytest.raises(InputError, match=key):
        require_job(compose("config", [f"~{key}"]))


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=[f"{g}={o}" for g, o in OPTIONS])
def test_every_option_composes_and_passes_the_checks_of_a_run(group: str, option: str) -> None:
    require_settings(compose("config", [f"{group}={option}", *NEEDED.get((group, option), [])]))


def test_the_column_of_every_role_can_be_named_for_rows_of_ones_own() -> None:
    for task in (CONF / "task").glob("*.yaml"):
        roles = get_object(yaml.safe_load(task.read_text("utf-8"))["_target_"]).columns
        assert {*roles} <= {*ROLES}, task
    for data in ("files", "hub"):
        assert {*ROLES} == {*compose("config", [f"data={data}"]).data.columns.keys()}


@pytest.mark.parametrize("path", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_experiment_opens_with_its_command(path: Path) -> None:
    assert f"# python train.py experiment={path.stem}" in path.read_text("utf-8")
    # It is composed below, with all commands.
    assert any(f"experiment={path.stem}" in command.split() for command in COMMANDS)


def test_the_tutorial_is_the_classic_recipe_on_gpt2() -> None:
    cfg: DictConfig = compose("config", ["experiment=tutorial_gpt2"])
    assert cfg.model.source.id == "openai-community/gpt2"
    assert cfg.data.source.path == "mteb/tweet_sentiment_extraction"
    assert (cfg.data.subset, cfg.data.num_train, cfg.data.num_validation) == (
        "shuffled",
        1000,
        1000,
    )
    assert (cfg.data.source.splits.train, cfg.data.source.splits.validation) == ("train", "test")
    assert cfg.task.padding == "max_length"
    wanted = {
        "per_device_train_batch_size": 1,
        "per_device_eval_batch_size": 1,
        "gradient_accumulation_steps": 4,
    }
    assert {name: cfg.trainer[name] for name in wanted} == wanted
    # what the recipe leaves alone is the library's default
    plain = TrainingArguments(output_dir="x", use_cpu=True)
    for name in ("learning_rate", "num_train_epochs", "weight_decay", "warmup_steps", "optim"):
        assert cfg.trainer[name] == getattr(plain, name), name


PAGES = "".join(p.read_text("utf-8") for p in (ROOT / "README.md", *sorted(CONF.rglob("*.yaml"))))
COMMANDS = {
    command
    for command in re.findall(r"(?m)^(?:# +)?python train\.py +([^#\n]*?)(?: +#.*)?$", PAGES)
    if command not in {"", "-m"} and not command.endswith("\\")
}
HELP = yaml.safe_load((CONF / "hydra" / "help" / "tunetrail.yaml").read_text("utf-8"))
# Group -> its example, the last of three columns.
EXAMPLES = dict(re.findall(r"(?m)^(\w+) {2,}\S.*? {2,}(\S.*)$", HELP["template"]))


def test_help_lists_every_group_with_an_example_of_it() -> None:
    groups = {path.name for path in CONF.iterdir() if path.is_dir()} - {"hydra"}
    assert EXAMPLES.keys() == groups == {*GROUPS, "experiment"}
    for group, example in EXAMPLES.items():
        assert re.search(rf"(^| ){group}[.=]", example), example


def test_the_line_for_bash_that_the_pages_name_completes_options() -> None:
    [line] = re.findall(r'`(eval "\$\(python [^`]+)`', PAGES)
    assert line in HELP["footer"].replace("$$", "$")
    # What bash does at TAB.
    typed = "COMP_LINE='python train.py sampler=' COMP_CWORD=2"
    script = f"{line}\n{typed}\nhydra_bash_completion\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env={**os.environ, "PATH": path},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.split() == [
        f"{group}={option}" for group, option in OPTIONS if group == "sampler"
    ], done.stderr


@pytest.mark.parametrize("command", sorted({*COMMANDS, *EXAMPLES.values()}))
def test_every_command_in_readme_and_conf_composes(command: str) -> None:
    overrides = [text for text in shlex.split(command) if text != "-m"]
    parsed = OverridesParser.create().parse_overrides(overrides)
    typed = [o.input_line for o in parsed if not o.is_sweep_override() and o.input_line]
    require_settings(compose("config", typed))


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["--cfg", "hydra"]])
def test_start_up_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['train.py', *{arguments!r}]\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'torch', 'transformers', 'mlflow', 'optuna', 'datasets', 'pandas', 'sklearn'}\n"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"imported: {done.stderr}"
    assert "optuna_study" in done.stdout or "learning_rate" in done.stdout


def test_the_first_report_of_a_trial_may_be_outside_of_the_threshold() -> None:
    """Trials report at 1, 2, 3, …: what Optuna calls warm-up is the number of a report."""
    cfg = compose("config", overrides=["pruner=threshold"])
    study = optuna.create_study(direction="maximize", pruner=instantiate(cfg.pruner))
    trial, stops = study.ask(), []
    for number in (1, 2):
        trial.report(0.0, number)
        stops.append(trial.should_prune())
    assert stops == [False, True]
