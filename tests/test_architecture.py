"""The house: who may import whom, and a few habits, read from the source itself."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OWN = ("flows", "gee", "modeling", "infra")
MAY_IMPORT = {
    "flows": {"flows", "gee", "modeling", "infra"},
    "gee": {"gee"},
    "modeling": {"modeling"},
    "infra": {"infra", "modeling.simulate"},
}
"""Room -> the rooms that it may go into."""
ONLY_IN = {"ee": "gee", "prefect": "flows", "distributed": "flows", "torch": "modeling", "zarr": "gee", "gcsfs": "gee"}
"""Library -> the one room that speaks to it."""
EXCUSED = {("torch", "flows/run.py"), ("torch", "flows/doctor.py")}
"""A speed measured on one tile, and whether there is a GPU."""
MAX_LINES = 450


def sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, dotted, with the names taken from it."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which room is entered"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def enters(imported: str, room: str) -> bool:
    return imported == room or imported.startswith(f"{room}.")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("package", OWN)
def test_imports_go_one_way(package: str) -> None:
    wrong = [
        f"{name(path)} imports {imported}"
        for path in sources(package)
        for imported in imports(path)
        if imported.split(".")[0] in OWN and not any(enters(imported, room) for room in MAY_IMPORT[package])
    ]
    assert wrong == []


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_spoken_to_in_one_room(library: str) -> None:
    wrong = [
        name(path)
        for path in sources(*OWN)
        if name(path).split("/")[0] != ONLY_IN[library] and (library, name(path)) not in EXCUSED
        if any(enters(imported, library) for imported in imports(path))
    ]
    assert wrong == []


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert listed == [f"{package}*" for package in OWN]
    without = [
        name(folder)
        for package in OWN
        for folder in (ROOT / package).rglob("*")
        if folder.is_dir() and any(folder.glob("*.py")) and not (folder / "__init__.py").is_file()
    ]
    assert without == []


def test_nothing_prints_but_the_command_line() -> None:
    printing = [
        f"{name(path)}:{node.lineno}"
        for path in sources(*OWN)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert [place for place in printing if not place.startswith("flows/cli.py")] == []


def test_files_are_short_and_no_drawer_is_called_utils() -> None:
    long = [name(path) for path in sources(*OWN) if len(path.read_text().splitlines()) > MAX_LINES]
    assert long == []
    assert [name(path) for path in sources(*OWN) if path.stem in {"utils", "helpers", "common", "misc"}] == []


def test_every_public_thing_says_what_it_is() -> None:
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    mute = [
        f"{name(path)}: {getattr(node, 'name', 'module')}"
        for path in sources(*OWN)
        for node in (tree(path), *tree(path).body)
        if isinstance(node, (ast.Module, *kinds))
        and not getattr(node, "name", "").startswith("_")
        and (node.body or not isinstance(node, ast.Module))
        and ast.get_docstring(node) is None
    ]
    assert mute == []


@pytest.mark.parametrize("module", ["flows.watch", "flows.janitor", "flows.tell"])
def test_what_runs_often_and_maps_nothing_starts_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
