"""The examples of all IRP sources together, for tuning and for fitting the scorer."""

from __future__ import annotations

from autosparse.core.features import Features
from autosparse.core.weights import Tensors
from autosparse.steps.work import Work


def load_examples(work: Work) -> tuple[Features, Tensors]:
    """Features and survival shares of the inputs `label.*`, on the device, layers named `source:layer`."""
    values: Tensors = {}
    shares: Tensors = {}
    sizes: dict[str, int] = {}
    columns: tuple[str, ...] = ()
    for source, artifact in work.roles("label").items():
        about = artifact.json("result")
        columns = tuple(about["columns"])
        tensors, labels = artifact.tensors("examples"), artifact.tensors("labels")
        for layer in about["layers"]:
            values[f"{source}:{layer}"] = tensors[f"{layer}|features"].to(work.device)
            shares[f"{source}:{layer}"] = tensors[f"{layer}|share"].to(work.device)
            sizes[f"{source}:{layer}"] = labels[layer].numel()
    return Features(columns, values, sizes), shares
