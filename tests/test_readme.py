"""The files and folders that README and docs/architecture.md name are there."""

import re

import pytest
from test_layout import PACKAGE, PAGE, PLUGIN, ROOT, imports_of_rooms

README = (ROOT / "README.md").read_text("utf-8")
FOLDERS = {package: f"src/{package.replace('.', '/')}" for package in (PACKAGE, PLUGIN)}
_PATH = r"[\w/.-]+(?:\.py|\.yaml|\.md)\b|[\w/.-]*\w/(?!\w)"


def read_tree() -> list[tuple[str, str]]:
    """Path and comment of each line of the tree."""
    [tree] = re.findall(r"## The tree\n\n```\n(.*?)```", README, re.DOTALL)
    lines, folder = [], ""
    for line in tree.splitlines():
        name, comment = line.strip().split(maxsplit=1)
        if line.startswith(" "):
            name = folder + name
        else:
            folder = name
        lines.append((name, comment))
    return lines


def find(path: str, *, near: str = "") -> bool:
    """Whether a path is there: near another, from the root, or in one of the packages."""
    places = [ROOT / near, (ROOT / near).parent, ROOT, *(ROOT / f for f in FOLDERS.values())]
    return any((place / path).exists() for place in places)


def test_every_path_in_the_tree_exists() -> None:
    for path, comment in read_tree():
        assert (ROOT / path).exists(), path
        for name in re.findall(_PATH, comment):
            assert find(name, near=path), f"{name} of {path}"


@pytest.mark.parametrize("package", FOLDERS)
def test_every_room_stands_in_the_tree_above_those_that_it_imports(package: str) -> None:
    folder = f"{FOLDERS[package]}/"
    names = [path.removeprefix(folder) for path, _ in read_tree() if path.startswith(folder)]
    shown = [f"{package}.{name.removesuffix('.py').strip('/')}" for name in names if name]
    found = {room: to for room, to in imports_of_rooms().items() if room.startswith(f"{package}.")}
    assert sorted(shown) == sorted(found)
    for place, room in enumerate(shown):
        inside = {name for name in found[room] if name in found}
        assert inside <= set(shown[place:]), room


def test_every_file_exists_that_the_pages_name_to_edit_or_to_read() -> None:
    [section] = re.findall(r"## To change X, edit Y\n(.*?)\n## ", README, re.DOTALL)
    named = set(re.findall(f"`({_PATH})`", section + PAGE))
    assert len(named) > 50
    assert [path for path in sorted(named) if not find(path)] == []
