"""The house: rooms one above the other, every import pointing down, no circle."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"

# From the top to the ground. A room may import the rooms that stand below it.
ROOMS = (
    "__main__", "commands", "pipeline", "opening", "studies", "serving", "runs", "tracking",
    "evaluation", "training", "tasks", "data", "models", "config", "served", "console", "templates",
    "errors",
)  # fmt: skip
# The same of the plugin.
PLUGIN_ROOMS = (
    "sweeper", "_sweep", "_finals", "_loop", "_console", "_study", "_spec", "_jobs", "_functions",
    "_errors", "callbacks", "attributes",
)  # fmt: skip
KNOWS_OMEGACONF = {"config", "evaluation", "opening", "pipeline", "studies", "training"}
KNOWS_MLFLOW = {"runs", "served", "serving", "studies", "tracking"}


def imports(path: Path) -> set[str]:
    """Every module that a file names, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms(package: str = "tunetrail") -> dict[str, set[str]]:
    """Room of a package -> all that its files import."""
    found: dict[str, set[str]] = {}
    folder = SOURCE / package.replace(".", "/")
    for path in folder.rglob("*.py"):
        name = path.relative_to(folder).parts[0].removesuffix(".py")
        if name != "__init__":
            found.setdefault(name, set()).update(imports(path))
    return found


HOUSES = {"tunetrail": ROOMS, "hydra_plugins.optuna_study": PLUGIN_ROOMS}
ALL_ROOMS = [(package, room) for package, order in HOUSES.items() for room in order]


@pytest.mark.parametrize("package", HOUSES)
def test_every_room_is_named_here(package: str) -> None:
    assert set(rooms(package)) == set(HOUSES[package])


@pytest.mark.parametrize(("package", "room"), ALL_ROOMS)
def test_a_room_imports_only_what_stands_below_it(package: str, room: str) -> None:
    inside = f"{package}."
    names = [name.removeprefix(inside) for name in rooms(package)[room] if name.startswith(inside)]
    order = HOUSES[package]
    below = order[order.index(room) + 1 :]
    assert {name.split(".")[0] for name in names} <= {room, *below}


def modules(package: str) -> dict[str, Path]:
    """Name of a module -> its file."""
    files = (SOURCE / package.replace(".", "/")).rglob("*.py")
    names = {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in files}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


@pytest.mark.parametrize("package", HOUSES)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    known = modules(package)
    arrows = {
        name: {
            m for i in imports(path) if (m := i if i in known else i.rpartition(".")[0]) in known
        }
        for name, path in known.items()
    }
    while free := {name for name, to in arrows.items() if not to & arrows.keys() - {name}}:
        arrows = {name: to for name, to in arrows.items() if name not in free}
    assert not arrows


def test_config_goes_in_by_one_door() -> None:
    knowing = {
        room
        for room, names in rooms().items()
        if any(name.startswith(("omegaconf", "hydra.")) for name in names)
    }
    assert knowing == KNOWS_OMEGACONF


def test_few_rooms_know_mlflow() -> None:
    knowing = {
        room for room, names in rooms().items() if any(re.match(r"mlflow\b", n) for n in names)
    }
    assert knowing == KNOWS_MLFLOW


def test_what_is_copied_into_every_model_needs_nothing_of_this_package() -> None:
    for path in (SOURCE / "tunetrail" / "served").glob("*.py"):
        assert not any(name.startswith("tunetrail") for name in imports(path)), path


def test_the_package_reads_the_names_of_attributes_and_nothing_else_crosses() -> None:
    plugin = set().union(*rooms("hydra_plugins.optuna_study").values())
    assert not any(name.startswith(("tunetrail", "mlflow", "torch")) for name in plugin)
    package = set().union(*rooms().values())
    crossing = {name for name in package if name.startswith("hydra_plugins")}
    assert crossing == {"hydra_plugins.optuna_study.attributes"}
