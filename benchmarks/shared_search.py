"""One mask search for four budgets against a search each: `python benchmarks/shared_search.py run NETWORK DATA`.

NETWORK is `vgg` or `resnet20`, DATA the folder of CIFAR-10 in Parquet files; the recipe is that of
specs/vgg_cifar_parquet.yaml. A search for each of the sparsities 0.9, 0.95, 0.98 and 0.99 takes half a training; one
search for all takes 80 % of a training, which is 40 % of the four. A cell is one seed. Every finished cell appends a
row for each method and sparsity to `results/shared_search.jsonl`; the command skips cells that have rows.

`python benchmarks/shared_search.py table` prints test accuracy after the last epoch, mean ± standard deviation over
seeds, and the difference, paired by seed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from cells import entry
from records import append, read, select
from runs import SPECS, THREADS, dataset, run

from autosparse.report.significance import difference

SPEC, FILE, IMAGES = SPECS / "vgg_cifar_parquet.yaml", "shared_search", 10_000
SPARSITIES, SEEDS = (0.9, 0.95, 0.98, 0.99), range(3)
_SEARCH = {"preset": "mask_search", "allocation": "igq"}
METHODS: dict[str, Any] = {
    "one search": {**_SEARCH, "name": "one", "horizon": "80%", "schedule": {"name": "search", "shared": True}},
    "a search each": {**_SEARCH, "name": "each", "horizon": "50%"},
    "random": "igq",
}
"""Name in the table -> method; the last one has the same quotas at random"""


def run_cells(network: str, data: str) -> None:
    """Run the missing cells, one at a time."""
    for seed in SEEDS:
        if select(read(FILE), network=network, seed=seed):
            continue
        first, *others = METHODS.values()
        values = [
            *(f"model={network}", dataset(data), f"budget={json.dumps(SPARSITIES)}", f"seeds={seed}"),
            *(f"method={json.dumps(first)}", f"compare={json.dumps(others)}", "controls=[]", "emit=[]"),
            *("training.kernels=sparse", f"target.threads={THREADS}"),
        ]
        with tempfile.TemporaryDirectory() as folder:
            report = run(SPEC, Path(folder) / "run", values)
        names = {one["name"] if isinstance(one, dict) else one: name for name, one in METHODS.items()}
        rows = []
        for result in report["results"]:
            kept = {
                name: result[name] for name in ("sparsity", "test_accuracy", "validation_accuracy", "kept", "total")
            }
            rows.append({"network": network, "method": names[result["method"]], "seed": seed, **kept})
        append(FILE, [{**row, "precision": "float32", "spec": report["spec"]} for row in rows])
        print(f"{network}, seed {seed}: {len(rows)} rows", flush=True)


def print_tables() -> None:
    """Print methods by sparsities for every network, and what one search loses."""
    rows = read(FILE)
    for network in dict.fromkeys(row["network"] for row in rows):
        chosen = select(rows, network=network)
        print(f"\n{network:<16}" + "".join(f"{sparsity:>28}" for sparsity in SPARSITIES))
        for name in METHODS:
            cells = (entry(select(chosen, method=name, sparsity=sparsity)) for sparsity in SPARSITIES)
            print(f"{name:<16}" + "".join(f"{cell:>28}" for cell in cells))
        for sparsity in SPARSITIES:
            one, each = (
                {row["seed"]: row["test_accuracy"] for row in select(chosen, method=name, sparsity=sparsity)}
                for name in ("one search", "a search each")
            )
            print(f"{sparsity}: one search - a search each: {difference(one, each, IMAGES)}")


if __name__ == "__main__":
    {"run": run_cells, "table": lambda *_: print_tables()}[sys.argv[1]](*sys.argv[2:])
