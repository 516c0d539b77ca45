"""Environment of the HTML templates: every text is escaped, and its invisible characters are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autosparse.text import visible

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Row:
    """Row of a table: its name first; `main` marks the spec's method."""

    cells: Sequence[str]
    main: bool = False


@dataclass(frozen=True)
class Table:
    """Table of a page; `label` describes it to screen readers."""

    label: str
    titles: Sequence[str]
    rows: Sequence[Row]


def environment() -> Any:
    """Return a Jinja environment: every text passes `finalize` and the escaping of HTML; only our files are Markup."""
    import jinja2
    from markupsafe import Markup

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else visible(value),
        trim_blocks=True,
        keep_trailing_newline=True,
    )


def asset(name: str) -> str:
    """Return the text of a file next to the templates, such as a style sheet."""
    return (TEMPLATES / name).read_text(encoding="utf-8")
