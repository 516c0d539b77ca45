"""Networks that the scorer never saw: `python benchmarks/transfer.py run TARGET DATA [METHOD]...`.

TARGET is one of TARGETS, DATA the folder of CIFAR-10 in Parquet files. The recipe is that of the comparison
(specs/vgg_cifar_parquet.yaml). The scorers in `scorers/` learned from IRP of networks of other families at other seeds;
`python benchmarks/transfer.py scorer NAME DATA` trains one again. A cell is one method at one sparsity and seed. Every
finished cell is a row of `results/transfer.jsonl`; the command skips cells that have a row. Several of these commands
may run at once: each skips the cells that another one runs.

`python benchmarks/transfer.py table` prints the cells and the differences, paired by seed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from cells import cells, differences, mean_at, of_method, table
from filelock import FileLock, Timeout
from records import append
from runs import SPECS, THREADS, dataset, run

SCORER_FOLDER = Path(__file__).parent / "scorers"
SPEC = SPECS / "vgg_cifar_parquet.yaml"
TARGETS = {
    "vgg": ("without_vgg", ["model=vgg"]),
    "resnet20": ("without_resnet", ["model=resnet20"]),
    # The other half of the classes, so that its scorer never saw the images.
    "vgg_last_five": ("first_five", ["model=vgg", "dataset.classes=[5, 6, 7, 8, 9]", "dataset.validation=2500"]),
    # Trained three times as long; masks cost a share of the short training or of the long one.
    "vgg_long": ("without_vgg", ["model=vgg", "training.epochs=15"]),
}
"""Target -> (its scorer, its settings of the spec)."""
_RESNET = ["irp.models=[resnet20]", "irp.seeds=[100]", "tuning.split=layers"]
SCORERS = {
    "without_vgg": [*_RESNET],
    "without_resnet": ["irp.models=[vgg]", "irp.seeds=[100]", "tuning.split=layers"],
    "first_five": [*_RESNET, "dataset.classes=[0, 1, 2, 3, 4]", "dataset.validation=2500"],
    "small": ["irp.models=[resnet8, {name: mobilenet, width: 8}]", "irp.seeds=[100, 101]"],
    "mlp": [*_RESNET, "scorer=mlp", "tuning.objective=precision"],
    "hazard": [
        *_RESNET,
        "scorer={name: hazard, warm_up: 20}",
        "tuning.objective=beyond_quotas",
        "method=learned_rounds",
    ],
}
"""Scorer -> its settings of specs/cifar_scorer.yaml."""
SCORER_OF = {"learned_other": "small", "learned_other@50": "small", "mlp": "mlp", "hazard": "hazard"}
"""Method -> the scorer that it uses in place of the target's."""
EPOCHS = 5  # of one training in the comparison


def settings(method: str) -> list[str]:
    """Return the settings of a method; `@50` is a horizon in percent of one training.

    `learned` fills the layer quotas of the scorer at random; with a horizon it searches in them. `learned_other` takes
    the quotas of a scorer that learned from a ResNet-8 and a small MobileNet. `search_igq` and `search_erk` search in
    quotas that need no scorer. `igq+50` and `erk+50` fill those quotas at random and train the network 50 % longer.
    `irp@50` is IRP in five short rounds of the same total cost. `irp_quotas` fills the quotas of the network's IRP at
    random: the upper limit of any scorer of quotas. `learned:balanced` and `learned:top` fill the learned quotas evenly
    over channels or with the largest weights, `mlp` ranks all weights by a regressor, and `hazard` applies a survival
    model in 12 rounds after 20 steps of warm-up.
    """
    name, _, horizon = method.removeprefix("learned_other").partition("@")
    if method in ("mlp", "hazard"):
        return [f"method={'learned_rounds' if method == 'hazard' else 'learned'}"]
    if name.startswith("learned:"):
        return [f"method={{preset: learned, selection: {name.removeprefix('learned:')}}}"]
    if name in ("search_igq", "search_erk"):
        return [f"method={{preset: mask_search, allocation: {name.removeprefix('search_')}, horizon: {horizon}%}}"]
    if name == "irp" and horizon:
        rounds = 5
        epochs = float(horizon) / 100 * EPOCHS / rounds
        return [
            "method=irp",
            f"irp={{rounds: {rounds}, per_round: {1 - 0.02 ** (1 / rounds):.4f}, epochs: {epochs:g}}}",
        ]
    if name == "irp_quotas":
        return ["method={preset: irp, selection: shuffle}"]
    if horizon:
        return [f"method={{preset: learned, horizon: {horizon}%}}"]
    name, _, more = (name or "learned").partition("+")
    return [f"method={name}", *([f"training.epochs={EPOCHS * (1 + float(more) / 100):g}"] if more else [])]


MAIN = ["learned", "learned@50", "igq", "erk", "search_igq@50", "search_erk@50"]
_FULL = [
    *((method, sparsity, seed) for seed in range(3) for sparsity in (0.98, 0.99) for method in MAIN),
    *((method, sparsity, seed) for seed in range(3) for sparsity in (0.98, 0.99) for method in ("irp", "irp_quotas")),
    *((method, 0.98, seed) for seed in range(3) for method in ("igq+50", "erk+50", "learned@150", "learned@10")),
    *((method, 0.98, seed) for seed in range(3) for method in ("learned@5", "learned@25", "learned@100", "irp@50")),
    *((method, 0.98, seed) for seed in range(3) for method in ("igq+150", "erk+150", "search_igq@150", "irp@150")),
    *((method, sparsity, seed) for seed in range(3, 6) for sparsity in (0.98, 0.99) for method in MAIN),
    *((method, sparsity, seed) for seed in range(3) for sparsity in (0.9, 0.95) for method in MAIN[:4]),
]
_OF_VGG = [
    *(("learned@600", 0.98, seed) for seed in range(3)),  # the cost of IRP
    *((method, 0.98, seed) for seed in range(3) for method in ("learned:balanced", "learned:top", "mlp", "hazard")),
    *((method, s, seed) for seed in range(3) for s in (0.98, 0.99) for method in ("learned_other", "learned_other@50")),
]
CELLS = {
    "vgg": [*_FULL, *_OF_VGG],
    "resnet20": _FULL,
    "vgg_last_five": [(method, 0.98, seed) for seed in range(3) for method in MAIN],
    "vgg_long": [(method, 0.98, seed) for seed in range(3) for method in (*MAIN[:4], "irp", "learned@17")],
}
"""Target -> (method, sparsity, seed), the most informative first."""


def run_cells(target: str, data: str, *methods: str) -> None:
    """Run the missing cells, one at a time."""
    locks = Path(tempfile.gettempdir()) / "autosparse-transfer"
    locks.mkdir(exist_ok=True)
    for method, sparsity, seed in CELLS[target]:
        if methods and method not in methods:
            continue
        lock = FileLock(locks / f"{target}-{method}-{sparsity}-{seed}.lock")
        try:
            with lock.acquire(timeout=0):
                present = of_method([row for row in cells() if row["network"] == target], method, sparsity)
                if any(row["seed"] == seed for row in present):
                    continue
                cell = _cell(target, data, method, sparsity, seed)
                append("transfer", [{"target": target, **cell}])
                print(f"{target} {method} {sparsity} seed {seed}: {cell['test_accuracy']:.2f}", flush=True)
        except Timeout:
            continue


def scorer(name: str, data: str) -> None:
    """Train a scorer: IRP of its sources, then tuning."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        # The network that it prunes here is the smallest one; its result has no meaning.
        target = ("model=lenet", "budget=0.9", "compare=[]", "controls=[]")
        _run(SPECS / "cifar_scorer.yaml", out, data, *SCORERS[name], *target)
        shutil.copytree(out / "scorer", SCORER_FOLDER / name, dirs_exist_ok=True)


def print_tables() -> None:
    """Print methods by sparsities for every target, then the tested differences, paired by seed."""
    rows = [row for row in cells() if row["method"] in {method for method, *_ in CELLS.get(row["network"], [])}]
    for target in dict.fromkeys(row["network"] for row in rows):
        of_target = [row for row in rows if row["network"] == target]
        print(table(target, of_target, lambda name, of=of_target: -mean_at(of, name, 0.98)))  # type: ignore[misc]
        for test in differences(of_target):
            p = "no p" if test.p is None else f"p {test.p:.2g}"
            print(f"  {test.method} - {test.other} at {test.sparsity}: {test}, {p}")
    print("test accuracy in % after the last epoch, mean ± sd over seeds (number of seeds) [validation accuracy];")
    print("differences: mean ± sd over seeds, p of the paired t test, Holm's correction over all of a target")


def _cell(target: str, data: str, method: str, sparsity: float, seed: int) -> dict[str, Any]:
    name, chosen = TARGETS[target]
    name = SCORER_OF.get(method, name)
    pretrained = SCORER_FOLDER / name if name in SCORERS else name
    values = [
        *chosen,
        *(f"budget={sparsity}", f"seeds={seed}", "controls=[]", "emit=[]", "compare=[]"),
        *([f"scorer.pretrained={pretrained}"] if method.startswith("learned") or method in SCORER_OF else []),
        *settings(method),
    ]
    with tempfile.TemporaryDirectory() as folder:
        report = _run(SPEC, Path(folder) / "run", data, *values)
    (result,) = report["results"]
    names = ("sparsity", "seed", "test_accuracy", "validation_accuracy", "kept", "total")
    return {"method": method, **{name: result[name] for name in names if name in result}, "spec": report["spec"]}


def _run(spec: Path, out: Path, data: str, *values: str) -> Any:
    return run(spec, out, [dataset(data), f"target.threads={THREADS}", "training.precision=bfloat16", *values])


if __name__ == "__main__":
    {"run": run_cells, "scorer": scorer, "table": print_tables}[sys.argv[1]](*sys.argv[2:])
