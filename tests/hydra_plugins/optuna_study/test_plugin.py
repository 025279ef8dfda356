"""Hydra finds the plugin, and pays nothing for it until a sweep starts."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

APP = Path(__file__).parent / "app" / "app.py"
PACKAGE = Path(__file__).parents[3] / "src" / "hydra_plugins" / "optuna_study"


def test_hydra_finds_the_plugin():
    found = [f"{kind.__module__}.{kind.__name__}" for kind in Plugins.instance().discover(Sweeper)]
    assert "hydra_plugins.optuna_study.sweeper.OptunaStudySweeper" in found


@pytest.mark.parametrize("flags", [["--help"], ["--cfg", "job"]])
def test_optuna_is_not_imported_without_a_sweep(workspace, flags):
    run = subprocess.run(
        [sys.executable, "-X", "importtime", str(APP), *flags],
        cwd=workspace,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    imported = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert "hydra.core.plugins" in imported
    assert not {"optuna", "sqlalchemy", "torch", "mlflow"} & imported


def test_the_plugin_knows_hydra_and_optuna_only():
    for path in PACKAGE.rglob("*.py"):
        words = path.read_text(encoding="utf-8")
        for library in ("tunetrail", "mlflow", "torch", "transformers"):
            assert f"import {library}" not in words
            assert f"from {library}" not in words
