"""Who may import whom: the arrows point one way."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"

# A part may import the parts named here, itself, and errors.
ALLOWED: dict[str, set[str]] = {
    "disk": set(),
    "environment": set(),
    "errors": set(),
    "hub": set(),
    "hydra_files": {"secrets"},
    "secrets": {"environment"},
    "output_dir": set(),
    "data": {"hub"},
    "models": {"hub"},
    "metrics": set(),
    "provenance": {"environment", "secrets"},
    "tracking": {"secrets"},
    "text_classifier": set(),
    "logged_models": {"secrets", "text_classifier", "tracking"},
    "saved_models": {"secrets", "tracking"},
    "tables": set(),
    "predicting": {"saved_models", "tables", "text_classifier"},
    "export": {"predicting", "saved_models"},
    "registry": {"logged_models", "tracking"},
    "winner": {
        "data", "diagnostics", "logged_models", "provenance", "registry", "reporting", "scoring",
        "screen", "tracking", "trial", "trial_runs", "trial_states", "warm",
    },
    "runs": {"environment", "config_leaves", "diagnostics", "secrets", "tracking"},
    "run_lock": set(),
    "screen": set(),
    "trial_runs": {"logged_models", "tracking", "trial_states"},
    "trial_states": set(),
    "trial": set(),
    "training": {"disk"},
    "diagnostics": {"training", "trial_states"},
    "inputs": {"data", "models", "settings", "tasks", "training", "warm"},
    "scoring": {"data", "diagnostics", "inputs", "runs", "settings", "tasks", "training"},
    "callbacks": {"tracking", "training", "trial"},
    "tasks": {"metrics", "models", "diagnostics"},
    "config_leaves": set(),
    "settings": {"config_leaves", "secrets", "training"},
    "summary": {"diagnostics", "secrets", "tracking", "training"},
    "reporting": {
        "data", "diagnostics", "logged_models", "provenance", "scoring", "tasks", "tracking",
        "training",
    },
    "checkout": set(),
    "commands": {"checkout", "export", "predicting", "runs", "saved_models", "tables"},
    "__main__": {"commands"},
    "study_report": {"trial", "trial_states"},
    "warm": {"environment", "models", "tasks"},
    "study": {
        "checkout", "diagnostics", "runs", "settings", "study_report", "tracking", "trial",
        "trial_runs", "trial_states", "winner",
    },
    "pipeline": {
        "callbacks", "config_leaves", "data", "diagnostics", "disk", "inputs", "models",
        "reporting", "run_lock", "scoring", "screen", "secrets", "settings", "summary", "tasks",
        "tracking", "training", "trial", "warm",
    },
}  # fmt: skip
KNOWS_OMEGACONF = {
    "hydra_files", "inputs", "output_dir", "pipeline", "runs", "scoring", "settings", "study",
}  # fmt: skip


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


def test_few_modules_know_mlflow() -> None:
    """Opening runs, holding, finding and registering weights, a study's runs, old runs: one each.

    The last is the code that MLflow calls to answer: it speaks to MLflow in its errors.
    """
    knowing = {
        part for part, modules in parts().items() if any(m.startswith("mlflow") for m in modules)
    }
    assert knowing == {
        "logged_models", "registry", "runs", "saved_models", "text_classifier", "tracking",
        "trial_runs",
    }  # fmt: skip


def test_what_is_copied_into_every_model_needs_nothing_of_this_package() -> None:
    assert not any(name.startswith("tunetrail") for name in parts()["text_classifier"])


def test_the_plugin_and_the_package_never_import_each_other() -> None:
    plugin = {name for path in (SOURCE / "hydra_plugins").rglob("*.py") for name in imports(path)}
    assert not any(name.startswith(("tunetrail", "mlflow", "torch")) for name in plugin)
    package = set().union(*parts().values())
    assert not any(name.startswith("hydra_plugins") for name in package)
