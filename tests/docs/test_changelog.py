"""CHANGELOG: sections by kind of change, one line an entry."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

from tests.docs.test_language import BANNED

LINES = (Path(__file__).parents[2] / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
FIRST = LINES.index("## Unreleased")
KINDS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
RELEASE = re.compile(r"## (Unreleased|\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d)")


def test_headings_are_releases_kinds_and_areas() -> None:
    """Kinds of a release are those of keepachangelog.com, each once and in their order; areas divide a kind."""
    headings = [line for line in LINES[FIRST:] if line.startswith("#")]
    releases = [heading for heading in headings if heading.startswith("## ")]

    assert [] == [heading for heading in releases if not RELEASE.fullmatch(heading)]
    for is_release, group in groupby(headings, lambda heading: heading.startswith("## ")):
        kinds = [heading.removeprefix("### ") for heading in group if heading.startswith("### ")]

        assert is_release or [kind for kind in KINDS if kind in kinds] == kinds


def test_an_entry_is_a_line() -> None:
    """Of at most 160 characters, with a full stop; no entry appears twice."""
    entries = [line for line in LINES[FIRST:] if line and not line.startswith("#")]

    assert [] == [line for line in entries if not line.startswith("- ") or not line.endswith(".") or len(line) > 160]
    assert len(entries) == len(set(entries))
    assert [] == [hit.group() for line in entries for hit in BANNED.finditer(line)]


def test_no_section_is_empty() -> None:
    """Every heading of a kind or an area is followed by an entry or by its areas."""
    lines = [line for line in LINES[FIRST:] if line]
    follows: dict[str, str | tuple[str, ...]] = {"## ": "### ", "### ": ("- ", "#### "), "#### ": "- "}
    pairs = zip(lines, [*lines[1:], ""], strict=True)
    headings = [(line, line[: line.index(" ") + 1], after) for line, after in pairs if line.startswith("#")]

    assert [] == [line for line, level, after in headings if not after.startswith(follows[level])]
