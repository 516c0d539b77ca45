"""Predicted against actual time and memory: `python benchmarks/prediction.py SPEC [--set PATH=VALUE]...`.

Three rounds in a fresh cache: `plan`, which calibrates the cost model, then `run`. A fourth round in the last cache
with another learning rate repeats all steps but the data, with the rates of finished steps. Every command is a separate
process. Ratios are predicted over actual. Every round is a row of `results/prediction.jsonl`.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from records import append
from runs import autosparse

from autosparse.store import Store, open_index

ROUNDS = 3
OTHER = "--set=training.lr=0.05"


def main(spec: str, *overrides: str) -> None:
    """Print predicted and actual seconds and peaks, by operation and in total."""
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            cache = Path(folder) / str(number)
            rounds.append(_round("after calibration", cache, spec, *overrides))
        rounds.append(_round("after one run", cache, spec, *overrides, OTHER))
    append("prediction", ({"spec": Path(spec).stem, "overrides": overrides, **row} for row in rounds))
    for kind in ("after calibration", "after one run"):
        same = [row for row in rounds if row["kind"] == kind]
        _show(kind, sorted(same, key=lambda row: row["actual"]["seconds"])[len(same) // 2])
        ratio = same[0]["predicted"]["seconds"] / statistics.median(row["actual"]["seconds"] for row in same)
        print(f"{kind}: first prediction over the median of {len(same)}: {ratio:.2f}\n")


def _round(kind: str, cache: Path, *arguments: str) -> dict[str, Any]:
    plan = autosparse("plan", *arguments, AUTOSPARSE_CACHE_DIR=str(cache))
    out = tempfile.mkdtemp(dir=cache.parent)
    run = autosparse("run", "--out", out, *arguments, AUTOSPARSE_CACHE_DIR=str(cache))
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


def _show(kind: str, row: dict[str, Any]) -> None:
    print(f"{kind:<19}steps  predicted    actual  ratio     predicted peak   actual peak  ratio")
    for name, step in row["operations"].items():
        peaks = step["predicted_peak"], step["actual_peak"]
        _line(name, f"{step['steps']:.0f}", step["predicted"], step["actual"], *peaks)
    predicted, actual = row["predicted"], row["actual"]
    _line("total", "", predicted["seconds"], actual["seconds"], predicted["peak_bytes"], actual["peak_bytes"])


def _line(name: str, steps: str, predicted: float, actual: float, planned_peak: float, peak: float) -> None:
    times = f"{predicted:8.1f} s {actual:7.1f} s {predicted / max(actual, 1e-3):6.2f}"
    peaks = f"{planned_peak / 2**20:12.0f} MiB {peak / 2**20:9.0f} MiB {planned_peak / max(peak, 1):6.2f}"
    print(f"  {name:<17}{steps:>5} {times}  {peaks}")


if __name__ == "__main__":
    main(*sys.argv[1:])
