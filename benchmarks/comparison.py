"""Every method on one network under one recipe: `python benchmarks/comparison.py run NETWORK DATA [METHOD]...`.

NETWORK is `vgg` (specs/vgg_cifar_parquet.yaml) or `resnet20` (the same spec with another model). DATA is the folder of
CIFAR-10 in Parquet files. A cell is one method at one sparsity and seed. Every finished cell is a row of
`results/comparison.jsonl`; the command skips cells that have a row, so it can be stopped and continued.

`python benchmarks/comparison.py table` prints test accuracy after the last epoch, mean ± standard deviation over seeds,
and validation accuracy, which chooses the strongest baselines.

`python benchmarks/comparison.py sanity NETWORK DATA [METHOD]...` checks methods at 0.98, seed 0: the accuracy that
remains when their masks, or the inputs of their masks, are altered. Its rows go to `results/sanity.jsonl`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from cells import mean_at, table
from records import append, read
from runs import SPECS, THREADS, dataset, run

SPEC = SPECS / "vgg_cifar_parquet.yaml"
METHODS = [
    *("dense", "erk", "synflow", "snip", "magnitude", "random", "grasp"),
    *("force", "iterative_snip", "igq", "er", "prospr", "npb", "mask_search", "edge_popup", "gem_miner", "cts", "irp"),
]
CHECKED = ["snip", "synflow", "mask_search", "irp"]
CELLS = [(0.98, 0), (0.99, 0), (0.98, 1), (0.99, 1), (0.98, 2), (0.99, 2), (0.95, 0), (0.9, 0)]
"""(sparsity, seed), the most informative first."""


def run_cells(network: str, data: str, *methods: str) -> None:
    """Run the missing cells, one at a time."""
    present = {(row["network"], row["method"], row["sparsity"], row["seed"]) for row in read("comparison")}
    for sparsity, seed in CELLS:
        for method in methods or METHODS:
            # The dense network has one cell a seed.
            at = 0.0 if method == "dense" else sparsity
            if (network, method, at, seed) in present:
                continue
            present.add((network, method, at, seed))
            cell = _cell(network, data, method, sparsity, seed)
            append("comparison", [{"network": network, **cell}])
            print(f"{network} {method} {at} seed {seed}: {cell['test_accuracy']:.2f}", flush=True)


def sanity(network: str, data: str, *methods: str) -> None:
    """Run the missing sanity checks, one method at a time, and print all verdicts."""
    present = {(row["network"], row["method"]) for row in read("sanity")}
    for method in methods or CHECKED:
        if (network, method) not in present:
            report = _report(network, data, method, 0.98, 0, f"sanity.methods=[{method}]")
            append("sanity", [{"network": network, **report["sanity"][0]}])
    for row in read("sanity"):
        print(f"{row['network']} {row['method']} at {row['budget']}: {row['test_accuracy']:.1f} unaltered")
        for check in row["checks"]:
            print(f"  {check['check']:<16}{check['verdict'] or 'left out: ' + check['left_out']}")


def print_tables() -> None:
    """Print methods by sparsities for every network."""
    rows = read("comparison")
    for network in dict.fromkeys(row["network"] for row in rows):
        of_network = [row for row in rows if row["network"] == network]
        # All methods have a cell at 0.98, so missing cells favour none.
        print(table(network, of_network, lambda name, of=of_network: -mean_at(of, name, 0.0, 0.98)))  # type: ignore[misc]
    print("test accuracy in %, mean ± sd over seeds (number of seeds) [validation accuracy]")


def _cell(network: str, data: str, method: str, sparsity: float, seed: int) -> dict[str, Any]:
    report = _report(network, data, method, sparsity, seed)
    result = next(result for result in report["results"] if result["method"] == method)
    return {name: value for name, value in result.items() if name != "budget"} | {"spec": report["spec"]}


def _report(network: str, data: str, method: str, sparsity: float, seed: int, *more: str) -> Any:
    # The dense network accompanies a method that costs nothing but its own training.
    chosen = ["method=erk", "compare=[dense]"] if method == "dense" else [f"method={method}", "compare=[]"]
    values = [
        *(f"model={network}", dataset(data), f"budget={sparsity}", f"seeds={seed}", "controls=[]", "emit=[]"),
        *(f"target.threads={THREADS}", "training.precision=bfloat16", *chosen, *more),
    ]
    with tempfile.TemporaryDirectory() as folder:
        return run(SPEC, Path(folder) / "run", values)


if __name__ == "__main__":
    {"run": run_cells, "sanity": sanity, "table": print_tables}[sys.argv[1]](*sys.argv[2:])
