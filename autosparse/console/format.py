"""Consoles of stdout and stderr, safe text, and tables."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, redirect_stdout
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from autosparse.text import visible

_UNLIMITED = Console(file=io.StringIO(), width=10_000).options


def results() -> Console:
    """Return the console of stdout, for results."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False, force_jupyter=False)


def notes() -> Console:
    """Return the console of stderr, for everything else."""
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False, force_jupyter=False)


def captured() -> AbstractContextManager[io.StringIO]:
    """Return a context whose value collects the results printed inside."""
    return redirect_stdout(io.StringIO())


def number_table(*columns: str, header_style: str) -> Table:
    """Return a table without lines: names on the left, numbers on the right."""
    return table_of(*columns, numbers=len(columns), box=None, padding=(0, 2, 0, 0), header_style=header_style)


def table_of(*columns: str | Text, numbers: int = 0, **style: Any) -> Table:
    """Return a table, by default ruled below its titles; `numbers` columns after the first are right-aligned."""
    table = Table(**{"box": box.SIMPLE_HEAD, "pad_edge": False, **style})
    for index, column in enumerate(columns):
        justify: JustifyMethod = "right" if 0 < index <= numbers else "left"
        title = column if isinstance(column, Text) else plain(column)
        table.add_column(title, justify=justify, overflow="fold", no_wrap=index <= numbers)
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
    """Print a table of names and their values; `numbers` columns after the first are numbers, which never fold.

    On a narrow terminal columns move together, then names and texts fold, then columns are hidden one by one until the
    table fits: the `optional` ones, by index, in their order, and after them the last ones. A line names them.
    `sections` are the rows that end one; `style` is that of `table_of`. `FIXED` spaces are printed as spaces.
    """
    console = console or results()
    lines = [[cell if isinstance(cell, Text) else plain(cell) for cell in row] for row in rows]
    order = [*optional, *(index for index in range(len(columns) - 1, 1, -1) if index not in optional)]
    for padding, count in [(1, 0), *((0, count) for count in range(len(order) + 1))]:
        hidden = order[:count]
        shown = [index for index in range(len(columns)) if index not in hidden]
        parts = [[plain(columns[index]), *(line[index] for line in lines)] for index in shown]
        named = sum(0 < index <= numbers for index in shown)
        layout = {"padding": (0, padding, 0, 1), **style}
        room = console.width - _ruled(parts, named, layout)
        widths = _widths(parts, named, console.width, room)
        if sum(widths) <= room and (not padding or widths == [_wide(part) for part in parts]):
            break
    folded = [[fold(cell, width) for cell in part] for part, width in zip(parts, widths, strict=True)]
    table = table_of(*(part[0] for part in folded), numbers=named, **layout)
    table.width = console.width - room + sum(map(_wide, folded))  # a narrower terminal breaks the lines itself
    for number, line in enumerate(zip(*(part[1:] for part in folded), strict=True)):
        table.add_row(*line, end_section=number in sections)
    console.print(table, crop=False)
    if hidden:
        names = ", ".join(columns[index] or "bars" for index in sorted(hidden))
        console.print(plain(f"hidden at {console.width} columns: {names}", "dim"))
        console.print()


_NAME = 0.4  # share of a terminal that words of the first column keep, before other columns are hidden
_WORD = 24  # columns: longer words may break anywhere
_BREAK = re.compile(r"(?<=\S) +|(?<=\w[./:_+])(?!(?<=\d.)\d)(?=\S)|(?<=\w-)(?=[^\W\d])")
FIXED = "\N{NO-BREAK SPACE}"
"""space at which no cell of a table breaks; printed as a space"""


def fold(text: Text, width: int) -> Text:
    """Return a text in lines of at most `width` columns, broken at spaces, else after `.`, `/`, `:`, `_`, `+` or `-`.

    A word without these breaks anywhere; a number only where it is wider than a line.
    """
    lines = []
    for line in text.split("\n", allow_blank=True):
        while line.cell_len > width > 0:
            ends = [m for m in _BREAK.finditer(line.plain) if cell_len(line.plain[: m.start()]) <= width]
            spaces = [match for match in ends if match.group()]
            if ends:
                start, end = (spaces or ends)[-1].span()
            else:
                start = end = max(1, *(n for n in range(len(line)) if cell_len(line.plain[:n]) <= width))
            lines.append(line[:start])
            line = line[end:]
        lines.append(line)
    whole = Text("\n").join(lines)
    whole.plain = whole.plain.replace(FIXED, " ")
    return whole


def _wide(part: Sequence[Text]) -> int:
    return max(line.cell_len for cell in part for line in cell.split("\n", allow_blank=True))


def _ruled(parts: Sequence[Sequence[Text]], numbers: int, layout: Mapping[str, Any]) -> int:
    # Columns of a terminal that a table takes for rules and padding.
    table = table_of(*("x" for _ in parts), numbers=numbers, **layout)
    return table.__rich_measure__(results(), _UNLIMITED).maximum - len(parts)


def _widths(parts: Sequence[Sequence[Text]], numbers: int, width: int, room: int) -> list[int]:
    # Names and texts share the room that the least widths leave, in proportion to their needs.
    most = [_wide(part) for part in parts]
    name = max(_wordy(parts[0][:1]), min(_wordy(parts[0]), int(_NAME * width)), width // 4)
    least = [min(most[0], name)]
    for index, part in enumerate(parts[1:], 1):
        least.append(most[index] if index <= numbers else min(most[index], _WORD, _wordy(part)))
    names = min(most[0], int(_NAME * width)) - least[0]  # names fold last
    least[0] += max(0, min(names, room - sum(least)))
    needs = [full - low for full, low in zip(most, least, strict=True)]
    left = min(room - sum(least), sum(needs))
    if left <= 0:
        return least
    widths = [low + need * left // sum(needs) for low, need in zip(least, needs, strict=True)]
    for index, full in enumerate(most):
        spare = min(full - widths[index], room - sum(widths))
        widths[index] += max(0, spare)
    return widths


def _wordy(part: Sequence[Text]) -> int:
    # The longest word of a column.
    words = (word for cell in part for line in cell.plain.split("\n") for word in _BREAK.split(line))
    return max(map(cell_len, words))


def show_text(text: str) -> None:
    """Print a result of one text as it is, never wrapped."""
    results().print(Text("\n").join(map(plain, text.split("\n"))), soft_wrap=True)
