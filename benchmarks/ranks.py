"""How well scorers rank weights of layers that they did not learn from: `python benchmarks/ranks.py DATA`.

DATA is the folder of CIFAR-10 in Parquet files. IRP of ResNet-20 and of the small VGG, as in specs/cifar_scorer.yaml,
is run where it is not in the cache (an hour of one core). Every scorer learns with its defaults, from four fifths of
the layers or from one of the networks, and ranks the weights of the others by how many rounds they will survive:
Spearman's correlation with the label over all that is held out, and its mean inside single layers. That of the paper
takes most of the time, half an hour.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from autosparse.backends import Placement, this_machine
from autosparse.core.features import Features
from autosparse.core.ranking import HeldOut, Split, cross_validate
from autosparse.core.scorers import scorers
from autosparse.core.weights import Tensors
from autosparse.execute import Everyone, Execution
from autosparse.plan.compile import compile_plan
from autosparse.plan.status import select_steps, statuses
from autosparse.spec import load_spec, resolve
from autosparse.steps import Context
from autosparse.steps.scorer import load_examples
from autosparse.store import Store

SPEC = Path(__file__).parent.parent / "specs" / "cifar_scorer.yaml"
SCORERS = ("quota", "mlp", "paper")
HELD_OUT: dict[str, tuple[str, Split]] = {
    "layers of resnet20": ("resnet20", "layers"),
    "layers of vgg": ("vgg", "layers"),
    "one of the networks": ("resnet20, vgg", "networks"),
}
PLACEMENT = Placement("cpu", 1)


def main() -> None:
    """A line for each scorer: overall and, in brackets, inside layers."""
    print(f"{'held out':<10}" + "".join(f"{name:>22}" for name in HELD_OUT))
    for scorer in SCORERS:
        print(f"{scorer:<10}", end="")
        for sources, split in HELD_OUT.values():
            found = ranks(scorer, sources, split)
            print(f"{f'{found.overall:.3f} ({found.within:.3f})':>22}", end="", flush=True)
        print()


def ranks(scorer: str, sources: str, split: Split) -> HeldOut:
    """What is measured on held-out weights, mean over folds."""
    features, shares = examples(scorer, sources)
    entry = scorers[scorer]

    def learn(features: Features, shares: Tensors) -> Tensors:
        found: Tensors = entry.function(features, shares, torch.Generator().manual_seed(0))
        return found

    return cross_validate(learn, entry.facts["predict"], features, shares, 5, split)


def examples(scorer: str, sources: str) -> tuple[Features, Tensors]:
    """The features that a scorer looks at, and the shares of rounds survived, of networks at seed 100."""
    settings = [
        *(f"dataset.path={Path(sys.argv[1]).resolve()}", "target.threads=1", "training.precision=bfloat16"),
        *("model=lenet", f"irp.models=[{sources}]", "irp.seeds=[100]", "tuning.split=layers", f"scorer={scorer}"),
    ]
    plan = compile_plan(resolve(load_spec(SPEC, overrides=settings).spec, this_machine()), "ranks")
    store = Store.default()
    Execution(
        plan,
        store,
        Everyone(),
        placement=PLACEMENT,
        selection=select_steps(plan, statuses(plan, store), only=["label/*"]),
    ).run()
    made = {role: plan.steps[name] for role, name in plan.steps["scorer"].inputs.items() if role.startswith("label.")}
    labels = {role: store.open(step.operation, step.key) for role, step in made.items()}
    return load_examples(Context(labels, None, PLACEMENT, {}))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
