"""The language of help, messages and pages: none of a list of phrases that readers must translate."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import autosparse
from autosparse.cli.app import app
from tests.docs.reference import GENERATED

ROOT = Path(__file__).parents[2]
PACKAGE = Path(autosparse.__file__).parent
BANNED = re.compile(
    r"\b(tells?|told|anew|takes? away|of its own|beside|so many|begun again|as ever|that ships|in turns"
    r"|(is|are) (not )?there|what (is|was|are|were))\b",
    re.IGNORECASE,
)
TRANSLATED = re.compile(
    r"\b(with (its|their) place|cuts? the network|passes nothing|has used for long|everybody writes|plain loop|reckons?"
    r"|in no key|(is|are) given up|ends with \d|runs beside|needs nothing else|though (it is|they are) in the cache"
    r"|because first time|cost when made|off by|ln paths|not known yet|nothing shows that|learned nothing"
    r"|looked at once|goes on for ever|a text of a certain form|no class is)\b",
    re.IGNORECASE,
)
"""Phrases with a term of the field in their place: see the glossary."""
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
GENERATED_PAGES = {ROOT / "docs" / "reference" / name for name in GENERATED}
LONGEST = {ROOT / "docs" / "benchmarks.md": 120}
"""Page -> lines that it may have, where that is not 180; generated pages have any number."""


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


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pages_use_no_banned_phrase(path: Path) -> None:
    """README and documentation, without the blocks of code that they quote and the texts of help."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    if path in GENERATED_PAGES:
        text = re.sub(r"^\|.*\|$", "", text, flags=re.MULTILINE)

    assert [] == [hit.group() for phrases in (BANNED, TRANSLATED) for hit in phrases.finditer(text)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pages_are_short(path: Path) -> None:
    """At most 180 lines, code included."""
    if path not in GENERATED_PAGES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST.get(path, 180)
