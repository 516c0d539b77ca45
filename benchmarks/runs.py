"""Runs of the `autosparse` command in child processes, as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SPECS = Path(__file__).parent.parent / "specs"
THREADS = os.environ.get("OMP_NUM_THREADS", "1")


def run(spec: Path, out: Path, values: Iterable[str], **environment: str) -> Any:
    """Run a spec with these values (`PATH=VALUE`) and return its report."""
    return autosparse("run", str(spec), "--out", str(out), *settings(values), **environment)


def autosparse(*arguments: str, **environment: str) -> Any:
    """Return the JSON that a command prints; its errors go to stderr."""
    command = [sys.executable, "-m", "autosparse", *arguments, "--json", "--quiet"]
    child = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(child.stdout)


def settings(values: Iterable[str]) -> list[str]:
    """Return `--set VALUE` for every value."""
    return [word for value in values for word in ("--set", value)]


def dataset(data: str) -> str:
    """Return the setting of the folder of CIFAR-10."""
    return f"dataset.path={Path(data).resolve()}"
