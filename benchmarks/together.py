"""Parallel against sequential steps: `python benchmarks/together.py [ROUNDS]`, three rounds by default.

Six methods within three budgets of the digits spec, one thread a step, a fresh cache for every run. The two are
interleaved; the bytes of all masks and weights must be identical.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from records import append
from runs import SPECS
from runs import run as run_spec

from autosparse.backends import this_machine

METHODS = "[random, erk, magnitude, grasp, synflow]"


def main() -> None:
    """Print seconds of every round and their medians."""
    cores = this_machine().cores
    print(f"workers  {'1':>8}  {cores:>8}  ratio")
    rounds, rows = [], []
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        alone, together = run(1), run(cores)
        assert alone[1] == together[1], "the bytes differ"
        rounds.append((alone[0], together[0]))
        print(f"seconds  {alone[0]:8.1f}  {together[0]:8.1f}  {alone[0] / together[0]:5.2f}", flush=True)
        seconds = {"seconds_one_worker": round(alone[0], 2), "seconds": round(together[0], 2)}
        speedup = round(alone[0] / together[0], 3)
        rows.append({"measure": "run", "round": len(rounds), "workers": cores, **seconds, "speedup": speedup})
    first, second = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    ratio = statistics.median(alone / together for alone, together in rounds)
    print(f"median   {first:8.1f}  {second:8.1f}  {ratio:5.2f}")
    append("together", ({**row, "same_bytes": True} for row in rows))


def run(workers: int) -> tuple[float, dict[str, str]]:
    """Return the seconds of a run in an empty cache, and sha256 of its tensors by artifact and name."""
    values = ["method=snip", f"compare={METHODS}", "controls=[]", "emit=[]", "target.threads=1"]
    with tempfile.TemporaryDirectory() as folder:
        begin, cache = time.perf_counter(), f"{folder}/cache"
        values += [f"target.workers={workers}"]
        run_spec(SPECS / "digits.yaml", Path(folder) / "run", values, AUTOSPARSE_CACHE_DIR=cache)
        seconds = time.perf_counter() - begin
        digests = {}
        for path in Path(folder, "cache", "artifacts").glob("*/*/artifact.json"):
            files = json.loads(path.read_text(encoding="utf-8"))["files"]
            digests |= {
                f"{path.parent}/{name}".removeprefix(folder): file["sha256"]
                for name, file in files.items()
                if name.endswith(".safetensors")
            }
    return seconds, digests


if __name__ == "__main__":
    main()
