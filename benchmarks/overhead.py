"""Overhead of plan, store and report: `python benchmarks/overhead.py [ROUNDS]`, on the digits spec, one thread.

Every round is a run in an empty cache, in a separate process, and a second run with nothing to do. The rest is the
total without the functions of the steps, the imports of libraries and the first probe of the machine.
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
from typing import Any

from records import append
from runs import SPECS, settings

ROUNDS = 3
COLUMNS = ("total", "in steps", "imports", "probes", "the rest", "share, %", "a step, ms", "again")


def main() -> None:
    """Print a line a round, and the medians; seconds unless a column names another unit."""
    print("".join(f"{column:>11}" for column in ("", *COLUMNS)))
    rounds: list[tuple[float, ...]] = []
    for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            first, again = (child(folder) for _ in range(2))
        spent = first["inside"], first["imports"], first["probes"]
        rest = first["seconds"] - sum(spent)
        shares = 100 * rest / first["seconds"], 1000 * rest / first["steps"]
        rounds.append((first["seconds"], *spent, rest, *shares, again["seconds"]))
        show(f"round {number + 1}", rounds[-1])
        total, steps, imports, probes, rest, share, step, rerun = (round(value, 4) for value in rounds[-1])
        append("overhead", [{
            "measure": "run", "steps": int(first["steps"]), "seconds": total, "step_seconds": steps,
            "import_seconds": imports, "probe_seconds": probes, "rest_seconds": rest,
            "rest_share": round(share / 100, 4), "rest_milliseconds_per_step": step, "rerun_seconds": rerun,
        }], threads=1)  # fmt: skip
    show("median", tuple(statistics.median(column) for column in zip(*rounds, strict=True)))
    print(f"{first['steps']:.0f} steps")


def show(name: str, row: tuple[float, ...]) -> None:
    """Print one line."""
    print(f"{name:>11}" + "".join(f"{value:11.2f}" for value in row), flush=True)


def child(folder: str) -> dict[str, float]:
    """Return the seconds of one run in a separate process."""
    environment = {**os.environ, "AUTOSPARSE_CACHE_DIR": f"{folder}/cache", "OMP_NUM_THREADS": "1"}
    begin = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, __file__, "--one", folder], check=True, capture_output=True, text=True, env=environment
    )
    return {**json.loads(ended.stderr.splitlines()[-1]), "seconds": time.perf_counter() - begin}


def one(folder: str) -> None:
    """Run in this process; write the seconds of steps, imports and probes to stderr."""
    begin = time.perf_counter()
    import optuna  # noqa: F401 -- steps would import them
    import torch  # noqa: F401

    from autosparse.cli import main as autosparse

    imports = time.perf_counter() - begin
    from autosparse.backends import _base
    from autosparse.cost import rates
    from autosparse.execute import data_parallel

    seconds = {"inside": 0.0, "imports": imports, "probes": 0.0, "steps": 0.0}

    def timed(work: Callable[..., Any], name: str) -> Callable[..., Any]:
        def do(*given: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return work(*given, **options)
            finally:
                seconds[name] += time.perf_counter() - start
                seconds["steps"] += name == "inside"

        return do

    class Timed:
        """Operations with a timer around each."""

        def __getitem__(self, name: str) -> Any:
            entry = operations[name]

            class Entry:
                function = staticmethod(timed(entry.function, "inside"))
                facts = entry.facts

            return Entry

    operations, data_parallel.operations = data_parallel.operations, Timed()  # type: ignore[assignment]
    _base._prepare = timed(_base._prepare, "imports")  # type: ignore[attr-defined]
    for probe in ("probe_machine", "probe_network"):
        object.__setattr__(rates.THIS_MACHINE, probe, timed(getattr(rates.THIS_MACHINE, probe), "probes"))
    values = settings(["target.threads=1", "target.workers=1"])
    sys.argv = ["autosparse", "run", str(SPECS / "digits.yaml"), "--out", f"{folder}/run", "--quiet", *values]
    try:
        autosparse()
    except SystemExit:
        print(json.dumps(seconds), file=sys.stderr)


if __name__ == "__main__":
    one(sys.argv[2]) if sys.argv[1:2] == ["--one"] else main()
