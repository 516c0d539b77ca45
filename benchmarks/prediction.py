"""What a plan predicts against what the run takes: `python benchmarks/prediction.py SPEC [--set PATH=VALUE]...`.

Three times in a fresh cache: `plan` (which measures the machine), then `run`. Then once more in the last of them with
another learning rate, so that everything but the data runs again with rates of finished steps. Every command is a
process of its own. Ratios are predicted over actual; a line of JSON for each round is appended to `prediction.jsonl`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from autosparse.store import Store, open_index

ROUNDS, RESULTS = 3, Path(__file__).with_suffix(".jsonl")
OTHER = "--set=training.lr=0.05"


def main(spec: str, *overrides: str) -> None:
    """Print predicted and actual seconds and peaks, of each operation and in all."""
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            cache = Path(folder) / str(number)
            rounds.append(_round("after calibration", cache, spec, *overrides))
        rounds.append(_round("after one run", cache, spec, *overrides, OTHER))
    with RESULTS.open("a", encoding="utf-8") as file:
        for found in rounds:
            file.write(json.dumps({"spec": Path(spec).stem, "overrides": overrides, **found}) + "\n")
    for kind in ("after calibration", "after one run"):
        same = [found for found in rounds if found["kind"] == kind]
        _show(kind, sorted(same, key=lambda found: found["actual"]["seconds"])[len(same) // 2])
        ratio = same[0]["predicted"]["seconds"] / statistics.median(found["actual"]["seconds"] for found in same)
        print(f"{kind}: first prediction over the median of {len(same)}: {ratio:.2f}\n")


def _round(kind: str, cache: Path, *arguments: str) -> dict[str, Any]:
    environment = {**os.environ, "AUTOSPARSE_CACHE_DIR": str(cache)}
    plan = _command(environment, "plan", *arguments)
    run = _command(environment, "run", "--out", tempfile.mkdtemp(dir=cache.parent), *arguments)
    index = open_index(Store(cache))
    operations: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    peak = 0
    for step in plan["steps"]:
        record = index.find(step["key"])
        assert record is not None
        if step["status"] == "reuse":
            continue
        row, estimate = operations[step["operation"]], step["estimate"]
        row["steps"] += 1
        row["predicted"] += estimate["seconds"]
        row["actual"] += record.about["seconds"]
        row["predicted_peak"] = max(row["predicted_peak"], estimate["peak_bytes"])
        row["actual_peak"] = max(row["actual_peak"], record.about["peak_bytes"] or 0)
        peak = max(peak, record.about["peak_bytes"] or 0)
    summary = plan["summary"]
    return {
        "kind": kind,
        "predicted": {"seconds": summary["seconds"], "peak_bytes": summary["peak_bytes"]},
        "actual": {"seconds": run["seconds"], "peak_bytes": peak},
        "operations": operations,
        "environment": {
            name: record.about["environment"][name] for name in ("processor", "device", "threads", "torch")
        },
    }


def _command(environment: dict[str, str], *arguments: str) -> Any:
    command = [sys.executable, "-m", "autosparse", *arguments, "--json", "--quiet"]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout)


def _show(kind: str, found: dict[str, Any]) -> None:
    print(f"{kind:<19}steps  predicted    actual  ratio     predicted peak   actual peak  ratio")
    for name, row in found["operations"].items():
        _line(name, f"{row['steps']:.0f}", row["predicted"], row["actual"], row["predicted_peak"], row["actual_peak"])
    predicted, actual = found["predicted"], found["actual"]
    _line("in all", "", predicted["seconds"], actual["seconds"], predicted["peak_bytes"], actual["peak_bytes"])


def _line(name: str, steps: str, predicted: float, actual: float, planned_peak: float, peak: float) -> None:
    times = f"{predicted:8.1f} s {actual:7.1f} s {predicted / max(actual, 1e-3):6.2f}"
    peaks = f"{planned_peak / 2**20:12.0f} MiB {peak / 2**20:9.0f} MiB {planned_peak / max(peak, 1):6.2f}"
    print(f"  {name:<17}{steps:>5} {times}  {peaks}")


if __name__ == "__main__":
    main(*sys.argv[1:])
