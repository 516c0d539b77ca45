"""Accuracy against the cost of masks and training together: `python benchmarks/total_cost.py run NETWORK DATA`.

NETWORK is `vgg` (specs/vgg_cifar_parquet.yaml) or `resnet20` (the same spec with another model). DATA is the folder of
CIFAR-10 in Parquet files. A cell is one entry, a method with the length of its training, at one sparsity, learning rate
and seed. Cost is counted in dense trainings of five epochs, for masks and training together.

Every method has its own learning rate: the best of `RATES` on validation images at sparsity 0.98 and the first seed.
Other sparsities and seeds take it, and so does an entry whose training is only longer. Criteria before training are
tried at the common rate, sparsity and seed; the best three on validation images go on. Every finished cell is a row of
`results/total_cost.jsonl`; the command skips cells that have a row. `run NETWORK DATA [SPARSITY]... --share 1/2` takes
every second cell, for two processes that share the file; run again without it at the end. Entries of 10.5 trainings,
a final training ten times as long for the search, run at 0.98 alone.

`python benchmarks/total_cost.py table` prints test accuracy after the last epoch, mean ± standard deviation over seeds.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from cells import entry as entry_of
from records import Row, append, read, select
from runs import SPECS, THREADS, dataset, run

SPEC, FILE = SPECS / "vgg_cifar_parquet.yaml", "total_cost"
RATES, COMMON, SEEDS = (0.1, 0.2, 0.4, 0.8), 0.1, (0, 1, 2)
EPOCHS = 5.0
TUNED, BEST = 0.98, 3  # sparsity at which rates are chosen, and number of criteria that go on
CRITERIA = ("ER", "ERK", "SNIP", "iterative SNIP", "SynFlow", "GraSP", "FORCE", "ProsPr", "NPB", "NTK-SAP", "PX",
            "Fisher", "Hutchinson")  # fmt: skip
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
    criterion: bool = False
    """True for masks before training, of which the best three go on"""

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
    *_longer("IGQ", "igq", 1.5, 2.5, 6, 10.5),
    *(Entry(name, 1.0, name.lower().replace("-", "_").replace(" ", "_"), criterion=True) for name in CRITERIA),
    *_longer("SET", "set"),
    *_longer("RigL", "rigl", 1.5, 2.5, 6, 10.5),
    *_longer("PWMPR", "pwmpr"),
    *_longer("GMP", "gmp", 1.5, 2.5, 6, 10.5),
    *_longer("GMP, uniform", {"name": "gmp_uniform", "preset": "gmp", "allocation": "uniform"}),
    *_longer("AC/DC", "ac_dc"),
    *(_search(cost) for cost in (1.5, 2.5, 6, 10.5)),
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
    cheap = sorted(ENTRIES, key=lambda entry: (entry.criterion, bool(entry.rate_of), entry.cost))
    for most, seed in product((1.5, 6, 11), SEEDS):
        for entry in [entry for entry in cheap if entry.cost <= (most if sparsity == TUNED else 6)]:
            for rate in _rates(network, entry, tuning=(sparsity, seed) == (TUNED, SEEDS[0])):
                if not _has(network, entry, sparsity, rate, seed):
                    yield entry, rate, seed


def _rates(network: str, entry: Entry, *, tuning: bool) -> tuple[float, ...]:
    # None before they are known; the criteria that do not go on have the common rate.
    if tuning and not entry.rate_of:
        return RATES if not entry.criterion or entry in best_criteria(network) else (COMMON,)
    rate = best_rate(network, entry.rate_of or entry.label)
    return () if rate is None else (rate,)


def best_criteria(network: str) -> list[Entry]:
    """Return the criteria with the best validation accuracy at the common rate; none before all were tried."""
    entries = [entry for entry in ENTRIES if entry.criterion]
    rows = {entry.label: select(_tried(network, entry.label), lr=COMMON) for entry in entries}
    if not all(rows.values()):
        return []
    return sorted(entries, key=lambda entry: -rows[entry.label][0]["validation_accuracy"])[:BEST]


def _tried(network: str, label: str) -> list[Row]:
    sparsity = 0.0 if label.startswith("dense") else TUNED
    return select(read(FILE), network=network, entry=label, sparsity=sparsity, seed=SEEDS[0])


def _has(network: str, entry: Entry, sparsity: float, rate: float, seed: int) -> bool:
    keys = {"entry": entry.label, "sparsity": _of(entry, sparsity), "lr": rate, "seed": seed}
    return bool(select(read(FILE), network=network, **keys))


def _of(entry: Entry, sparsity: float) -> float:
    return 0.0 if entry.method is None else sparsity


def best_rate(network: str, label: str) -> float | None:
    """Return the rate with the best validation accuracy; None before all were tried."""
    reached = {row["lr"]: row["validation_accuracy"] for row in _tried(network, label)}
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
    [cost] = report["mask_costs"]
    seconds = {"mask_seconds": cost["seconds"], "training_seconds": cost["training_seconds"]}
    append(FILE, [{**cell, **seconds, "precision": "float32", "spec": report["spec"]}])
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
    rate = best_rate(network, entry.rate_of or entry.label)
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
