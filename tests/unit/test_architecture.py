"""The layers: imports go one way (the layers are drawn in README.md)."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import autosparse

PACKAGE = Path(autosparse.__file__).parent
LAYERS = [
    {"errors", "lazy_torch", "packaged", "text"},
    {"registry", "pretrained"},
    {"core", "store", "backends"},
    {"user_code"},
    {"models", "datasets", "exporters", "trackers"},
    {"steps"},
    {"spec"},
    {"measure"},
    {"plan"},
    {"cost"},
    {"execute"},
    {"report"},
    {"html"},
    {"api"},
    {"console"},
    {"cli", "__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
ONLY = {"rich": "console", "typer": "cli", "optuna": "steps"}
FILES = sorted(PACKAGE.rglob("*.py"))


def home(path: Path) -> str:
    """The top-level module or package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it, also for type checkers alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    """A module imports its own package and lower layers, never a higher layer or a neighbour."""
    own = home(path)
    parts = {name.split(".")[1] for name in imports(path) if name.startswith("autosparse.")} & set(RANK)
    allowed = {name for name, rank in RANK.items() if own == "__init__" or rank < RANK[own]} | {own}
    if own == "__main__":
        allowed |= {"cli"}

    assert parts - allowed == set()


def test_every_module_has_a_layer() -> None:
    """A new top-level module is given its place here, on purpose."""
    assert {home(path) for path in FILES} - {"__init__"} == set(RANK)


@pytest.mark.parametrize("library", ONLY)
def test_a_library_has_one_home(library: str) -> None:
    """Only the console imports rich, only the cli typer, only tuning optuna."""
    users = {home(path) for path in FILES if any(name.split(".")[0] == library for name in imports(path))}

    assert {ONLY[library]} == users


def test_torch_is_imported_only_where_networks_are_defined() -> None:
    """Everything else takes the stand-in of `autosparse.lazy_torch`, so that plans never wait for torch."""
    users = {
        path.relative_to(PACKAGE).parts[:2]
        for path in FILES
        if any(name.split(".")[0] in ("torch", "torchvision") for name in imports(path))
    }

    adapters = {("models", "libraries.py"), ("datasets", "torchvision.py"), ("datasets", "image_folder.py")}
    adapters |= {("measure", "reference_loop.py")}  # a standard loop, with torchvision's transforms
    assert {("models", "networks.py"), ("lazy_torch.py",)} | adapters == users


def test_lines_of_a_module() -> None:
    """Modules stay small: one subject each."""
    long = {str(path.relative_to(PACKAGE)): n for path in FILES if (n := len(path.read_text().splitlines())) > 400}

    assert long == {}
