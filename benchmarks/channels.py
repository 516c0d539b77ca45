"""Whole channels on one network under one recipe: `python benchmarks/channels.py run NETWORK DATA [METHOD]...`.

NETWORK is `vgg` (specs/vgg_cifar_parquet.yaml) or `resnet20` (the same spec with another model). DATA is the folder of
CIFAR-10 in Parquet files. A cell is one method at one share of the dense network's multiply-adds and one seed. Every
finished cell is a row of `results/channels.jsonl`; the command skips cells that have a row.

`python benchmarks/channels.py table` prints test accuracy after the last epoch, mean ± standard deviation over seeds,
and validation accuracy, which chooses the best.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from records import Row, append, read
from runs import SPECS, THREADS, dataset, run

SPEC = SPECS / "vgg_cifar_parquet.yaml"
CELLS = [(share, seed) for seed in (0, 1, 2) for share in ("30%", "10%")]
"""(share of the multiply-adds, seed)"""


def _channels(criterion: str, allocation: str = "global", schedule: Any = "one_shot", **unit: Any) -> dict[str, Any]:
    return {"criterion": criterion, "allocation": allocation, "schedule": schedule, "unit": {"name": "channel", **unit}}


_ROUNDS = {"name": "exponential", "rounds": 20}
METHODS: dict[str, Any] = {
    "width": _channels("random", "uniform", rescale=True),
    "random": _channels("random", "uniform"),
    "random, ideal gas": _channels("random", "igq"),
    "L1": _channels("magnitude"),
    "L2": _channels("magnitude", aggregate="norm"),
    "L1, uniform": _channels("magnitude", "uniform"),
    "snip": _channels("snip"),
    "snip, uniform": _channels("snip", "uniform"),
    "grasp": _channels("grasp"),
    "synflow": _channels("synflow", schedule=_ROUNDS),
    "synflow, uniform": _channels("synflow", "uniform", schedule=_ROUNDS),
    "search": {**_channels("magnitude", "uniform"), "horizon": "50%"},
    "search, snip": {**_channels("snip"), "horizon": "50%"},
    "search, free": _channels("snip", schedule={"name": "search", "steps": 391, "quotas": "free"}),
}
"""Name in the table -> method of a spec; the search takes half of a training (391 steps are half of one)"""


def run_cells(network: str, data: str, *methods: str) -> None:
    """Run the missing cells, one at a time."""
    present = {(row["network"], row["method"], row["share"], row["seed"]) for row in read("channels")}
    for share, seed in CELLS:
        for name in methods or ("dense", *METHODS):
            at = "100%" if name == "dense" else share
            if (network, name, at, seed) in present:
                continue
            present.add((network, name, at, seed))
            cell = {
                "network": network,
                "method": name,
                "share": at,
                "seed": seed,
                **_cell(network, data, name, share, seed),
            }
            append("channels", [cell])
            print(f"{network} {name} {at} seed {seed}: {cell['test_accuracy']:.2f}", flush=True)


def _cell(network: str, data: str, name: str, share: str, seed: int) -> dict[str, Any]:
    method, compare = ("erk", "[dense]") if name == "dense" else (json.dumps(METHODS[name]), "[]")
    values = [
        *(f"model={network}", dataset(data), f"budget={{macs: {share}}}", f"seeds={seed}", "controls=[]", "emit=[]"),
        *(f"target.threads={THREADS}", "training.precision=bfloat16"),
        *(f"method={method}", f"compare={compare}"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        report = run(SPEC, Path(folder) / "run", values)
    result = next(one for one in report["results"] if (one["method"] == "dense") == (name == "dense"))
    kept = ("test_accuracy", "validation_accuracy", "macs", "kept", "total")
    return {part: result[part] for part in kept} | {"spec": report["spec"]}


def print_tables(*networks: str) -> None:
    """Print methods by shares for every network, best first by validation accuracy at 30 %."""
    rows = read("channels")
    for network in networks or dict.fromkeys(row["network"] for row in rows):
        of_network = [row for row in rows if row["network"] == network]
        print(f"\n{network}\n{'method':<20}{'30% macs':>28}{'10% macs':>28}")
        names = [*dict.fromkeys(row["method"] for row in of_network)]
        for name in sorted(names, key=lambda name: -_rank(_of(of_network, name))):
            cells = [
                _shown([row for row in _of(of_network, name) if row["share"] in (share, "100%")])
                for share in ("30%", "10%")
            ]
            print(f"{name:<20}{cells[0]:>28}{cells[1]:>28}")


def _of(rows: Iterable[Row], name: str) -> list[Row]:
    return [row for row in rows if row["method"] == name]


def _rank(rows: list[Row]) -> float:
    return fmean(row["validation_accuracy"] for row in rows if row["share"] in ("30%", "100%"))


def _shown(rows: list[Row]) -> str:
    if not rows:
        return "-"
    test = [row["test_accuracy"] for row in rows]
    spread = f" ± {stdev(test):.2f}" if len(test) > 1 else ""
    return f"{fmean(test):.2f}{spread} ({len(test)}) [{fmean(row['validation_accuracy'] for row in rows):.2f}]"


if __name__ == "__main__":
    {"run": run_cells, "table": print_tables}[sys.argv[1]](*sys.argv[2:])
