"""Language of the source: names that say nothing, and phrases in docstrings that readers must translate."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs.test_language import BANNED, PACKAGE, ROOT

EMPTY = {"told", "said", "taken", "own", "place", "found"}
FOLDERS = [PACKAGE, ROOT / "tests"]


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def files(folder: Path) -> list[Path]:
    """Return the modules below a folder."""
    return sorted(folder.rglob("*.py"))


def bound(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of every function, class, argument, import and assigned variable or attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.alias):
            yield node.lineno, node.asname or node.name
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs) and node.name:
            yield node.lineno, node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_names_are_nouns_of_the_field(folder: Path) -> None:
    """No function, class, argument or variable has one of the empty names."""
    hits = [
        f"{path.relative_to(folder)}:{line}: {name}"
        for path in files(folder)
        for line, name in bound(parsed(path))
        if name.lower() in EMPTY
    ]

    assert [] == hits


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_docstrings_use_no_banned_phrase(folder: Path) -> None:
    """The phrases that messages and pages avoid."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    hits = [
        f"{path.relative_to(folder)}:{getattr(node, 'lineno', 1)}: {hit.group()}"
        for path in files(folder)
        for node in ast.walk(parsed(path))
        if isinstance(node, documented)
        for hit in BANNED.finditer(ast.get_docstring(node) or "")
    ]

    assert [] == hits


def test_every_kind_of_name_counts() -> None:
    """Arguments, loops, imports, handlers and attributes, not only assignments."""
    source = (
        "import a as b\ndef c(d, *e):\n    for f in e: f.g = 1\n    with d as h: pass\n"
        "    try: i = 1\n    except OSError as j: pass\n    return lambda k: [m for m in k]\n"
    )

    assert {*"bcdefghijkm"} == {name for _, name in bound(ast.parse(source))}
