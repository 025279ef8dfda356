"""The house: imports are as docs/architecture.md draws them, all arrows down, no circle."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PACKAGE, PLUGIN = "tunetrail", "hydra_plugins.optuna_study"
KNOWS_OMEGACONF = {"config", "evaluation", "opening", "pipeline", "studies", "training"}
KNOWS_MLFLOW = {"runs", "served", "serving", "studies", "tracking"}

Arrows = dict[str, set[str]]


def imports(path: Path) -> set[str]:
    """Every module that a file names, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms(package: str = PACKAGE) -> dict[str, set[str]]:
    """Room of a package -> all that its files import."""
    found: dict[str, set[str]] = {}
    folder = SOURCE / package.replace(".", "/")
    for path in folder.rglob("*.py"):
        name = path.relative_to(folder).parts[0].removesuffix(".py")
        if name != "__init__":
            found.setdefault(name, set()).update(imports(path))
    return found


def imports_of_rooms() -> Arrows:
    """Room -> the other rooms that it imports, of both packages and train.py."""
    found = {"train": imports(ROOT / "train.py")}
    for package in (PACKAGE, PLUGIN):
        found |= {f"{package}.{room}": names for room, names in rooms(package).items()}
    return {
        room: {other for other in found for name in names if f"{name}.".startswith(f"{other}.")}
        - {room}
        for room, names in found.items()
    }


def reach(arrows: Arrows, room: str) -> set[str]:
    """Every room that can be reached from one."""
    found: set[str] = set()
    ahead = {room}
    while ahead:
        ahead = set().union(*(arrows[name] for name in ahead)) - found
        found |= ahead
    return found


def read_picture() -> tuple[Arrows, Arrows]:
    """Solid and dotted arrows of the picture, with its rooms named as in Python."""
    [picture] = re.findall(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)
    names, folder = {}, ""
    for is_folder, key, label in re.findall(r'(subgraph )?(\w+)\["(.+)"\]', picture):
        name = label.removesuffix(".py").removeprefix("src/").strip("/").replace("/", ".")
        if is_folder:
            folder = f"{name}."
        else:
            names[key] = folder + name
    solid, dotted = ({name: set[str]() for name in names.values()} for _ in range(2))
    for start, arrow, end in re.findall(r"(\w+) (-->|-\..*\.->) (\w+)", picture):
        (solid if arrow == "-->" else dotted)[names[start]].add(names[end])
    return solid, dotted


def test_no_rooms_import_each_other_in_a_circle() -> None:
    found = imports_of_rooms()
    assert [room for room in found if room in reach(found, room)] == []


def test_the_picture_shows_every_import_that_no_other_arrows_imply() -> None:
    found = imports_of_rooms()
    wanted = {
        room: {n for n in names if not any(n in reach(found, o) for o in names)}
        for room, names in found.items()
    }
    assert read_picture()[0] == wanted


def test_a_dotted_arrow_is_a_call_without_an_import() -> None:
    found = imports_of_rooms()
    assert [room for room, names in read_picture()[1].items() if names & found[room]] == []


def test_the_values_that_pass_from_room_to_room_are_where_the_table_says() -> None:
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| `(\S+\.py)` \|", PAGE, re.MULTILINE)
    assert len(rows) > 15
    for names, path in rows:
        package = PLUGIN if path.startswith("_") else PACKAGE
        text = (SOURCE / package.replace(".", "/") / path).read_text("utf-8")
        for name in re.findall(r"\w+", names):
            assert re.search(rf"^class {name}\b", text, re.MULTILINE), f"{name} in {path}"


@pytest.mark.parametrize(
    ("protocol", "path"),
    [
        ("Task", "tasks/base.py"),
        ("Method", "models/methods/base.py"),
        ("ServedModel", "served/base.py"),
    ],
)
def test_the_page_names_all_that_a_new_part_must_offer(protocol: str, path: str) -> None:
    module = ast.parse((SOURCE / PACKAGE / path).read_text("utf-8"))
    [body] = [n.body for n in module.body if isinstance(n, ast.ClassDef) and n.name == protocol]
    names = {n.name for n in body if isinstance(n, ast.FunctionDef)}
    names |= {n.target.id for n in body if isinstance(n, ast.AnnAssign)}  # type: ignore[union-attr]
    missing = {name for name in names if name[0] != "_" and f"`{name}`" not in PAGE}
    assert not missing


def modules(package: str) -> dict[str, Path]:
    """Name of a module -> its file."""
    files = (SOURCE / package.replace(".", "/")).rglob("*.py")
    names = {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in files}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


@pytest.mark.parametrize("package", [PACKAGE, PLUGIN])
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


def test_three_modules_of_the_plugin_are_known_to_the_package_and_nothing_else_crosses() -> None:
    plugin = set().union(*rooms(PLUGIN).values())
    assert not any(name.startswith(("tunetrail", "mlflow", "torch")) for name in plugin)
    package = set().union(*rooms().values())
    crossing = {name for name in package if name.startswith("hydra_plugins")}
    assert {".".join(name.split(".")[:3]) for name in crossing} == {
        "hydra_plugins.optuna_study.attributes",
        "hydra_plugins.optuna_study._errors",
        "hydra_plugins.optuna_study._steering",
    }
