"""Several steps at once against one after another: `python benchmarks/together.py [ROUNDS]`, three rounds by default.

Six methods within three budgets of the digits spec, one thread a step, a fresh cache every time; the two take turns,
and the bytes of every mask and weight are compared.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from autosparse.backends import this_machine

SPEC = Path(__file__).parent.parent / "specs" / "digits.yaml"
METHODS = "[random, erk, magnitude, grasp, synflow]"


def main() -> None:
    """A line a round, and the medians."""
    cores = this_machine().cores
    print(f"workers  {'1':>8}  {cores:>8}  ratio")
    rounds = []
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        alone, together = run(1), run(cores)
        assert alone[1] == together[1], "the bytes differ"
        rounds.append((alone[0], together[0]))
        print(f"seconds  {alone[0]:8.1f}  {together[0]:8.1f}  {alone[0] / together[0]:5.2f}", flush=True)
    first, second = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    ratio = statistics.median(alone / together for alone, together in rounds)
    print(f"median   {first:8.1f}  {second:8.1f}  {ratio:5.2f}")


def run(workers: int) -> tuple[float, dict[str, str]]:
    """Seconds of a run from nothing, and sha256 of its tensors by artifact and name."""
    values = ["method=snip", f"compare={METHODS}", "controls=[]", "emit=[]", "target.threads=1"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "autosparse", "run", str(SPEC), "--json", "--quiet", "--out", f"{folder}/run"]
        for value in (*values, f"target.workers={workers}"):
            command += ["--set", value]
        environment = {**os.environ, "AUTOSPARSE_CACHE_DIR": f"{folder}/cache"}
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        seconds = time.perf_counter() - begin
        found = {}
        for path in Path(folder, "cache", "artifacts").glob("*/*/artifact.json"):
            files = json.loads(path.read_text(encoding="utf-8"))["files"]
            found |= {
                f"{path.parent}/{name}".removeprefix(folder): file["sha256"]
                for name, file in files.items()
                if name.endswith(".safetensors")
            }
    return seconds, found


if __name__ == "__main__":
    main()
