"""The two streams, and text that cannot do anything but be read."""

from __future__ import annotations

import shlex
import sys

from rich.console import Console
from rich.text import Text

from autosparse.text import visible

BARS = "▁▂▃▄▅▆▇█"


def results() -> Console:
    """Results go to stdout."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def notes() -> Console:
    """Everything else goes to stderr."""
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False)


def plain(value: object, style: str = "") -> Text:
    """Text as written: markup stays literal, control characters and direction marks are shown as `?`."""
    return Text(visible(value), style=style)


def shell_word(value: object) -> str:
    """Quote a path or a name as one word of a shell command that is no option."""
    text = str(value)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def sparkline(values: list[float]) -> str:
    """A row of bars, the lowest value to the highest."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    span = (high - low) or 1.0
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1))] for value in values)


def seconds(value: float) -> str:
    """A duration with two units at most."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    days = minutes / 60 / 24
    return f"{days:.3g} days" if days < 100 else f"{days:,.0f} days"


def size(value: float) -> str:
    """A number of bytes with three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def number(value: float) -> str:
    """A count in at most a few digits."""
    if value < 10_000:
        return f"{value:,.0f}"
    for unit in ("k", "M"):
        value /= 1000
        if value < 999.5:
            return f"{value:.3g}{unit}"
    return f"{value / 1000:,.3g}G"
