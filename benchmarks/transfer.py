"""Networks that the scorer never saw: `python benchmarks/transfer.py run TARGET DATA [METHOD]...`.

TARGET is one of TARGETS, DATA the folder of CIFAR-10 in Parquet files; the recipe is that of the comparison
(specs/vgg_cifar_parquet.yaml). The scorers learned from IRP of networks of other families at other seeds: those in
`scorers/`, and what `python benchmarks/transfer.py scorer NAME DATA` makes, or makes again, there. A cell is one method
at one sparsity and seed; every finished one is a line of `transfer.jsonl`, and those that are there are skipped.
Several of these commands may run side by side: a cell that one has begun is left alone by the others.
`python benchmarks/transfer.py table` prints what is there, and the differences paired by seed.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from comparison import entry
from filelock import FileLock, Timeout
from scipy.stats import ttest_1samp

from autosparse.report.compare import holm

HERE = Path(__file__).parent
RESULTS = HERE / "transfer.jsonl"
COMPARISON = HERE / "comparison.jsonl"
SPECS = HERE.parent / "specs"
SPEC = SPECS / "vgg_cifar_parquet.yaml"
TARGETS = {
    "vgg": ("without_vgg", ["model=vgg"]),
    "resnet20": ("without_resnet", ["model=resnet20"]),
    # The other half of the classes: its scorer never saw the images either.
    "vgg_last_five": ("first_five", ["model=vgg", "dataset.classes=[5, 6, 7, 8, 9]", "dataset.validation=2500"]),
    # Trained three times as long, after the masks of the short training or of its own.
    "vgg_long": ("without_vgg", ["model=vgg", "training.epochs=15"]),
}
"""Target -> (its scorer, what it sets in the spec)."""
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
"""Scorer -> what it sets in specs/cifar_scorer.yaml."""
OWN = {"learned_other": "small", "learned_other@50": "small", "mlp": "mlp", "hazard": "hazard"}
"""Method -> its own scorer."""
EPOCHS = 5  # of one training in the comparison


def settings(method: str) -> list[str]:
    """What a method sets in the spec. `@50` is a horizon in percent of one training.

    `learned` has the layer quotas that the scorer learned, at a horizon of 0 filled at random, and `learned_other`
    those of a scorer that learned from a ResNet-8 and a small MobileNet; `search_igq` and `search_erk` are the same
    search in quotas that need no scorer; `igq+50` and `erk+50` those quotas filled at random with as many more steps in
    the network's own training; `irp@50` is plain IRP in short rounds that take as long, `irp_quotas` the network's own
    IRP quotas filled at random, which no scorer can know better. What else was tried: `learned:balanced` and
    `learned:top` fill the learned quotas evenly over channels or with the largest weights, `mlp` ranks all weights by a
    regressor, `hazard` asks a survival model after 20 steps of warm-up in 12 rounds.
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
    *(("learned@600", 0.98, seed) for seed in range(3)),  # as much as IRP takes
    *((method, 0.98, seed) for seed in range(3) for method in ("learned:balanced", "learned:top", "mlp", "hazard")),
    *((method, s, seed) for seed in range(3) for s in (0.98, 0.99) for method in ("learned_other", "learned_other@50")),
]
CELLS = {
    "vgg": [*_FULL, *_OF_VGG],
    "resnet20": _FULL,
    "vgg_last_five": [(method, 0.98, seed) for seed in range(3) for method in MAIN],
    "vgg_long": [(method, 0.98, seed) for seed in range(3) for method in (*MAIN[:4], "irp", "learned@17")],
}
"""Target -> (method, sparsity, seed), the most telling first."""


def run(target: str, data: str, *methods: str) -> None:
    """Run the cells that are not there yet, one at a time."""
    locks = Path(tempfile.gettempdir()) / "autosparse-transfer"
    locks.mkdir(exist_ok=True)
    for cell in CELLS[target]:
        method, sparsity, seed = cell
        if methods and method not in methods:
            continue
        lock = FileLock(locks / f"{target}-{method}-{sparsity}-{seed}.lock")
        try:
            with lock.acquire(timeout=0):
                if any(_is(line, target, cell) for line in lines()):
                    continue
                found = _cell(target, data, method, sparsity, seed)
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"target": target, **found}) + "\n")
                print(f"{target} {method} {sparsity} seed {seed}: {found['test_accuracy']:.2f}", flush=True)
        except Timeout:
            continue


def scorer(name: str, data: str) -> None:
    """Make a scorer again: IRP of its sources, and what trials choose."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        # What is pruned with it here is the smallest network, and says nothing.
        _run(
            SPECS / "cifar_scorer.yaml",
            out,
            data,
            *SCORERS[name],
            "model=lenet",
            "budget=0.9",
            "compare=[]",
            "controls=[]",
        )
        shutil.copytree(out / "scorer", HERE / "scorers" / name, dirs_exist_ok=True)


def table() -> None:
    """Print methods by sparsities for each target, then the differences that are claimed, paired by seed."""
    for target in dict.fromkeys(line["target"] for line in lines()):
        own = [line for line in lines() if line["target"] == target]
        sparsities = sorted({line["sparsity"] for line in own})
        print(f"{target:<18}" + "".join(f"{sparsity:>24}" for sparsity in sparsities))
        for method in sorted({line["method"] for line in own}, key=lambda name: -_best(own, name)):
            row = [entry([c for c in own if (c["method"], c["sparsity"]) == (method, s)]) for s in sparsities]
            print(f"  {method:<16}" + "".join(f"{told:>24}" for told in row))
        claims = [*_claims(own)]
        adjusted = iter(holm([p for *_, p in claims if p == p]))
        for better, worse, sparsity, gains, p in claims:
            spread = f" ± {statistics.stdev(gains):.2f}" if len(gains) > 1 else ""
            told = f"p {next(adjusted):.2g}" if p == p else "no p"
            print(f"  {better} - {worse} at {sparsity}: {statistics.fmean(gains):+.2f}{spread} ({len(gains)}), {told}")
    print("test accuracy after the last epoch, mean ± sd over seeds (their number), validation accuracy in brackets;")
    print("differences: mean ± sd of those at each seed, p of the paired t test, all of a target by Holm's correction")


def _claims(own: list[dict[str, Any]]) -> Iterator[tuple[str, str, float, list[float], float]]:
    pairs = [
        *(("learned", than) for than in ("igq", "erk")),
        *(
            ("learned@50", other)
            for other in ("igq+50", "erk+50", "search_igq@50", "search_erk@50", "learned", "irp@50")
        ),
        *(("learned@150", than) for than in ("igq+150", "erk+150", "search_igq@150", "irp@150", "irp")),
        ("learned@600", "irp"),
        *(("learned", than) for than in ("irp_quotas", "learned_other")),
        ("learned@50", "learned_other@50"),
        *(("learned@17", than) for than in ("learned@50", "igq", "erk", "irp")),
    ]
    accuracy = {(c["method"], c["sparsity"], c["seed"]): c["test_accuracy"] for c in own}
    for sparsity in sorted({line["sparsity"] for line in own}):
        for better, worse in pairs:
            seeds = [s for m, at, s in accuracy if (m, at) == (better, sparsity) and (worse, at, s) in accuracy]
            gains = [accuracy[better, sparsity, seed] - accuracy[worse, sparsity, seed] for seed in sorted(seeds)]
            if gains:
                known = len(gains) > 2 and len(set(gains)) > 1
                p = ttest_1samp(gains, 0.0).pvalue if known else float("nan")
                yield better, worse, sparsity, gains, float(p)


def _best(own: list[dict[str, Any]], method: str) -> float:
    found = [line["test_accuracy"] for line in own if line["method"] == method and line["sparsity"] == 0.98]
    return statistics.fmean(found) if found else 0.0


def lines() -> list[dict[str, Any]]:
    """The cells that are there, and of the comparison those of the same methods: one recipe, the same networks."""
    own = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()] if RESULTS.exists() else []
    shared = [json.loads(line) for line in COMPARISON.read_text(encoding="utf-8").splitlines()]
    seen = {(line["target"], line["method"], line["sparsity"], line["seed"]) for line in own}
    for line in shared:
        line["target"] = line.pop("network")
        cell = (line["method"], line["sparsity"], line["seed"])
        if (line["target"], *cell) not in seen and line["method"] in {method for method, *_ in CELLS[line["target"]]}:
            own.append(line)
    return own


def _is(line: dict[str, Any], target: str, cell: tuple[str, float, int]) -> bool:
    return line["target"] == target and (line["method"], line["sparsity"], line["seed"]) == cell


def _cell(target: str, data: str, method: str, sparsity: float, seed: int) -> dict[str, Any]:
    name, chosen = TARGETS[target]
    name = OWN.get(method, name)
    place = HERE / "scorers" / name if name in SCORERS else name
    values = [
        *chosen,
        *(f"budget={sparsity}", f"seeds={seed}", "controls=[]", "emit=[]", "compare=[]"),
        *([f"scorer.pretrained={place}"] if method.startswith("learned") or method in OWN else []),
        *settings(method),
    ]
    with tempfile.TemporaryDirectory() as folder:
        report = _run(SPEC, Path(folder) / "run", data, *values)
    (found,) = report["results"]
    kept = ("sparsity", "seed", "test_accuracy", "validation_accuracy", "kept", "total")
    return {"method": method, **{name: found[name] for name in kept if name in found}, "spec": report["spec"]}


def _run(spec: Path, out: Path, data: str, *values: str) -> Any:
    command = [sys.executable, "-m", "autosparse", "run", str(spec), "--json", "--quiet", "--out", str(out)]
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    shared = (f"dataset.path={Path(data).resolve()}", f"target.threads={threads}", "training.precision=bfloat16")
    for value in (*shared, *values):
        command += ["--set", value]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    {"run": run, "scorer": scorer, "table": table}[sys.argv[1]](*sys.argv[2:])
