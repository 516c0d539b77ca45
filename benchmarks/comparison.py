"""Every method on one network under one recipe: `python benchmarks/comparison.py run NETWORK DATA [METHOD]...`.

NETWORK is `vgg` (specs/vgg_cifar_parquet.yaml) or `resnet20` (the same spec with another model), DATA the folder of
CIFAR-10 in Parquet files. A cell is one method at one sparsity and seed; every finished one is a line of
`comparison.jsonl`, and those that are there are skipped, so that it can be stopped and started at any time.
`python benchmarks/comparison.py table` prints what is there: mean ± standard deviation over seeds of the test accuracy
after the last epoch, and validation accuracy, by which the strongest baselines are chosen.
`python benchmarks/comparison.py sanity NETWORK DATA [METHOD]...` checks four methods at 0.98, seed 0: what is left of
their accuracy when their masks, or what they are made from, are altered.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "comparison.jsonl"
CHECKS = HERE / "sanity.jsonl"
SPEC = HERE.parent / "specs" / "vgg_cifar_parquet.yaml"
NETWORKS = {"vgg": "vgg", "resnet20": "resnet20"}
METHODS = [
    *("dense", "erk", "synflow", "snip", "magnitude", "random", "grasp"),
    *("force", "iterative_snip", "igq", "er", "prospr", "npb", "mask_search", "edge_popup", "gem_miner", "cts", "irp"),
]
CHECKED = ["snip", "synflow", "mask_search", "irp"]
CELLS = [(0.98, 0), (0.99, 0), (0.98, 1), (0.99, 1), (0.98, 2), (0.99, 2), (0.95, 0), (0.9, 0)]
"""(sparsity, seed), the most telling first."""


def run(network: str, data: str, *methods: str) -> None:
    """Run the cells that are not there yet, one at a time."""
    present = {(cell["network"], cell["method"], cell["sparsity"], cell["seed"]) for cell in _cells()}
    for sparsity, seed in CELLS:
        for method in methods or METHODS:
            # The dense network has one cell a seed.
            at = 0.0 if method == "dense" else sparsity
            if (network, method, at, seed) in present:
                continue
            present.add((network, method, at, seed))
            found = _cell(network, data, method, sparsity, seed)
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"network": network, **found}) + "\n")
            print(f"{network} {method} {at} seed {seed}: {found['test_accuracy']:.2f}", flush=True)


def sanity(network: str, data: str, *methods: str) -> None:
    """Run the sanity checks that are not there yet, a method at a time, and print what all of them say."""
    present = {(cell["network"], cell["method"]) for cell in _cells(CHECKS)}
    for method in methods or CHECKED:
        if (network, method) not in present:
            report = _report(network, data, method, 0.98, 0, "sanity.methods=[" + method + "]")
            with CHECKS.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"network": network, **report["sanity"][0]}) + "\n")
    for cell in _cells(CHECKS):
        print(f"{cell['network']} {cell['method']} at {cell['budget']}: {cell['test_accuracy']:.1f} as it is")
        for check in cell["checks"]:
            print(f"  {check['check']:<16}{check['verdict'] or 'left out: ' + check['left_out']}")


def table() -> None:
    """Print a table for each network: methods by sparsities."""
    cells = _cells()
    for network in dict.fromkeys(cell["network"] for cell in cells):
        own = [cell for cell in cells if cell["network"] == network]
        sparsities = sorted({cell["sparsity"] for cell in own})
        print(f"{network:<16}" + "".join(f"{sparsity:>22}" for sparsity in sparsities))
        methods = {cell["method"] for cell in own}
        for method in sorted(methods, key=lambda name: (name != "dense", -_mean(own, name))):
            row = [entry([c for c in own if (c["method"], c["sparsity"]) == (method, s)]) for s in sparsities]
            print(f"  {method:<14}" + "".join(f"{told:>22}" for told in row))
    print("test accuracy, mean ± sd over seeds (their number), validation accuracy in brackets")


def _mean(cells: list[dict[str, Any]], method: str) -> float:
    # By the sparsity at which all methods are, so that none gains by cells that are not there.
    own = [cell["test_accuracy"] for cell in cells if cell["method"] == method and cell["sparsity"] in (0.0, 0.98)]
    return statistics.fmean(own) if own else 0.0


def entry(cells: list[dict[str, Any]]) -> str:
    """Mean ± standard deviation of test accuracy, the number of seeds and validation accuracy; a dash for no cell."""
    if not cells:
        return "–"
    test = [cell["test_accuracy"] for cell in cells]
    validation = statistics.fmean(cell["validation_accuracy"] for cell in cells)
    spread = f" ± {statistics.stdev(test):.1f}" if len(test) > 1 else ""
    return f"{statistics.fmean(test):.1f}{spread} ({len(test)}) [{validation:.1f}]"


def _cells(path: Path = RESULTS) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _cell(network: str, data: str, method: str, sparsity: float, seed: int) -> dict[str, Any]:
    report = _report(network, data, method, sparsity, seed)
    found = next(result for result in report["results"] if result["method"] == method)
    return {name: value for name, value in found.items() if name != "budget"} | {"spec": report["spec"]}


def _report(network: str, data: str, method: str, sparsity: float, seed: int, *settings: str) -> Any:
    # The dense network comes beside a method that costs nothing but its own training.
    own = ["method=erk", "compare=[dense]"] if method == "dense" else [f"method={method}", "compare=[]"]
    values = [
        f"model={NETWORKS[network]}",
        f"dataset.path={Path(data).resolve()}",
        f"budget={sparsity}",
        f"seeds={seed}",
        "controls=[]",
        "emit=[]",
        f"target.threads={os.environ.get('OMP_NUM_THREADS', '1')}",
        "training.precision=bfloat16",
        *own,
        *settings,
    ]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "autosparse", "run", str(SPEC), "--json", "--quiet", "--out", f"{folder}/run"]
        for value in values:
            command += ["--set", value]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    {"run": run, "sanity": sanity, "table": table}[sys.argv[1]](*sys.argv[2:])
