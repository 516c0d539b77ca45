"""Options of `training` under masks on the small VGG: `python benchmarks/recipe.py run DATA [OPTION]...`.

DATA is the folder of CIFAR-10 in Parquet files. A cell is one method at sparsity 0.98 and one seed, trained by the
recipe of `specs/vgg_cifar_parquet.yaml` with one option changed. Options of a method share its masks through the cache.
Every finished cell is a row of `results/recipe.jsonl`; the command skips cells that have a row, so it can be stopped
and continued.

`python benchmarks/recipe.py table` prints test accuracy after the last epoch, mean ± standard deviation over seeds,
validation accuracy, and the gain over the unchanged recipe with its p value, paired by seed. `try` runs every cell
briefly on digits, without rows.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cells import entry
from records import Row, append, read, select
from runs import SPECS, THREADS, dataset, run

from autosparse.report.significance import difference, holm

SPEC, SPARSITY, SEEDS, IMAGES = SPECS / "vgg_cifar_parquet.yaml", 0.98, (0, 1, 2), 10_000
METHODS: dict[str, Any] = {
    "igq": "igq",
    "snip": "snip",
    "search": {"name": "search", "preset": "mask_search", "horizon": "50%", "allocation": "igq"},
}
"""Name in the table -> method of a spec; the search starts from the layer quotas of `igq`"""
PLAIN = "plain"
OPTIONS: dict[str, list[str]] = {
    PLAIN: [],
    "rescale 0.5": ["training.rescale=0.5"],
    "label smoothing 0.1": ["training.label_smoothing=0.1"],
    "sign_in": ["training.reparameterization=sign_in"],
}
"""Name in the table -> changes of the recipe"""


def run_cells(data: str, *options: str) -> None:
    """Run the missing cells, one at a time; several processes may share the file."""
    for seed in SEEDS:
        for method in METHODS:
            for option in options or OPTIONS:
                if any((method, option, seed) == (row["method"], row["option"], row["seed"]) for row in read("recipe")):
                    continue
                result = _cell([dataset(data)], method, option, seed)
                append("recipe", [{"network": "vgg", "method": method, "option": option, **result}])
                print(f"{method}, {option}, seed {seed}: {result['test_accuracy']:.2f}", flush=True)


def _cell(changes: list[str], method: str, option: str, seed: int, spec: Path = SPEC) -> dict[str, Any]:
    values = [
        *(f"budget={SPARSITY}", f"seeds={seed}", "compare=[]", "controls=[]", "emit=[]", f"target.threads={THREADS}"),
        *(
            "training.precision=float32",
            "training.kernels=sparse",
            f"method={json.dumps(METHODS[method])}",
            *changes,
            *OPTIONS[option],
        ),
    ]
    with tempfile.TemporaryDirectory() as folder:
        report = run(spec, Path(folder) / "run", values)
    (result,) = report["results"]
    kept = ("sparsity", "seed", "test_accuracy", "validation_accuracy", "kept", "total")
    return {name: result[name] for name in kept} | {"precision": "float32", "spec": report["spec"]}


def try_options() -> None:
    """Run every option and method briefly on digits, without rows."""
    small = ["budget=0.9", "training={epochs: 1, batch: 64}", "model={name: resnet8, width: 4}"]
    for method in METHODS:
        for option in OPTIONS:
            result = _cell(small, method, option, 0, SPECS / "digits.yaml")
            print(f"{method}, {option}: {result['test_accuracy']:.2f}", flush=True)


def print_table() -> None:
    """Print options by methods, and the gains over the unchanged recipe."""
    rows = read("recipe")
    print(f"{'':<22}" + "".join(f"{method:>28}" for method in METHODS))
    for option in OPTIONS:
        print(f"{option:<22}" + "".join(f"{entry(select(rows, method=m, option=option)):>28}" for m in METHODS))
    for gain in gains(rows):
        p = "no test" if gain.p is None else f"p {gain.p:.2g}"
        print(f"{gain.method}, {gain.option}: {gain.mean:+.2f} points, {p}")
    print("test accuracy in %, mean ± sd over seeds (number of seeds) [validation accuracy]")


@dataclass(frozen=True)
class Gain:
    """Gain of an option over the unchanged recipe, for one method, paired by seed; p by Holm's correction."""

    method: str
    option: str
    mean: float
    p: float | None
    """None below three seeds"""


def gains(rows: list[Row]) -> list[Gain]:
    """Return the gains of every option over the unchanged recipe."""
    tests: list[tuple[str, str, float, float | None]] = []
    for method in METHODS:
        seeds = {
            option: {row["seed"]: row["test_accuracy"] for row in select(rows, method=method, option=option)}
            for option in OPTIONS
        }
        for option in OPTIONS:
            if option != PLAIN and (test := difference(seeds[option], seeds[PLAIN], IMAGES)) is not None:
                tests.append((method, option, test.mean, test.p if test.seeds > 2 else None))
    adjusted = iter(holm([p for *_, p in tests if p is not None]))
    return [Gain(*test, None if p is None else next(adjusted)) for *test, p in tests]


if __name__ == "__main__":
    {"run": run_cells, "table": print_table, "try": try_options}[sys.argv[1]](*sys.argv[2:])
