"""The consoles of stdout and stderr, and safe text."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autosparse.text import visible


def results() -> Console:
    """Results go to stdout."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def notes() -> Console:
    """Everything else goes to stderr."""
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False)


def number_table(title: str, *columns: str, header_style: str) -> Table:
    """A table without lines: names on the left, numbers on the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=header_style)
    table.add_column(plain(title), overflow="fold")
    for column in columns:
        table.add_column(plain(column), justify="right", overflow="fold")
    return table


def plain(value: object, style: str = "") -> Text:
    """Text as written: markup stays literal, control characters and direction marks are shown as `?`."""
    return Text(visible(value), style=style)
