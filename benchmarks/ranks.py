"""Rank correlation of scorers on held-out layers and networks: `python benchmarks/ranks.py DATA`.

DATA is the folder of CIFAR-10 in Parquet files. IRP of ResNet-20 and of the small VGG, as in specs/cifar_scorer.yaml,
runs unless cached (an hour of one core). Every scorer learns with its defaults, from four fifths of the layers or from
one of the networks, and ranks the held-out weights by the number of rounds that they survive: Spearman's correlation
with the label over all held-out weights, and its mean within single layers. The paper's scorer takes most of the time,
half an hour.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from records import append

from autosparse.backends import Placement, this_machine
from autosparse.core.features import Features
from autosparse.core.ranking import HeldOut, Split, cross_validate
from autosparse.core.scorers import scorers
from autosparse.core.weights import Tensors
from autosparse.execute import Everyone, Execution
from autosparse.planning.compile import compile_plan
from autosparse.planning.status import select_steps, statuses
from autosparse.spec import load_spec, resolve
from autosparse.steps import Context
from autosparse.steps.scorer import load_examples
from autosparse.store import Artifact, Store

SPEC = Path(__file__).parent.parent / "specs" / "cifar_scorer.yaml"
SCORERS = ("quota", "mlp", "paper")
HELD_OUT: dict[str, tuple[str, Split]] = {
    "layers of resnet20": ("resnet20", "layers"),
    "layers of vgg": ("vgg", "layers"),
    "one of the networks": ("resnet20, vgg", "networks"),
}
PLACEMENT, FOLDS = Placement("cpu", 1), 5


def main() -> None:
    """Print a line for each scorer: overall and, in brackets, within layers."""
    print(f"{'held out':<10}" + "".join(f"{name:>22}" for name in HELD_OUT))
    for scorer in SCORERS:
        print(f"{scorer:<10}", end="")
        for held_out, (sources, split) in HELD_OUT.items():
            measured = ranks(scorer, sources, split)
            overall, within = round(float(measured.overall), 4), round(float(measured.within), 4)
            print(f"{f'{overall:.3f} ({within:.3f})':>22}", end="", flush=True)
            append("ranks", [{
                "measure": "Spearman correlation with rounds survived", "scorer": scorer, "held_out": held_out,
                "folds": folds(sources, split), "overall": overall, "within_layers": within,
            }], threads=1)  # fmt: skip
        print()


def ranks(scorer: str, sources: str, split: Split) -> HeldOut:
    """Return the correlations on held-out weights, mean over folds."""
    features, shares = examples(scorer, sources)
    entry = scorers[scorer]

    def learn(features: Features, shares: Tensors) -> Tensors:
        state: Tensors = entry.function(features, shares, torch.Generator().manual_seed(0))
        return state

    return cross_validate(learn, entry.facts["predict"], features, shares, folds(sources, split), split)


def folds(sources: str, split: Split) -> int:
    """Return the number of folds: one network each where networks are held out."""
    return min(FOLDS, len(sources.split(","))) if split == "networks" else FOLDS


def examples(scorer: str, sources: str) -> tuple[Features, Tensors]:
    """Return the features of a scorer and the shares of rounds survived, of networks at seed 100."""
    labels = run_labels(
        f"dataset.path={Path(sys.argv[1]).resolve()}", "target.threads=1", "training.precision=bfloat16",
        "model=lenet", f"irp.models=[{sources}]", "irp.seeds=[100]", "tuning.split=layers", f"scorer={scorer}",
    )  # fmt: skip
    return load_examples(Context(labels, None, PLACEMENT, {}))  # type: ignore[arg-type]


def run_labels(*settings: str) -> dict[str, Artifact]:
    """Return the label artifacts that the scorer of a spec reads, by role; run what the cache lacks."""
    plan = compile_plan(resolve(load_spec(SPEC, overrides=settings).spec, this_machine()), "labels")
    store = Store.default()
    selection = select_steps(plan, statuses(plan, store), only=["label/*"])
    Execution(plan, store, Everyone(), placement=PLACEMENT, selection=selection).run()
    roles = {role: plan.steps[name] for role, name in plan.steps["scorer"].inputs.items() if role.startswith("label.")}
    return {role: store.open(step.operation, step.key) for role, step in roles.items()}


if __name__ == "__main__":
    main()
