"""Consoles of stdout and stderr, safe text, and tables."""

from __future__ import annotations

import io
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from autosparse.text import visible

_UNLIMITED = Console(file=io.StringIO(), width=10_000).options


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
        justify: JustifyMethod = "right" if 0 < index <= numbers else "left"
        table.add_column(plain(column), justify=justify, overflow="fold", no_wrap=not index)
    return table


def bar(share: float, width: int) -> str:
    """Return a bar of `width` characters, filled by a share."""
    filled = round(width * share)
    return "█" * filled + "░" * (width - filled)


def plain(value: object, style: str = "") -> Text:
    """Return text as written: literal markup, control characters and direction marks as `?`."""
    return Text(visible(value), style=style)


def show_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    numbers: int = 0,
    *,
    optional: Sequence[int] = (),
    sections: Collection[int] = (),
    console: Console | None = None,
    **style: Any,
) -> None:
    """Print a table of names and their values; `numbers` columns after the first are numbers.

    On a narrow terminal columns move together; then the `optional` ones, by index, are hidden one by one, the first one
    first, until the table fits. A line names them. `sections` are the rows that end one; `style` is that of `table_of`.
    """
    console = console or results()
    lines = [[cell if isinstance(cell, Text) else plain(cell) for cell in row] for row in rows]
    for padding, count in [(1, 0), *((0, count) for count in range(len(optional) + 1))]:
        hidden = optional[:count]
        shown = [index for index in range(len(columns)) if index not in hidden]
        named = sum(0 < index <= numbers for index in shown)
        table = table_of(*(columns[index] for index in shown), numbers=named, padding=(0, padding, 0, 1), **style)
        for number, line in enumerate(lines):
            table.add_row(*(line[index] for index in shown), end_section=number in sections)
        if table.__rich_measure__(console, _UNLIMITED).maximum <= console.width:
            break
    console.print(table)
    if hidden:
        names = ", ".join(columns[index] for index in sorted(hidden))
        console.print(plain(f"hidden at {console.width} columns: {names}", "dim"))


def show_text(text: str) -> None:
    """Print a result of one text as it is, never wrapped."""
    results().print(plain(text) if "\n" not in text else text, soft_wrap=True)
