"""Following a page to the letter: its files are written, its changes made, its programs and commands run.

A block after a line that ends with "`FILE`:" is the content of that file. After "In `FILE`:" a `diff` block changes the
file, and after "In `FILE`, at the end:" a block is appended. All other `sh` and `python` blocks run, in order; blocks
of `text` only show.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import Workspace

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"(?:^(?P<lead>[^\n]*)\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"(?:^|\. )(?P<edit>(?:In|in) )?`(?P<name>[\w./-]+\.\w+)`(?P<end>, at the end)?:$")


@dataclass(frozen=True)
class Block:
    """Block of a page; `file` is the file that it writes, changes or extends, by `action`."""

    kind: str
    text: str
    file: str = ""
    action: str = ""


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page, in order."""
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        named = _FILE.search(match["lead"] or "")
        if not named:
            yield Block(match["kind"], match["text"])
            continue
        action = "append" if named["end"] else "change" if named["edit"] else "write"
        yield Block(match["kind"], match["text"], named["name"], action)


def follow(page: Path, folder: Path, *, source: bool) -> dict[str, str]:
    """Follow a page in an empty folder, with a copy of the source to change if asked; return command -> output."""
    if source:
        for name in ("autosparse", "specs", "templates"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    environment = _environment(folder, folder if source else ROOT)
    printed: dict[str, str] = {}
    for block in blocks(page):
        if block.file:
            _edit(folder / block.file, block)
        elif block.kind in ("sh", "python"):
            command = ["sh", "-e"] if block.kind == "sh" else [sys.executable, "-"]
            # On one core: threads that share cores with other tests wait for each other.
            ended = subprocess.run(
                command,
                input=block.text,
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
                preexec_fn=_one_core,
            )
            assert 0 == ended.returncode, f"{block.text}\n{ended.stdout}\n{ended.stderr}"
            printed[block.text] = ended.stdout
    return printed


def _edit(path: Path, block: Block) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if block.action == "write":
        assert not path.exists(), f"{block.file} exists already"
        path.write_text(block.text, encoding="utf-8")
    elif block.action == "append":
        with path.open("a", encoding="utf-8") as file:
            file.write(f"\n\n{block.text}")
    else:
        lines = block.text.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] != "+")
        after = "".join(line[1:] for line in lines if line[0] != "-")
        text = path.read_text(encoding="utf-8")
        assert 1 == text.count(before), f"{block.file} holds {text.count(before)} times:\n{before}"
        path.write_text(text.replace(before, after), encoding="utf-8")


def _one_core() -> None:
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})


def _environment(folder: Path, package: Path) -> dict[str, str]:
    # Commands of the page are this Python and this package, whatever is installed.
    programs = folder / ".programs"
    programs.mkdir()
    for name, arguments in (("python", ""), ("autosparse", " -m autosparse")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    workspace = Workspace(folder)
    workspace.lend_rates()
    path = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**workspace.environment, "PATH": path, "PYTHONPATH": str(package)}
