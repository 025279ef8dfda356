"""The house: rooms one above the other, every import pointing down, no circle."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"

# From the top to the ground. A room may import the rooms that stand below it.
ROOMS = (
    "__main__", "commands", "pipeline", "studies", "serving", "runs", "tracking", "evaluation",
    "training", "tasks", "data", "models", "config", "disk", "console", "errors",
)  # fmt: skip
# What still points up, until the room it points from is put right.
UPWARD = {
    ("config", "training"), ("tasks", "evaluation"), ("tracking", "serving"),
    ("training", "studies"), ("training", "tracking"), ("evaluation", "tracking"),
}  # fmt: skip
KNOWS_OMEGACONF = {"config", "evaluation", "pipeline", "studies", "training"}
KNOWS_MLFLOW = {"runs", "serving", "studies", "tracking"}


def imports(path: Path) -> set[str]:
    """Every module that a file names, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms() -> dict[str, set[str]]:
    """Room of the package -> all that its files import."""
    found: dict[str, set[str]] = {}
    package = SOURCE / "tunetrail"
    for path in package.rglob("*.py"):
        name = path.relative_to(package).parts[0].removesuffix(".py")
        if name != "__init__":
            found.setdefault(name, set()).update(imports(path))
    return found


def test_every_room_is_named_here() -> None:
    assert set(rooms()) == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_stands_below_it(room: str) -> None:
    known = {name.split(".")[1] for name in rooms()[room] if name.startswith("tunetrail.")}
    below = ROOMS[ROOMS.index(room) + 1 :]
    assert {other for other in known - {room} if other not in below} == {
        other for start, other in UPWARD if start == room
    }


def modules(package: str) -> dict[str, Path]:
    """Name of a module -> its file."""
    files = (SOURCE / package).rglob("*.py")
    names = {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in files}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


@pytest.mark.parametrize("package", ["tunetrail"])
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
    files = (SOURCE / "tunetrail" / "serving").glob("*.py")
    copied = [path for path in files if "class ServedModel:" in path.read_text("utf-8")]
    assert "text_classification" in [path.stem for path in copied]
    for path in copied:
        assert not any(name.startswith("tunetrail") for name in imports(path)), path


def test_the_plugin_and_the_package_never_import_each_other() -> None:
    plugin = {name for path in (SOURCE / "hydra_plugins").rglob("*.py") for name in imports(path)}
    assert not any(name.startswith(("tunetrail", "mlflow", "torch")) for name in plugin)
    package = set().union(*rooms().values())
    assert not any(name.startswith("hydra_plugins") for name in package)
