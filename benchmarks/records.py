"""Rows of results: every line of `results/NAME.jsonl` is one measurement with its command, machine and date.

A row also names its values with their units. A script appends rows; `render.py` makes `docs/benchmarks.md` from them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
Row = dict[str, Any]


def read(name: str) -> list[Row]:
    """Return the rows of one file, oldest first; none for a missing file."""
    return read_file(FOLDER / f"{name}.jsonl")


def read_file(path: Path) -> list[Row]:
    """Return the rows of a file, oldest first; none for a missing file."""
    # Not `splitlines`, which also splits at line separators inside a string.
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    return [json.loads(line) for line in lines if line]


def append(name: str, rows: Iterable[Row], threads: int | None = None) -> None:
    """Append rows with the command, machine, date and version of this process."""
    about = provenance(threads)
    with (FOLDER / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({**row, **about, **row}, ensure_ascii=False) + "\n")


def provenance(threads: int | None = None) -> dict[str, str]:
    """Return the command, machine, date and version of a row that this process measures.

    `threads` defaults to `OMP_NUM_THREADS`, then to one.
    """
    from autosparse import __version__

    return {
        "command": command(),
        "machine": machine(threads or int(os.environ.get("OMP_NUM_THREADS", "1"))),
        "date": datetime.now(UTC).date().isoformat(),
        "version": __version__,
    }


def command() -> str:
    """Return the command line of this process; absolute paths become `DATA`."""
    words = [re.sub(r"(^|(?<=[=\s]))/\S+", "DATA", word) for word in sys.argv[1:]]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def machine(threads: int) -> str:
    """Return the processor or GPU, the number of threads and torch's version."""
    from importlib.metadata import version

    from autosparse.backends import this_machine

    here = this_machine()
    device = "" if here.devices[0] == "cpu" else f", {here.devices[0]}"
    return f"{here.processor}{device}, {threads} thread{'s' * (threads != 1)}, torch {version('torch')}"


def select(rows: Iterable[Row], **values: object) -> list[Row]:
    """Return the rows that have all of these values."""
    return [row for row in rows if all(row.get(name) == value for name, value in values.items())]


def latest(rows: Iterable[Row], *names: str) -> list[Row]:
    """Return the last row of every combination of values, in the order of first appearance."""
    return [*{tuple(map(str, (row.get(name) for name in names))): row for row in rows}.values()]
