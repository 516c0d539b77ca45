"""Progress of a run in a notebook: the tree of a terminal, as an output that is updated in place."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from rich.console import Console

from autosparse.backends import Event, Failed, Finished, Note, Observer
from autosparse.console.format import notes, plain
from autosparse.console.progress import Tree, follow
from autosparse.cost.fitted import Fitted
from autosparse.text import plural, seconds

_WIDTH = 100  # columns of the tree
_APART = 0.5  # seconds between updates
_STYLE = "white-space:pre;overflow-x:auto;line-height:normal;font-family:Menlo,'DejaVu Sans Mono',consolas,monospace"


def is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class Notebook:
    """Observer that draws the progress tree in the output of a notebook's cell; `end` replaces it by one line."""

    def __init__(self, fitted: Fitted) -> None:
        self._left, self._made = len(fitted.to_run), 0
        self._begin = time.monotonic()
        ipython: Any = import_module("IPython.display")
        self._html = ipython.HTML
        self._tree = Tree(fitted, Console(file=io.StringIO(), width=_WIDTH, force_jupyter=False))
        self._updated = time.monotonic()
        self._handle: Any = ipython.display(self._html(self._drawn()), display_id=True)

    def on_event(self, event: Event) -> None:
        """Update the tree at most twice a second; notes and failures stay below the cell."""
        self._tree.on_event(event)
        self._made += isinstance(event, Finished) and event.status != "reuse"
        if isinstance(event, Note | Failed):
            text = event.text if isinstance(event, Note) else event.message
            sys.stderr.write(f"note: {text}\n")
        if time.monotonic() - self._updated >= _APART:
            self._updated = time.monotonic()
            self._handle.update(self._html(self._drawn()))

    def end(self) -> None:
        """Replace the tree by the number of steps and their time."""
        lasted = seconds(time.monotonic() - self._begin)
        total = plural(max(self._made, self._left), "step")
        line = f"{self._made} of {total} in {lasted}" if self._left else "nothing to run"
        self._handle.update(self._html(f"<pre>{line}</pre>"))

    def _drawn(self) -> str:
        console = Console(file=io.StringIO(), width=_WIDTH, record=True, force_jupyter=False, highlight=False)
        console.print(self._tree.drawn())
        return console.export_html(inline_styles=True, code_format=f'<pre style="{_STYLE}">{{code}}</pre>')


@contextmanager
def show_progress(fitted: Fitted) -> Iterator[Observer]:
    """Yield the observer that shows progress where this process runs: a notebook, a terminal, or lines of a log."""
    if not is_notebook():
        with follow(fitted, quiet=False) as observer:
            yield observer
        return
    notebook = Notebook(fitted)
    try:
        yield notebook
    finally:
        notebook.end()


def has_display() -> bool:
    """Return whether someone watches: in a notebook or on a terminal."""
    return is_notebook() or notes().is_terminal


def show_note(text: str) -> None:
    """Print a note on stderr."""
    notes().print(plain(text), soft_wrap=True)
