"""Agreement of learned layer quotas with IRP's on other networks: `python benchmarks/quotas.py DATA`.

DATA is the folder of CIFAR-10 in Parquet files. IRP of four networks, as in specs/cifar_scorer.yaml, runs unless cached
(an hour of one core). Scorer `quota` learns from some of them; its quotas are compared with the survivors of IRP on
each other network. Agreement is the share of survivors that fit into the quotas of their layers.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ranks import PLACEMENT, run_labels
from records import append

from autosparse.core.ranking import agreement
from autosparse.core.scorers import scorers
from autosparse.steps import Context
from autosparse.steps.scorer import load_examples
from autosparse.store import Artifact

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


def main() -> None:
    """Print a line for quotas without learning, then one for each set of sources; a column for each other network."""
    labels = {name: labels_of(model, sys.argv[1]) for name, model in SOURCES.items()}
    print(f"{'learned from':<24}" + "".join(f"{name:>12}" for name in SOURCES))
    for start in ("igq", "erk"):
        show(f"nothing: {start}", {n: agreement_on(labels, ("vgg",), n, start=start, strength=0.0) for n in SOURCES})
    for sources in LEARNED_FROM:
        others = [name for name in SOURCES if name not in sources]
        show(" and ".join(sources), {name: agreement_on(labels, sources, name) for name in others})


def show(sources: str, percent: dict[str, float]) -> None:
    """Print a line of the table and record its values."""
    print(f"{sources:<24}" + "".join(f"{percent[n]:12.1f}" if n in percent else f"{'–':>12}" for n in SOURCES))
    about = {"measure": "agreement with IRP quotas", "learned_from": sources}
    append("quotas", ({**about, "network": name, "percent": round(value, 1)} for name, value in percent.items()), 1)


def labels_of(model: str, data: str) -> Artifact:
    """Return the label artifact of a network's IRP; run IRP unless it is cached."""
    (artifact,) = run_labels(
        f"dataset.path={Path(data).resolve()}", "target.threads=1", "model=lenet", "tuning.split=layers",
        f"irp.models=[{model}]", "irp.seeds=[100]",
    ).values()  # fmt: skip
    return artifact


def agreement_on(labels: dict[str, Artifact], sources: tuple[str, ...], target: str, **options: object) -> float:
    """Return the agreement in percent, on the target, of a scorer that learned from the sources."""
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
