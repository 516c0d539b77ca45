"""The consoles of stdout and stderr, and safe text."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.text import Text

from autosparse.text import visible


def results() -> Console:
    """Results go to stdout."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def notes() -> Console:
    """Everything else goes to stderr."""
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False)


def plain(value: object, style: str = "") -> Text:
    """Text as written: markup stays literal, control characters and direction marks are shown as `?`."""
    return Text(visible(value), style=style)
