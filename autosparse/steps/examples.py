"""The examples of all IRP sources together, for tuning and for fitting the scorer."""

from __future__ import annotations

from autosparse.core.features import Features
from autosparse.core.scorers import scorers
from autosparse.core.weights import Tensors
from autosparse.errors import StepError
from autosparse.steps.work import Work


def check_rounds(work: Work, scorer: str) -> None:
    """Whether the rounds of every source leave few enough weights for a scorer. Raises StepError."""
    below = scorers[scorer].facts.get("learns_below", 1.0)
    for source, artifact in work.roles("label").items():
        survivors = artifact.json("result")["survivors"]
        if (left := survivors[-1] / sum(survivors)) > below:
            raise StepError(
                f"the rounds of source {source} in which its network learned leave {left:.0%} of the weights, but "
                f"scorer `{scorer}` learns from rounds that leave {below:.0%} or less",
                "train them longer (`irp.epochs`), or prune less in a round (`irp.per_round`)",
            )


def load_examples(work: Work) -> tuple[Features, Tensors]:
    """Features and targets of the inputs `label.*`, on the device, layers named `source:layer`.

    Targets are survival shares; where rounds were described one by one they are 1 for what survives the round, and
    its layers are named `source@round:layer`, but for those of which nothing is left.
    """
    values: Tensors = {}
    shares: Tensors = {}
    sizes: dict[str, int] = {}
    columns: tuple[str, ...] = ()
    for source, artifact in work.roles("label").items():
        about = artifact.json("result")
        columns = tuple(about["columns"])
        tensors, labels = artifact.tensors("examples"), artifact.tensors("labels")
        whole = {"left": [labels[layer].numel() for layer in about["layers"]]}
        for described in about.get("rounds", [whole]):
            at, prefix = (f"@{n}", f"{n}|") if (n := described.get("number")) else ("", "")
            for layer, size in zip(about["layers"], described["left"], strict=True):
                if size:
                    name = f"{source}{at}:{layer}"
                    values[name] = tensors[f"{prefix}{layer}|features"].to(work.device)
                    shares[name] = tensors[f"{prefix}{layer}|share"].to(work.device)
                    sizes[name] = size
    return Features(columns, values, sizes), shares
