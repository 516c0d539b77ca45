"""Accuracy against the cost of masks and training together: `python benchmarks/total_cost.py run NETWORK DATA`.

NETWORK is `vgg` (specs/vgg_cifar_parquet.yaml) or `resnet20` (the same spec with another model). DATA is the folder of
CIFAR-10 in Parquet files. A cell is one entry, a method with the length of its training, at one sparsity, learning rate
and seed. Cost is counted in dense trainings of five epochs, for masks and training together.

Every method has its own learning rate: the best of `RATES` on validation images at the first seed, at every sparsity.
An entry whose training is only longer takes the rate of the shorter one. Other criteria run at the common rate and the
first seed alone: the best three by validation accuracy have a rate of their own. Every finished cell is a row of
`results/total_cost.jsonl`; the command skips cells that have a row. `run NETWORK DATA [SPARSITY]... --share 1/2` takes
every second cell, for two processes that share the file; run again without it at the end.

`python benchmarks/total_cost.py table` prints test accuracy after the last epoch, mean ± standard deviation over seeds.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cells import entry as entry_of
from records import Row, append, read, select
from runs import SPECS, THREADS, dataset, run

SPEC, FILE = SPECS / "vgg_cifar_parquet.yaml", "total_cost"
RATES, COMMON, SEEDS = (0.1, 0.2, 0.4, 0.8), 0.1, (0, 1, 2)
EPOCHS = 5.0
CRITERIA = ("ER", "ERK", "SNIP", "GraSP", "FORCE", "ProsPr", "NPB", "NTK-SAP", "PX", "Fisher", "Hutchinson")
_SEARCH = {"criterion": "magnitude", "allocation": "igq", "selection": "top"}


@dataclass(frozen=True)
class Entry:
    """A method and the epochs of its final training; `cost` is that of masks and training, in trainings."""

    name: str
    cost: float
    method: Any
    epochs: float = EPOCHS
    rate_of: str = ""
    """entry whose learning rate it takes; empty for its own"""
    brief: bool = False
    """True for a criterion that is tried at the common rate and the first seed alone"""

    @property
    def label(self) -> str:
        return f"{self.name}, {self.cost:g}"


def _search(cost: float, *, rewind: bool = True, before: float = 0.5) -> Entry:
    # A search of half a training, or of `before`, and the rest of the cost as training.
    name, epochs = "search" if rewind else "search, not rewound", (cost - before) * EPOCHS
    schedule = {"name": "search", **({} if rewind else {"rewind": False})}
    method = {"name": "searched", **_SEARCH, "horizon": f"{100 * before * EPOCHS / epochs:g}%", "schedule": schedule}
    return Entry(name, cost, method, epochs, "" if cost == 1.5 else f"{name}, 1.5")


def _longer(name: str, method: Any, *costs: float) -> list[Entry]:
    first = Entry(name, 1.0, method)
    return [first, *(Entry(name, cost, method, cost * EPOCHS, first.label) for cost in costs)]


ENTRIES = [
    *_longer("dense", None, 1.5, 2.5, 6),
    *_longer("IGQ", "igq", 1.5, 2.5, 6),
    *_longer("iterative SNIP", "iterative_snip"),
    *_longer("SynFlow", "synflow"),
    *(Entry(name, 1.0, name.lower().replace("-", "_"), brief=True) for name in CRITERIA),
    *_longer("SET", "set"),
    *_longer("RigL", "rigl", 1.5, 2.5, 6),
    *_longer("GMP", "gmp", 1.5, 2.5, 6),
    *_longer("GMP, uniform", {"name": "gmp_uniform", "preset": "gmp", "allocation": "uniform"}),
    *_longer("AC/DC", "ac_dc"),
    *(_search(cost) for cost in (1.5, 2.5, 6)),
    *(_search(cost, rewind=False) for cost in (1.5, 2.5, 6)),
    Entry("learning-rate rewinding", 6, "lr_rewinding"),
    Entry("IRP", 6, "irp", rate_of="search, 1.5"),
]


def run_cells(network: str, data: str, *words: str) -> None:
    """Run the missing cells, cheap entries and rates first; one at a time."""
    share, of = (int(part) for part in words[-1].split("/")) if "--share" in words else (1, 1)
    sparsities = [float(word) for word in words if word.replace(".", "", 1).isdigit()] or [0.98, 0.95, 0.99]
    for sparsity in sparsities:
        left = -1
        while left != (left := len([*_missing(network, sparsity)])):  # later cells need rates of earlier ones
            for entry, rate, seed in [*_missing(network, sparsity)]:
                part = zlib.crc32(f"{entry.label} {rate} {seed}".encode()) % of + 1
                if part == share and not _has(network, entry, sparsity, rate, seed):
                    _measure(network, data, entry, sparsity, rate, seed)


def _missing(network: str, sparsity: float) -> Iterator[tuple[Entry, float, int]]:
    # The cells that can run now: all rates at the first seed, then the best one at the other seeds.
    cheap = sorted(ENTRIES, key=lambda entry: (entry.cost > 1.5, entry.brief, bool(entry.rate_of), entry.cost))
    for seed in SEEDS:
        for entry in cheap:
            own = not entry.rate_of and seed == SEEDS[0]
            rate = None if own else best_rate(network, entry.rate_of or entry.label, sparsity)
            for one in ((COMMON,) if entry.brief else RATES) if own else [rate] if rate else []:
                if not _has(network, entry, sparsity, one, seed):
                    yield entry, one, seed


def _has(network: str, entry: Entry, sparsity: float, rate: float, seed: int) -> bool:
    keys = {"entry": entry.label, "sparsity": _of(entry, sparsity), "lr": rate, "seed": seed}
    return bool(select(read(FILE), network=network, **keys))


def _of(entry: Entry, sparsity: float) -> float:
    return 0.0 if entry.method is None else sparsity


def best_rate(network: str, label: str, sparsity: float) -> float | None:
    """Return the rate with the best validation accuracy at the first seed; None before all were tried."""
    sparsity = 0.0 if label.startswith("dense") else sparsity
    rows = select(read(FILE), network=network, entry=label, sparsity=sparsity, seed=SEEDS[0])
    reached = {row["lr"]: row["validation_accuracy"] for row in rows}
    return max(reached, key=reached.__getitem__) if {*RATES} <= {*reached} else None


def _measure(network: str, data: str, entry: Entry, sparsity: float, rate: float, seed: int) -> None:
    method = entry.method or "random"  # of the dense network, which is left whole
    irp = [f"irp.per_round={1 - (1 - sparsity) ** 0.2}", f"irp.epochs={EPOCHS:g}"] if method == "irp" else []
    values = [
        *(f"model={network}", dataset(data), f"budget={_of(entry, sparsity)}", f"seeds={seed}"),
        *(f"method={json.dumps(method)}", "compare=[]", "controls=[]", "emit=[]", *irp),
        *(f"training.lr={rate}", f"training.epochs={entry.epochs:g}", "training.kernels=sparse"),
        f"target.threads={THREADS}",
    ]
    with tempfile.TemporaryDirectory() as folder:
        report = run(SPEC, Path(folder) / "run", values)
    [result] = report["results"]
    kept = ("test_accuracy", "validation_accuracy", "kept", "total")
    about = {"entry": entry.label, "method": entry.name, "cost": entry.cost, "sparsity": _of(entry, sparsity)}
    cell = {"network": network, **about, "lr": rate, "seed": seed, **{part: result[part] for part in kept}}
    append(FILE, [{**cell, "precision": "float32", "spec": report["spec"]}])
    print(f"{network} {entry.label} {sparsity} lr {rate} seed {seed}: {cell['test_accuracy']:.2f}", flush=True)


def print_tables() -> None:
    """Print entries by sparsities for every network, at each method's rate and at the common one."""
    rows = read(FILE)
    for network in dict.fromkeys(row["network"] for row in rows):
        sparsities = sorted({row["sparsity"] for row in select(rows, network=network)} - {0.0})
        print(f"\n{network}, at its own rate [validation]; at {COMMON:g}, first seed")
        print(f"{'entry':<30}" + "".join(f"{sparsity:>36}" for sparsity in sparsities))
        for entry in sorted(ENTRIES, key=lambda entry: entry.cost):
            print(f"{entry.label:<30}" + "".join(f"{shown(network, entry, s):>36}" for s in sparsities))


def at_own_rate(network: str, entry: Entry, sparsity: float) -> list[Row]:
    """Return the cells of an entry at its learning rate, in the order of seeds."""
    rate = best_rate(network, entry.rate_of or entry.label, sparsity)
    keys = {"network": network, "entry": entry.label, "sparsity": _of(entry, sparsity), "lr": rate}
    return sorted(select(read(FILE), **keys), key=lambda row: row["seed"]) if rate else []


def shown(network: str, entry: Entry, sparsity: float) -> str:
    """Return an entry's accuracy in the table, its rate, and its accuracy at the common rate."""
    keys = {"network": network, "entry": entry.label, "sparsity": _of(entry, sparsity), "seed": SEEDS[0]}
    common = "".join(f"; {row['test_accuracy']:.1f}" for row in select(read(FILE), lr=COMMON, **keys))
    if not (cells := at_own_rate(network, entry, sparsity)):
        return f"-{common}"
    return f"{entry_of(cells)} lr {cells[0]['lr']:g}{common}"


if __name__ == "__main__":
    {"run": run_cells, "table": print_tables}[sys.argv[1]](*sys.argv[2:])
