"""A run on a real terminal: the tree is drawn in place, leaves nothing behind, and Ctrl-C gives the cursor back."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.conftest import Workspace

WIDE, HIGH = 60, 24
TOKEN = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="there are no pseudo-terminals")]


class Terminal:
    """As much of a terminal as a tree that is drawn again and again asks for."""

    def __init__(self) -> None:
        self.lines, self.row, self.column = [""], 0, 0
        self.cursor = True

    def feed(self, text: str) -> None:
        for match in TOKEN.finditer(text):
            argument, kind = match[1], match[2]
            if kind == "A":
                self.row = max(0, self.row - int(argument or 1))
            elif kind == "K":
                self.lines[self.row] = ""
            elif kind in ("h", "l") and argument == "?25":
                self.cursor = kind == "h"
            elif match[0] == "\r":
                self.column = 0
            elif match[0] == "\n":
                self.row, self.column = self.row + 1, 0
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif kind is None:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + match[0] + line[self.column + len(match[0]) :]
                self.column += len(match[0])

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).strip()


def watched(
    workspace: Workspace, line: str, until: Callable[[str], bool] = lambda text: False
) -> tuple[int, str, Terminal]:
    """Run a command on a terminal of 60 columns, press Ctrl-C on request, and return its exit code and both streams."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HIGH, WIDE, 0, 0))
    workspace.lend_rates()
    environment = {**workspace.environment, "TERM": "xterm-256color"}
    environment.pop("COLUMNS")

    def begin() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-m", "autosparse", *line.split()],
        cwd=workspace.folder,
        env=environment,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        start_new_session=True,
        preexec_fn=begin,
    )
    os.close(theirs)
    terminal, pressed, end = Terminal(), False, time.monotonic() + 240
    while time.monotonic() < end:
        if not select.select([ours], [], [], 0.2)[0]:
            continue
        try:
            data = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not data:
            break
        terminal.feed(data.decode(errors="ignore"))
        if not pressed and until(terminal.text):
            os.write(ours, b"\x03")
            pressed = True
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    return process.returncode, out, terminal


def test_a_tree_is_drawn_in_place(workspace: Workspace) -> None:
    """Over itself, no wider than the terminal; nothing is left of it, and the result alone is on stdout."""
    seen = list[str]()

    def watch(text: str) -> bool:
        seen.append(text)
        return False

    code, out, terminal = watched(workspace, "run small.yaml --only irp/* --json", watch)
    trees = [text.partition("steps to run")[2].splitlines()[1:] for text in seen if "source of labels" in text]

    assert 0 == code, terminal.text
    assert out.startswith("{")
    assert terminal.cursor
    assert trees
    assert max(len(line) for tree in trees for line in tree) <= WIDE
    assert {1} == {"\n".join(tree).count("source of labels") for tree in trees}
    assert terminal.text.splitlines()[-1].endswith("reused")


def test_ctrl_c_leaves_a_terminal_as_it_was(workspace: Workspace) -> None:
    """The cursor is restored, the message names the kept steps, and the exit code is 130."""
    some = re.compile(r"source of labels\s+[1-3]/5")
    code, out, terminal = watched(workspace, "run small.yaml", lambda text: bool(some.search(text)))

    assert (130, "") == (code, out)
    assert terminal.cursor
    assert "are kept" in terminal.text
    assert terminal.text.endswith("resumes with the next step")
