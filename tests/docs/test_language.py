"""The language of help, messages and pages: none of a list of phrases that readers must translate."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import autosparse
from autosparse.cli.app import app

ROOT = Path(__file__).parents[2]
PACKAGE = Path(autosparse.__file__).parent
BANNED = re.compile(
    r"\b(tells?|told|anew|takes? away|of its own|beside|so many|begun again|as ever|that ships|in turns"
    r"|(is|are) (not )?there|what (is|was|are|were))\b",
    re.IGNORECASE,
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [path for path in PAGES if path.name != "spec.md"]  # which is generated from docstrings


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and text of every string of a module that is no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def test_messages_use_no_banned_phrase() -> None:
    """Errors, hints, notes, options and reports."""
    hits = [
        f"{path.relative_to(PACKAGE)}:{line}: {hit.group()}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in messages(path)
        for hit in BANNED.finditer(text)
    ]

    assert [] == hits


def test_help_uses_no_banned_phrase() -> None:
    """The docstrings of commands."""
    texts = {str(command.callback): command.callback.__doc__ for command in app.registered_commands if command.callback}

    assert [] == [f"{name}: {hit.group()}" for name, text in texts.items() for hit in BANNED.finditer(text or "")]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_use_no_banned_phrase(path: Path) -> None:
    """README and documentation, without the blocks of code that they quote."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)

    assert [] == [hit.group() for hit in BANNED.finditer(text)]
    assert len(text.splitlines()) <= 180
