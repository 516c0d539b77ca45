"""Whole channels on one network under one recipe: `python benchmarks/channels.py run NETWORK DATA [METHOD]...`.

NETWORK is `vgg` (specs/vgg_cifar_parquet.yaml) or `resnet20` (the same spec with another model). DATA is the folder of
CIFAR-10 in Parquet files. A cell is one method at one share of the dense network's multiply-adds and one seed. Every
finished cell is a row of `results/channels.jsonl`; the command skips cells that have a row.

`python benchmarks/channels.py training [NETWORK]...` times trainings of the dense and the smaller networks in turn,
with `OMP_NUM_THREADS` threads. Its rows go to `results/channels_training.jsonl`.

`python benchmarks/channels.py table` prints test accuracy after the last epoch, mean ± standard deviation over seeds,
and validation accuracy, which chooses the best.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from records import Row, append, read
from runs import SPECS, THREADS, dataset, run

SPEC = SPECS / "vgg_cifar_parquet.yaml"
_ROUNDS_TIMED = 5
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
    """Run the missing cells, one at a time; several processes may share the file."""
    for share, seed in CELLS:
        for name in methods or ("dense", *METHODS):
            at = "100%" if name == "dense" else share
            if any((network, name, at, seed) == _cell_of(row) for row in read("channels")):
                continue
            cell = {
                "network": network,
                "method": name,
                "share": at,
                "seed": seed,
                **_cell(network, data, name, share, seed),
            }
            append("channels", [cell])
            print(f"{network} {name} {at} seed {seed}: {cell['test_accuracy']:.2f}", flush=True)


def _cell_of(row: Row) -> tuple[str, str, str, int]:
    return row["network"], row["method"], row["share"], row["seed"]


def _cell(network: str, data: str, name: str, share: str, seed: int) -> dict[str, Any]:
    method, compare = ("erk", "[dense]") if name == "dense" else (json.dumps(METHODS[name]), "[]")
    values = [
        *(f"model={network}", dataset(data), f"budget={{macs: {share}}}", f"seeds={seed}", "controls=[]", "emit=[]"),
        f"target.threads={THREADS}",
        *(f"method={method}", f"compare={compare}"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        report = run(SPEC, Path(folder) / "run", values)
    result = next(one for one in report["results"] if (one["method"] == "dense") == (name == "dense"))
    kept = ("test_accuracy", "validation_accuracy", "macs", "kept", "total")
    return {part: result[part] for part in kept} | {"precision": "float32", "spec": report["spec"]}


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


def measure_training(*networks: str) -> None:
    """Time trainings of the dense and of the smaller networks in turn, and append their ratios."""
    import torch

    from autosparse import prune
    from autosparse.core.allocation import macs
    from autosparse.core.images import Images
    from autosparse.core.training.loop import Recipe, train
    from autosparse.core.weights import describe_layers
    from autosparse.models import build_model

    torch.set_num_threads(int(THREADS))
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (1024, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (1024,), generator=generator)
    images, example = Images(pixels, labels, torch.full((3,), 0.5), torch.full((3,), 0.25)), torch.zeros(1, 3, 32, 32)
    recipe = Recipe(epochs=1, batch=128, precision="bfloat16")

    def seconds(network: torch.nn.Module) -> float:
        begin = time.perf_counter()
        train(network, images, recipe, torch.Generator().manual_seed(0))
        return time.perf_counter() - begin

    for name in networks or ("vgg", "resnet20", "resnet18"):
        dense = build_model(name, {}, (3, 32, 32), 10)
        total = macs(describe_layers(dense, example))
        method = {"criterion": "random", "allocation": "uniform"}
        for share in (0.3, 0.1):
            smaller = prune(dense, [(example, labels[:1])], macs=share, method=method, unit="channel").shrink()
            left = macs(describe_layers(smaller, example)) / total
            pairs = [(seconds(dense), seconds(smaller)) for _ in range(_ROUNDS_TIMED + 1)][1:]
            ratio = median(one / other for one, other in pairs)
            row = {"network": name, "share": share, "macs": left, "speedup": ratio, "of_proportion": ratio * left}
            append("channels_training", [row])
            print(
                f"{name}: {100 * left:.1f} % of the multiply-adds, {ratio:.2f} x as fast: {ratio * left:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    {"run": run_cells, "table": print_tables, "training": measure_training}[sys.argv[1]](*sys.argv[2:])
