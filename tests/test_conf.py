"""Every YAML that is shipped composes, names things that exist, and passes the run's own checks."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from toys import ROOT
from transformers import TrainingArguments

from tunetrail.config.checks import require_settings

CONF = ROOT / "conf"
GROUPS = ("task", "data", "model", "method", "trainer", "sampler", "pruner", "sweep")
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
# What a person has to give with an option that stands for many.
NEEDED = {
    ("data", "files"): ["data.train=train.csv"],
    ("data", "hub"): ["data.path=some/set", "data.text_column=text", "data.label_column=label"],
    ("model", "hub"): ["model.id=some/model"],
    ("model", "directory"): ["model.path=some/where"],
}


@pytest.fixture(autouse=True)
def _config_dir() -> Iterator[None]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=[f"{g}={o}" for g, o in OPTIONS])
def test_every_option_composes_and_names_what_exists(group: str, option: str) -> None:
    cfg = compose("config", [f"{group}={option}", *NEEDED.get((group, option), [])])
    require_settings(cfg)
    found = list(targets(OmegaConf.to_container(cfg, resolve=True)))
    assert len(found) >= 6
    for target in found:
        assert callable(get_object(target)), target


@pytest.mark.parametrize("path", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_experiment_composes_and_opens_with_its_command(path: Path) -> None:
    require_settings(compose("config", [f"experiment={path.stem}"]))
    assert f"# python train.py experiment={path.stem}" in path.read_text("utf-8")


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


@pytest.mark.parametrize("command", sorted(COMMANDS))
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
