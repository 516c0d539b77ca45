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
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from cells import entry
from records import Row, append, read, select
from runs import SPECS, THREADS, dataset, run

from autosparse.report.significance import difference, holm

SPEC = SPECS / "vgg_cifar_parquet.yaml"
_ROUNDS_TIMED, _TRAINED = 5, {"resnet18": 256}
CELLS = [(share, seed) for seed in (0, 1, 2) for share in ("30%", "10%")]
"""(share of the multiply-adds, seed)"""


def _channels(criterion: str, allocation: str = "global", schedule: Any = "one_shot", **unit: Any) -> dict[str, Any]:
    channels = {"name": "channel", "multiple": 1, **unit}
    return {"criterion": criterion, "allocation": allocation, "schedule": schedule, "unit": channels}


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
CONTROLS, IMAGES = ("width", "random"), 10_000
PEER = "Torch-Pruning"
"""The networks of `depgraph.py`, without a method."""


def run_cells(network: str, data: str, *methods: str) -> None:
    """Run the missing cells, one at a time; several processes may share the file."""
    for share, seed in CELLS:
        for name in methods or ("dense", *METHODS, PEER):
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
    is_whole = name in ("dense", PEER)  # trained as it is
    peer = {
        "name": f"{Path(__file__).parent / 'depgraph.py'}:pruned",
        "network": network,
        "share": int(share[:-1]) / 100,
        "seed": seed,
    }
    method, compare = json.dumps(METHODS["random" if is_whole else name]), "[dense]" if is_whole else "[]"
    values = [
        f"model={json.dumps(peer) if name == PEER else network}",
        *(dataset(data), f"budget={{macs: {'10%' if is_whole else share}}}", f"seeds={seed}", "controls=[]", "emit=[]"),
        f"target.threads={THREADS}",
        *(f"method={method}", f"compare={compare}"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        report = run(SPEC, Path(folder) / "run", values)
    result = next(one for one in report["results"] if (one["method"] == "dense") == is_whole)
    kept = ("test_accuracy", "validation_accuracy", "macs", "kept", "total")
    return {part: result[part] for part in kept} | {"precision": "float32", "spec": report["spec"]}


def print_tables(*networks: str) -> None:
    """Print methods by shares for every network, best first by validation accuracy at 30 %, and the tested gains."""
    rows = read("channels")
    for network in networks or dict.fromkeys(row["network"] for row in rows):
        of_network = select(rows, network=network)
        print(f"\n{network}\n{'method':<20}{'30% macs':>28}{'10% macs':>28}")
        for name in ranked(of_network):
            cells = [
                entry([row for row in select(of_network, method=name) if row["share"] in (share, "100%")])
                for share in ("30%", "10%")
            ]
            print(f"{name:<20}{cells[0]:>28}{cells[1]:>28}")
        for gain in gains(of_network):
            p = "no test" if gain.p is None else f"p {gain.p:.2g}"
            print(f"{gain.method} at {gain.share}: {gain.mean:+.2f} points over {gain.control}, {p}")


@dataclass(frozen=True)
class Gain:
    """Gain of a method over the better control, `width` or `random`, paired by seed; p by Holm's correction."""

    method: str
    share: str
    control: str
    mean: float
    p: float | None
    """None below three seeds"""


def ranked(rows: list[Row], share: str = "30%") -> list[str]:
    """Return the methods of one network, best first by validation accuracy at a share."""

    def rank(name: str) -> float:
        chosen = [r["validation_accuracy"] for r in select(rows, method=name) if r["share"] in (share, "100%")]
        return -fmean(chosen) if chosen else 0.0

    return sorted(dict.fromkeys(row["method"] for row in rows), key=rank)


def gains(rows: list[Row]) -> list[Gain]:
    """Return the gains of every method of one network over the control that is better on validation."""
    tests: list[tuple[str, str, str, float, float | None]] = []
    for share in ("30%", "10%"):
        here = select(rows, share=share)
        seeds = {
            name: {row["seed"]: row["test_accuracy"] for row in select(here, method=name)}
            for name in ranked(here, share)
        }
        if (control := next((name for name in seeds if name in CONTROLS), None)) is None:
            continue
        for name, its in seeds.items():
            if name not in CONTROLS and (test := difference(its, seeds[control], IMAGES)) is not None:
                tests.append((name, share, control, test.mean, test.p if test.seeds > 2 else None))
    adjusted = iter(holm([p for *_, p in tests if p is not None]))
    return [Gain(*test, None if p is None else next(adjusted)) for *test, p in tests]


def measure_training(*networks: str) -> None:
    """Time trainings of the dense and of the smaller networks in turn, and append their ratios."""
    import torch

    from autosparse import prune
    from autosparse.core.allocation import macs
    from autosparse.core.images import Images
    from autosparse.core.training.loop import train
    from autosparse.core.training.recipe import Recipe
    from autosparse.core.weights import describe_layers
    from autosparse.models import build_model

    torch.set_num_threads(int(THREADS))
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (1024, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (1024,), generator=generator)
    example = torch.zeros(1, 3, 32, 32)
    recipe = Recipe(epochs=1, batch=128, precision="float32")

    def seconds(network: torch.nn.Module, count: int) -> float:
        images = Images(pixels[:count], labels[:count], torch.full((3,), 0.5), torch.full((3,), 0.25))
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
            number = _TRAINED.get(name, len(pixels))
            pairs = [(seconds(dense, number), seconds(smaller, number)) for _ in range(_ROUNDS_TIMED + 1)][1:]
            ratio = median(one / other for one, other in pairs)
            row = {"network": name, "share": share, "macs": left, "speedup": ratio, "of_proportion": ratio * left}
            append("channels_training", [row])
            print(
                f"{name}: {100 * left:.1f} % of the multiply-adds, {ratio:.2f} x as fast: {ratio * left:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    {"run": run_cells, "table": print_tables, "training": measure_training}[sys.argv[1]](*sys.argv[2:])
