"""Consoles of stdout and stderr, safe text, and tables."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autosparse.text import visible


def results() -> Console:
    """Return the console of stdout, for results."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def notes() -> Console:
    """Return the console of stderr, for everything else."""
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False)


def number_table(*columns: str, header_style: str) -> Table:
    """Return a table without lines: names on the left, numbers on the right."""
    return table_of(*columns, numbers=len(columns), box=None, padding=(0, 2, 0, 0), header_style=header_style)


def table_of(*columns: str, numbers: int = 0, **style: Any) -> Table:
    """Return a table, by default ruled below its titles; `numbers` columns after the first are right-aligned."""
    table = Table(**{"box": box.SIMPLE_HEAD, "pad_edge": False, **style})
    for index, column in enumerate(columns):
        table.add_column(plain(column), justify="right" if 0 < index <= numbers else "left", overflow="fold")
    return table


def bar(share: float, width: int) -> str:
    """Return a bar of `width` characters, filled by a share."""
    filled = round(width * share)
    return "█" * filled + "░" * (width - filled)


def plain(value: object, style: str = "") -> Text:
    """Return text as written: literal markup, control characters and direction marks as `?`."""
    return Text(visible(value), style=style)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], numbers: int = 0) -> None:
    """Print a table of names and their values; `numbers` columns after the first are numbers."""
    table = table_of(*columns, numbers=numbers)
    for row in rows:
        table.add_row(*(plain(cell) for cell in row))
    results().print(table)


def show_text(text: str) -> None:
    """Print a result of one text as it is, never wrapped."""
    results().print(plain(text) if "\n" not in text else text, soft_wrap=True)
