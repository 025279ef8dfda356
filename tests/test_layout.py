"""Who may import whom: the arrows point one way."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"

# A part may import the parts named here, itself, and errors.
ALLOWED: dict[str, set[str]] = {
    "disk": set(),
    "errors": set(),
    "hub": set(),
    "output_dir": set(),
    "data": {"hub"},
    "models": {"hub"},
    "metrics": set(),
    "provenance": set(),
    "tracking": set(),
    "logged_models": {"tracking"},
    "trial_runs": {"logged_models", "tracking", "trial_states"},
    "trial_states": set(),
    "trial": set(),
    "training": {"disk"},
    "diagnostics": {"training", "trial_states"},
    "callbacks": {"tracking", "training", "trial"},
    "tasks": {"metrics", "models", "diagnostics"},
    "config_leaves": set(),
    "recorded_config": set(),
    "code_trees": set(),
    "child_run": set(),
    "run_records": {"config_leaves", "recorded_config", "tracking"},
    "agreement": {"run_records"},
    "differences": {"run_records"},
    "comparison": {"code_trees", "differences", "run_records"},
    "rerun_report": {"agreement", "diagnostics", "differences", "run_records"},
    "rerun": {
        "agreement", "child_run", "code_trees", "differences", "recorded_config", "rerun_report",
        "run_records",
    },
    "settings": {"config_leaves", "training"},
    "summary": {"diagnostics", "tracking", "training"},
    "reporting": {
        "data", "diagnostics", "logged_models", "provenance", "tasks", "tracking", "training",
    },
    "commands": {"child_run", "comparison", "recorded_config", "rerun", "run_records"},
    "__main__": {"commands"},
    "study_report": {"trial", "trial_states"},
    "warm": {"models", "tasks"},
    "study": {
        "diagnostics", "settings", "study_report", "tracking", "trial", "trial_runs",
        "trial_states",
    },
    "pipeline": {
        "callbacks", "data", "diagnostics", "disk", "models", "reporting", "settings", "summary",
        "tasks", "tracking", "training", "trial", "warm",
    },
}  # fmt: skip
KNOWS_OMEGACONF = {"pipeline", "settings", "study", "output_dir", "recorded_config"}


def imports(path: Path) -> set[str]:
    """Every module that a file names, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def parts() -> dict[str, set[str]]:
    """Part of the package -> all that its files import."""
    found: dict[str, set[str]] = {}
    package = SOURCE / "tunetrail"
    for path in package.rglob("*.py"):
        name = path.relative_to(package).parts[0].removesuffix(".py")
        if name != "__init__":
            found.setdefault(name, set()).update(imports(path))
    return found


def test_every_part_is_named_here() -> None:
    assert set(parts()) == set(ALLOWED)


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_a_part_imports_only_what_it_may(part: str) -> None:
    modules = {name.split(".")[1] for name in parts()[part] if name.startswith("tunetrail.")}
    assert modules <= ALLOWED[part] | {part, "errors"} - ({"errors"} if part == "errors" else set())


def test_config_goes_in_by_one_door() -> None:
    knowing = {
        part
        for part, modules in parts().items()
        if any(name.startswith(("omegaconf", "hydra")) for name in modules)
    }
    assert knowing == KNOWS_OMEGACONF


def test_only_four_modules_know_mlflow() -> None:
    """One opens runs, one holds weights, one keeps a study's runs in line, one reads runs back."""
    knowing = {
        part for part, modules in parts().items() if any(m.startswith("mlflow") for m in modules)
    }
    assert knowing == {"tracking", "logged_models", "trial_runs", "run_records"}


def test_the_plugin_and_the_package_never_import_each_other() -> None:
    plugin = {name for path in (SOURCE / "hydra_plugins").rglob("*.py") for name in imports(path)}
    assert not any(name.startswith(("tunetrail", "mlflow", "torch")) for name in plugin)
    package = set().union(*parts().values())
    assert not any(name.startswith("hydra_plugins") for name in package)
