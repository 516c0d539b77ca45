"""Tickets against knowing nothing: `python benchmarks/tickets.py run NETWORK DATA [SPARSITY]... --share K/N`.

NETWORK is one of `NETWORKS`, DATA the folder of CIFAR-10 in Parquet files. A ticket is found by one search, of one
training, on some classes of CIFAR-10, and prunes networks for the others. A cell is one target, sparsity and seed, with
all methods of `METHODS` under one recipe, that of specs/vgg_cifar_parquet.yaml, and with its own ticket. Every finished
cell appends a row for each method to `results/tickets.jsonl`; the command skips cells that have rows. Sparsity 0.98 has
six seeds, others three. With `--share 1/2` a process takes every second cell.

`python benchmarks/tickets.py table` prints test accuracy after the last epoch, mean ± standard deviation over seeds,
and the differences of interest, paired by seed, with p values by Holm's correction.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

from cells import entry
from records import Row, append, read, select
from runs import SPECS, THREADS, dataset, run

from autosparse.report.significance import difference, holm

SPEC, FILE, IMAGES = SPECS / "vgg_cifar_parquet.yaml", "tickets", 5_000
NETWORKS = {"vgg": '"vgg"', "resnet20": '"resnet20"', "mobilenet": '{"name": "mobilenet", "width": 0.5}'}
TARGETS = {"last": ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9]), "first": ([5, 6, 7, 8, 9], [0, 1, 2, 3, 4])}
"""Target -> classes of the source and of the target"""
SPARSITIES, SEEDS = (0.98, 0.9, 0.95, 0.99), {0.98: range(6)}
METHODS: dict[str, Any] = {
    "igq": "igq",
    "search 10 %": {"name": "search_10", "preset": "mask_search", "allocation": "igq", "horizon": "10%"},
    "search 50 %": {"name": "search_50", "preset": "mask_search", "allocation": "igq", "horizon": "50%"},
    "ticket, search 10 %": {
        "name": "ticket_10", "preset": "ticket", "horizon": "10%", "schedule": {"name": "search", "anneal": 0.0},
    },
}  # fmt: skip
"""Name in the table -> method; in every cell also `ticket` and its masks on other initial weights"""
OTHER = "ticket, other weights"
PAIRS = (
    ("ticket", "igq"), ("ticket", OTHER), (OTHER, "igq"), ("ticket, search 10 %", "search 50 %"),
    ("ticket, search 10 %", "search 10 %"),
)  # fmt: skip


def run_cells(network: str, data: str, *words: str) -> None:
    """Run the missing cells, one at a time."""
    share, of = (int(part) for part in words[-1].split("/")) if "--share" in words else (1, 1)
    for sparsity in [float(word) for word in words if word.replace(".", "", 1).isdigit()] or SPARSITIES:
        for seed in SEEDS.get(sparsity, range(3)):
            for target in TARGETS:
                cell = {"network": network, "target": target, "sparsity": sparsity, "seed": seed}
                part = zlib.crc32(json.dumps(cell).encode()) % of + 1
                if part == share and not select(read(FILE), **cell):
                    _measure(data, cell)


def _measure(data: str, cell: Row) -> None:
    source, target = TARGETS[cell["target"]]
    about = {"name": "parquet", "path": str(Path(data).resolve()), "images_per_class": 2000, "validation": 2500}
    ticket = {"dataset": {**about, "classes": source}, "seed": 300 + cell["seed"]}
    values = [
        *(f"model={NETWORKS[cell['network']]}", dataset(data), f"dataset.classes={target}", "dataset.validation=2500"),
        *("method=ticket", f"ticket={json.dumps(ticket)}", "controls=[other_weights]", "emit=[]"),
        *(f"compare={json.dumps([*METHODS.values()])}", f"budget={cell['sparsity']}", f"seeds={cell['seed']}"),
        *("training.kernels=sparse", f"target.threads={THREADS}"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        report = run(SPEC, Path(folder) / "run", values)
    names = {one["name"] if isinstance(one, dict) else one: name for name, one in METHODS.items()}
    names |= {"ticket": "ticket", "ticket.other_weights": OTHER}
    rows = []
    for result in [*report["results"], *report["controls"]]:
        kept = {name: result[name] for name in ("test_accuracy", "validation_accuracy", "kept", "total")}
        rows.append({**cell, "method": names[result["method"]], **kept, "precision": "float32"})
    append(FILE, [{**row, "spec": report["spec"]} for row in rows])
    shown = ", ".join(f"{row['method']} {row['test_accuracy']:.2f}" for row in rows)
    print(f"{[*cell.values()]}: {shown}", flush=True)


def print_tables() -> None:
    """Print methods by sparsities for every network and target, and the differences."""
    rows, names = read(FILE), ["igq", OTHER, "ticket", "search 10 %", "ticket, search 10 %", "search 50 %"]
    for network, target in dict.fromkeys((row["network"], row["target"]) for row in rows):
        chosen = select(rows, network=network, target=target)
        sparsities = sorted({row["sparsity"] for row in chosen})
        print(f"\n{network} → {target}\n{'':<24}" + "".join(f"{sparsity:>28}" for sparsity in sparsities))
        for name in names:
            cells = (entry(select(chosen, method=name, sparsity=sparsity)) for sparsity in sparsities)
            print(f"{name:<24}" + "".join(f"{cell:>28}" for cell in cells))
    for line in _differences(rows):
        print(line)


def _differences(rows: list[Row]) -> list[str]:
    # Paired by seed, in every network, target and sparsity.
    tests = []
    cases = dict.fromkeys((row["network"], row["target"], row["sparsity"]) for row in rows)
    for case in cases:
        chosen = select(rows, **dict(zip(("network", "target", "sparsity"), case, strict=True)))
        for better, worse in PAIRS:
            first, second = (
                {row["seed"]: row["test_accuracy"] for row in select(chosen, method=name)} for name in (better, worse)
            )
            if (gain := difference(first, second, IMAGES)) is not None:
                tests.append((case, better, worse, gain))
    adjusted = iter(holm([gain.p for *_, gain in tests if gain.seeds > 2]))
    lines = []
    for case, better, worse, gain in tests:
        p = f"p {next(adjusted):.2g}" if gain.seeds > 2 else "no test"
        lines.append(f"{case}: {better} - {worse}: {gain.mean:+.2f} points, {gain.seeds} seeds, {p}")
    return lines


if __name__ == "__main__":
    {"run": run_cells, "table": lambda *_: print_tables()}[sys.argv[1]](*sys.argv[2:])
