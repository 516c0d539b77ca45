"""The language of help, messages and pages: none of a list of phrases that readers must translate."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import autosparse
from autosparse.cli.app import app
from autosparse.spec import spec_schema
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
    r"|looked at once|goes on for ever|a text of a certain form|no class is|the most that is left|where there are fewer"
    r"|by default there is none|as (the|its) authors do|an? (subfolder|subdirectory) a class|one subfolder"
    r"|as long as [\d.]+ trainings|because [\w.]+ [\d.]+ →)(?!\w)",
    re.IGNORECASE,
)
"""Phrases with a term of the field in their place: see the glossary."""
NO_NOUN = re.compile(r"(of|that|what|how|which|where|whether|to|into|as|its|divides|their)\b", re.IGNORECASE)
"""First words of a description that names no noun."""
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
GENERATED_PAGES = {ROOT / "docs" / "reference" / name for name in GENERATED}
LONGEST = {ROOT / "docs" / "benchmarks.md": 145}
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
        for phrases in (BANNED, TRANSLATED)
        for hit in phrases.finditer(text)
    ]

    assert [] == hits


def test_help_uses_no_banned_phrase() -> None:
    """The docstrings of commands."""
    texts = {str(command.callback): command.callback.__doc__ for command in app.registered_commands if command.callback}

    assert [] == [f"{name}: {hit.group()}" for name, text in texts.items() for hit in BANNED.finditer(text or "")]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pages_use_no_banned_phrase(path: Path) -> None:
    """README and documentation; code and outputs that they quote hold no term from before the glossary."""
    text = path.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)

    assert [] == [hit.group() for hit in (*BANNED.finditer(prose), *TRANSLATED.finditer(text))]


def descriptions() -> Iterator[tuple[str, str]]:
    """Yield the path and text of every field of a spec and every option of a choice."""
    schema = spec_schema()
    for definition, part in [("Spec", schema), *schema["$defs"].items()]:
        for branch in (part, *part.get("anyOf", ())):
            for name, field in branch.get("properties", {}).items():
                yield f"{definition}.{name}", field.get("description", "")


def test_descriptions_name_a_noun() -> None:
    """Fields and options: none begins with a preposition, a pronoun or a question word."""
    described = dict(descriptions())

    assert "Recipe.momentum" in described
    assert [] == [f"{path}: {text}" for path, text in described.items() if NO_NOUN.match(text)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pages_are_short(path: Path) -> None:
    """At most 180 lines, code included."""
    if path not in GENERATED_PAGES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST.get(path, 180)
