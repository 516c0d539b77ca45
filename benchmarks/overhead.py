"""What plan, store and reporting take: `python benchmarks/overhead.py [ROUNDS]`, of the digits spec, one thread.

A run from an empty cache, in a process of its own, and once more with nothing to run. The rest is
what the whole takes less the functions of the steps, importing libraries, and probing a new machine once.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SPEC = Path(__file__).parent.parent / "specs" / "digits.yaml"
ROUNDS = 3


COLUMNS = ("in all", "in steps", "imports", "probes", "the rest", "share, %", "a step, ms", "again")


def main() -> None:
    """A line a round, and the medians; seconds where nothing else is said."""
    print("".join(f"{column:>11}" for column in ("", *COLUMNS)))
    found: list[tuple[float, ...]] = []
    for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            first, again = (child(folder) for _ in range(2))
        spent = first["inside"], first["imports"], first["probes"]
        rest = first["seconds"] - sum(spent)
        shares = 100 * rest / first["seconds"], 1000 * rest / first["steps"]
        found.append((first["seconds"], *spent, rest, *shares, again["seconds"]))
        tell(f"round {number + 1}", found[-1])
    tell("median", tuple(statistics.median(column) for column in zip(*found, strict=True)))
    print(f"{first['steps']:.0f} steps")


def tell(name: str, row: tuple[float, ...]) -> None:
    """One line."""
    print(f"{name:>11}" + "".join(f"{value:11.2f}" for value in row), flush=True)


def child(folder: str) -> dict[str, float]:
    """Seconds of one run in a process of its own."""
    environment = {**os.environ, "AUTOSPARSE_CACHE_DIR": f"{folder}/cache", "OMP_NUM_THREADS": "1"}
    begin = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, __file__, "--one", folder], check=True, capture_output=True, text=True, env=environment
    )
    return {**json.loads(ended.stderr.splitlines()[-1]), "seconds": time.perf_counter() - begin}


def one(folder: str) -> None:
    """A run in this process; what its steps and imports took goes to stderr."""
    begin = time.perf_counter()
    import optuna  # noqa: F401 -- steps would import them
    import torch  # noqa: F401

    from autosparse.cli import main as autosparse

    imports = time.perf_counter() - begin
    from autosparse.backends import _base
    from autosparse.cost import price
    from autosparse.execute import data_parallel

    taken = {"inside": 0.0, "imports": imports, "probes": 0.0, "steps": 0.0}

    def timed(work: Callable[..., Any], name: str) -> Callable[..., Any]:
        def do(*given: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return work(*given, **options)
            finally:
                taken[name] += time.perf_counter() - start
                taken["steps"] += name == "inside"

        return do

    class Timed:
        """The operations, with a clock around each."""

        def __getitem__(self, name: str) -> Any:
            entry = operations[name]

            class Entry:
                function = staticmethod(timed(entry.function, "inside"))
                facts = entry.facts

            return Entry

    operations, data_parallel.operations = data_parallel.operations, Timed()  # type: ignore[assignment]
    _base._prepare = timed(_base._prepare, "imports")  # type: ignore[attr-defined]
    for probe in ("probe_machine", "probe_network"):
        object.__setattr__(price.THIS_MACHINE, probe, timed(getattr(price.THIS_MACHINE, probe), "probes"))
    sys.argv = ["autosparse", "run", str(SPEC), "--out", f"{folder}/run", "--quiet"]
    for value in ("target.threads=1", "target.workers=1"):
        sys.argv += ["--set", value]
    try:
        autosparse()
    except SystemExit:
        print(json.dumps(taken), file=sys.stderr)


if __name__ == "__main__":
    one(sys.argv[2]) if sys.argv[1:2] == ["--one"] else main()
