"""How far learned layer quotas agree with IRP's on other networks: `python benchmarks/quotas.py DATA`.

DATA is the folder of CIFAR-10 in Parquet files. IRP of four networks, as in specs/cifar_scorer.yaml, is run where it is
not in the cache (an hour of one core); scorer `quota` learns from some of them, and its quotas are compared with what
the IRP of each other one leaves: the share of its survivors for which their own layers have room.
"""

from __future__ import annotations

import sys
from pathlib import Path

from autosparse.backends import Placement, this_machine
from autosparse.core.ranking import agreement
from autosparse.core.scorers import scorers
from autosparse.execute import Everyone, Execution
from autosparse.plan.compile import compile_plan
from autosparse.plan.status import select_steps, statuses
from autosparse.spec import load_spec, resolve
from autosparse.steps import Context
from autosparse.steps.scorer import load_examples
from autosparse.store import Artifact, Store

SPEC = Path(__file__).parent.parent / "specs" / "cifar_scorer.yaml"
SOURCES = {
    "vgg": "vgg",
    "resnet20": "resnet20",
    "resnet8": "resnet8",
    "mobilenet": "{name: mobilenet, width: 8}",
}
LEARNED_FROM = [
    ("resnet20",), ("vgg",), ("resnet8",), ("mobilenet",), ("resnet8", "mobilenet"), ("resnet20", "mobilenet"),
    ("resnet8", "resnet20"), ("vgg", "resnet20"),
]  # fmt: skip
PLACEMENT = Placement("cpu", 1)


def main() -> None:
    """A line for quotas that take no learning, then one for each set of sources; a column for each other network."""
    labels = {name: made(model, sys.argv[1]) for name, model in SOURCES.items()}
    print(f"{'learned from':<24}" + "".join(f"{name:>12}" for name in SOURCES))
    for start in ("igq", "erk"):
        row = [agrees(labels, ("vgg",), name, start=start, strength=0.0) for name in SOURCES]
        print(f"{'nothing: ' + start:<24}" + "".join(f"{value:12.1f}" for value in row))
    for sources in LEARNED_FROM:
        told = (f"{agrees(labels, sources, name):.1f}" if name not in sources else "–" for name in SOURCES)
        print(f"{' and '.join(sources):<24}" + "".join(f"{value:>12}" for value in told))


def made(model: str, data: str) -> Artifact:
    """The label artifact of a network's IRP, made if it is not there."""
    values = [
        *(f"dataset.path={Path(data).resolve()}", "target.threads=1", "model=lenet", "tuning.split=layers"),
        *(f"irp.models=[{model}]", "irp.seeds=[100]"),
    ]
    plan = compile_plan(resolve(load_spec(SPEC, overrides=values).spec, this_machine()), "quotas")
    store = Store.default()
    selection = select_steps(plan, statuses(plan, store), only=["label/*"])
    Execution(plan, store, Everyone(), placement=PLACEMENT, selection=selection).run()
    (step,) = plan.of("label")
    return store.open(step.operation, step.key)


def agrees(labels: dict[str, Artifact], sources: tuple[str, ...], target: str, **options: object) -> float:
    """Agreement on the target, in %, of a scorer with its default pull that learned from the sources."""
    entry = scorers["quota"]
    learned = [
        load_examples(Context({f"label.{n}": labels[n] for n in names}, None, PLACEMENT, {}))
        for names in (sources, (target,))
    ]  # type: ignore[arg-type]
    (features, shares), (other, survival) = learned
    state = entry.function(features, shares, None, **options)
    scores = entry.facts["predict"](state, other)
    return 100 * agreement(scores, survival, list(survival), other.sizes)[2]


if __name__ == "__main__":
    main()
